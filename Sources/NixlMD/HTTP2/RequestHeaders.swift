// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNghttp2
import CNixlMD
import EtcdProtocol

/// The header fields of every request to one server (gRPC over HTTP2, "Requests").
final class RequestHeaders {
    private let authority: Bytes
    private let isTLS: Bool

    init(authority: Bytes, isTLS: Bool) {
        self.authority = authority
        self.isTLS = isTLS
    }

    /// `hasleader` is etcd's rpctypes.MetadataRequireLeaderKey: a member that has lost its leader answers instead of
    /// staying silent.
    func with<Result>(
        method: EtcdMethod, token: Bytes, _ body: (UnsafeBufferPointer<cnghttp2_header>) -> Result
    ) -> Result {
        authority.withUnsafeBytes { authority in
            Self.userAgent.withUnsafeBytes { userAgent in
                token.withUnsafeBytes { token in
                    let fields: InlineArray<9, cnghttp2_header> = [
                        Self.field(":method", Self.bytes("POST")),
                        Self.field(":scheme", Self.bytes(isTLS ? "https" : "http")),
                        Self.field(":path", Self.bytes(method.path)),
                        Self.field(":authority", authority),
                        Self.field("te", Self.bytes("trailers")),
                        Self.field("content-type", Self.bytes("application/grpc")),
                        Self.field("user-agent", userAgent),
                        Self.field("hasleader", Self.bytes("true")),
                        Self.field("token", token, isSecret: true),
                    ]
                    let count = token.isEmpty ? 8 : 9
                    return fields.span.withUnsafeBufferPointer {
                        body(UnsafeBufferPointer(rebasing: $0[0..<count]))
                    }
                }
            }
        }
    }

    /// The server chose the token; what is no header value cannot be sent.
    static func isHeaderValue(_ token: Bytes) -> Bool {
        for byte in token where byte <= 0x20 || byte >= 0x7f { return false }
        return true
    }

    private static let userAgent = Text(
        "nixl_md/\(NIXL_MD_VERSION_MAJOR).\(NIXL_MD_VERSION_MINOR).\(NIXL_MD_VERSION_PATCH)"
    ).bytes

    private static func bytes(_ literal: StaticString) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: literal.utf8Start, count: literal.utf8CodeUnitCount)
    }

    private static func field(
        _ name: StaticString, _ value: UnsafeRawBufferPointer, isSecret: Bool = false
    ) -> cnghttp2_header {
        cnghttp2_header(
            name: name.utf8Start, name_length: name.utf8CodeUnitCount,
            value: value.assumingMemoryBound(to: UInt8.self).baseAddress,
            value_length: value.count, is_secret: isSecret)
    }
}
