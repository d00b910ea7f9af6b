// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// A key of the store and what it holds (etcd api/mvccpb/kv.proto, KeyValue).
public struct KeyValue: Sendable, Equatable {
    public var key: Bytes = []
    public var value: Bytes = []
    /// Whether the value has any bytes; known also where values are not kept.
    public var hasValue = false
    public var createRevision: Int64 = 0
    public var modRevision: Int64 = 0
    public var version: Int64 = 0
    /// 0: permanent.
    public var lease: Int64 = 0

    public init() {}
}
