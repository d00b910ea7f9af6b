// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

/// A message that etcd may send, as its fields' bytes.
struct Sample: Sendable, CustomTestStringConvertible {
    let answer: Answer
    let fields: [Bytes]

    init(_ answer: Answer, _ text: String) {
        self.answer = answer
        fields = text.split(separator: " ").map { hex(String($0)) }
    }

    var bytes: Bytes { fields.flatMap { $0 } }
    var testDescription: String { "\(answer)" }

    /// Where a message can end without being cut inside a field.
    var boundaries: Set<Int> {
        var offset = 0
        return Set(
            [0]
                + fields.map { field in
                    offset += field.count
                    return offset
                })
    }

    static let header = "0a1b08b298eaf1948386fccd0110cdd2918bd2b881cf8e011892212003"

    /// With all fields of each message, those that are skipped too: protobuf's Python runtime (7.36.2), from
    /// etcd's api/etcdserverpb/rpc.proto.
    static let all = [
        Sample(
            .range,
            """
            \(header) 121b0a016b100218922120052a0576616c756530b4a4b4deb9f7dea669 \
            122b108080808080808080800118ffffffffffffffff7f20ffffffffffffffffff0130ffffffffffffffffff01 \
            1801 20ac02
            """),
        Sample(
            .txn,
            """
            \(header) 1001 \
            1a210a1f121b0a016b100218922120052a0576616c756530b4a4b4deb9f7dea6692001 \
            1a1f121d121b0a016b100218922120052a0576616c756530b4a4b4deb9f7dea669 \
            1a3e1a3c0a1b08b298eaf1948386fccd0110cdd2918bd2b881cf8e01189221200310031a1b0a016b\
            100218922120052a0576616c756530b4a4b4deb9f7dea669 1a0422021001 1a021200
            """),
        Sample(.leaseGrant, "\(header) 10b4a4b4deb9f7dea669 180a 22026e6f"),
        Sample(.leaseRevoke, header),
        Sample(.leaseKeepAlive, "\(header) 1005 180a"),
        Sample(.leaseTimeToLive, "\(header) 1005 18ffffffffffffffffff01 200a 2a0161 2a0162"),
        Sample(.authenticate, "\(header) 1206746f6b2e3137"),
        Sample(
            .watch,
            """
            \(header) 10ac02 1801 2001 2863 3209636f6d706163746564 3801 \
            5a1d121b0a016b100218922120052a0576616c756530b4a4b4deb9f7dea669 \
            5a27080112060a016b1893211a1b0a016b100218922120052a0576616c756530b4a4b4deb9f7dea669
            """),
    ]
}

/// Every message that is decoded.
enum Answer: CaseIterable, Sendable {
    case range, txn, leaseGrant, leaseRevoke, leaseKeepAlive, leaseTimeToLive, authenticate, watch

    /// Decodes; how many bytes of keys, values and texts came out.
    func decode(_ bytes: Bytes) throws(WireError) -> Int {
        switch self {
        case .range: try Self.size(of: RangeResponse.decode(bytes))
        case .txn: try Self.size(of: TxnResponse.decode(bytes))
        case .leaseGrant: try LeaseGrantResponse.decode(bytes).error.count
        case .leaseRevoke: try LeaseRevokeResponse.decode(bytes).header.revision == 0 ? 0 : 1
        case .leaseKeepAlive: try LeaseKeepAliveResponse.decode(bytes).ttl == 0 ? 0 : 1
        case .leaseTimeToLive: try LeaseTimeToLiveResponse.decode(bytes).ttl == 0 ? 0 : 1
        case .authenticate: try AuthenticateResponse.decode(bytes).token.count
        case .watch: try Self.size(of: WatchResponse.decode(bytes, keepValues: true))
        }
    }

    private static func size(of response: RangeResponse) -> Int {
        response.kvs.reduce(0) { $0 + $1.key.count + $1.value.count }
    }

    private static func size(of response: TxnResponse) -> Int {
        response.responses.reduce(0) {
            guard case .range(let range) = $1 else { return $0 }
            return $0 + size(of: range)
        }
    }

    private static func size(of response: WatchResponse) -> Int {
        response.events.reduce(response.cancelReason.count) {
            $0 + $1.kv.key.count + $1.kv.value.count
        }
    }
}
