// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import MetadataCore

/// FNV-1a. Two runs with the same digest did the same things.
struct Digest {
    private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    mutating func mix(_ number: UInt64) {
        value = (value ^ number) &* 0x100_0000_01b3
    }

    mutating func mix(_ bytes: Bytes) {
        for byte in bytes { mix(UInt64(byte)) }
        mix(UInt64(bytes.count))
    }

    mutating func mix(_ action: Action) {
        switch action {
        case .connect(let id, let endpoint, let address):
            mix(1 << 32 | UInt64(endpoint))
            mix(id)
            mix(address)
        case .disconnect(let id):
            mix(2 << 32)
            mix(id)
        case .call(let call, let id, let method, let frame, let token):
            mix(3 << 32)
            mix(call)
            mix(id)
            mix(Bytes(method.path))
            mix(frame)
            mix(token)
        case .abandonCall(let call):
            mix(4 << 32)
            mix(call)
        case .openStream(let stream, let id, let method, let token):
            mix(5 << 32)
            mix(stream)
            mix(id)
            mix(Bytes(method.path))
            mix(token)
        case .send(let stream, let frame):
            mix(6 << 32)
            mix(stream)
            mix(frame)
        case .closeStream(let stream):
            mix(7 << 32)
            mix(stream)
        case .resolve(let endpoint): mix(8 << 32 | UInt64(endpoint))
        case .probe(let id): mix(10 << 32 | id)
        case .examine(let id): mix(11 << 32 | id)
        case .log: break  // The words of a log are no behaviour.
        }
    }

    mutating func mix(_ notice: Notice) {
        mix(Bytes("\(notice)".utf8))
    }
}
