// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

@testable import EtcdProtocol

// The answers as a server writes them.

extension WireWriter {
    static func message(_ body: (inout WireWriter) -> Void) -> Bytes {
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 32 << 20, alignment: 1)
        defer { room.deallocate() }
        var writer = WireWriter(room)
        body(&writer)
        return Bytes(copying: UnsafeRawBufferPointer(rebasing: room[..<writer.count]))
    }

    mutating func embedded(_ field: UInt64, _ bytes: Bytes) {
        self.bytes(field, bytes)
    }

    mutating func header(cluster: UInt64, revision: Int64) {
        embedded(
            1,
            WireWriter.message {
                $0.int64(1, Int64(bitPattern: cluster))
                $0.int64(3, revision)
            })
    }
}

extension KeyValue {
    func encoded(withValue: Bool = true, withLease: Bool = true) -> Bytes {
        WireWriter.message {
            $0.bytes(1, key)
            $0.int64(2, createRevision)
            $0.int64(3, modRevision)
            $0.int64(4, version)
            if withValue { $0.bytes(5, value) }
            if withLease { $0.int64(6, lease) }
        }
    }
}

extension RangePage {
    static func encoded(_ kvs: [KeyValue], more: Bool, revision: Int64) -> Bytes {
        WireWriter.message {
            $0.header(cluster: 1, revision: revision)
            for kv in kvs { $0.embedded(2, kv.encoded()) }
            $0.bool(3, more)
        }
    }
}
