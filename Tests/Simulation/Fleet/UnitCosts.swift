// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol

/// CPU time that etcd spends, in microseconds. Measured by Benchmarks/etcd_costs.py; docs/scale.md has the table.
struct UnitCosts {
    enum Security: CaseIterable { case none, ecdsa, rsa }

    /// Accepting a connection, up to the SETTINGS of the server.
    static func connection(_ security: Security) -> Double {
        switch security {
        case .none: 162
        case .ecdsa: 1201
        case .rsa: 2831
        }
    }
    static let hello = 69.0
    /// The acknowledgement of a SETTINGS frame.
    static let settings = 27.0
    static let authenticate = 59_000.0
    static let renewal = 30.0
    static let grant = 200.0
    static let transaction = 130.0
    static let kilobyteWritten = 9.0
    static let watch = 85.0
    static let cancellation = 20.0
    static let keyListed = 1.8
    static let event = 22.0
    static let kilobyteSent = 2.0
    /// The end of a connection.
    static let goodbye = 30.0

    static func request(_ method: EtcdMethod, frame: [UInt8], store: Store) -> Double {
        switch method {
        case .range:
            hello + keyListed * Double(keysListed(frame, of: store))
        case .txn: transaction + kilobyteWritten * Double(frame.count) / 1024
        case .leaseGrant, .leaseRevoke: grant
        case .leaseTimeToLive: hello
        case .authenticate: authenticate
        case .watch: watch
        case .leaseKeepAlive: renewal
        }
    }

    static func event(bytes: Int) -> Double { event + kilobyteSent * Double(bytes) / 1024 }
}
