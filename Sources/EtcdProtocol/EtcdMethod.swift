// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// The methods of etcd's gRPC services that are used here (etcd api/etcdserverpb/rpc.proto).
public enum EtcdMethod: Sendable, Equatable {
    case range, txn, leaseGrant, leaseRevoke, leaseTimeToLive, authenticate
    case watch, leaseKeepAlive

    /// The HTTP/2 :path (gRPC over HTTP2, "Path").
    public var path: StaticString {
        switch self {
        case .range: "/etcdserverpb.KV/Range"
        case .txn: "/etcdserverpb.KV/Txn"
        case .leaseGrant: "/etcdserverpb.Lease/LeaseGrant"
        case .leaseRevoke: "/etcdserverpb.Lease/LeaseRevoke"
        case .leaseTimeToLive: "/etcdserverpb.Lease/LeaseTimeToLive"
        case .authenticate: "/etcdserverpb.Auth/Authenticate"
        case .watch: "/etcdserverpb.Watch/Watch"
        case .leaseKeepAlive: "/etcdserverpb.Lease/LeaseKeepAlive"
        }
    }
}
