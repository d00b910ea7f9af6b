// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// The namespace with, or without, its last "/". NIXL's built-in namespace ends in one and that of its README does
/// not: agents started the two ways never meet, and nothing but the log can tell the user.
final class OtherSpelling {
    let namespace: Bytes
    private let keyspace: Keyspace
    /// Where its keys are and ours are not, as key and range end.
    let ranges: [(key: Bytes, end: Bytes)]
    /// Look after the first connection and after a fetch that found nothing; warn once.
    var isWanted = true
    var callsInFlight = 0

    /// nil for "/": anybody's keys begin with it.
    init?(of ours: Bytes) {
        let root = Keyspace(namespace: ours).root
        if ours.last == UInt8(ascii: "/") {
            namespace = Bytes(ours.dropLast())
            guard !namespace.isEmpty else { return nil }
            keyspace = Keyspace(namespace: namespace)
            // Our own keys lie within its range.
            ranges = [
                (keyspace.root, root), (Keyspace.end(of: root), Keyspace.end(of: keyspace.root)),
            ]
        } else {
            namespace = ours + [UInt8(ascii: "/")]
            keyspace = Keyspace(namespace: namespace)
            ranges = [(keyspace.root, Keyspace.end(of: keyspace.root))]
        }
    }

    /// The agent of a presence key. Other keys prove nothing: another namespace may lie below this one.
    func agent(of key: Bytes) -> Bytes? {
        guard let (agent, label) = keyspace.parse(key), label.isEmpty else { return nil }
        return agent
    }
}

extension MetadataCore {
    /// Looks for agents under the other spelling of the namespace. Last of all requests, and never where the log would
    /// not tell of it.
    func driveOtherSpelling() {
        guard let spelling = otherSpelling, spelling.isWanted, spelling.callsInFlight == 0,
            drain.isOpen, hasFreeCall
        else { return }
        otherSpelling?.isWanted = false
        otherSpelling?.callsInFlight = spelling.ranges.count
        for range in spelling.ranges {
            send(
                .range(
                    RangeRequest(
                        key: range.key, rangeEnd: range.end, limit: Limits.otherSpellingKeys,
                        keysOnly: true)),
                .otherSpelling)
        }
    }

    func otherSpellingAnswered(_ answer: Answer) {
        otherSpelling?.callsInFlight -= 1
        guard case .message(let bytes) = answer,
            let response = decoded(bytes, RangeResponse.decode)
        else { return }
        seen(response.header)
        guard let spelling = otherSpelling else { return }
        for kv in response.kvs {
            guard let agent = spelling.agent(of: kv.key) else { continue }
            log(
                .warn,
                """
                agent '\(agent)' is published under the namespace '\(spelling.namespace)', this handle uses \
                '\(configuration.namespace)': agents of the two never meet; set NIXL_ETCD_NAMESPACE alike for all
                """)
            otherSpelling = nil
            return
        }
    }

    func otherSpellingUnanswered() {
        // With the connection, all of them.
        otherSpelling?.callsInFlight = 0
        otherSpelling?.isWanted = true
    }
}
