// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import EtcdProtocol
@testable import MetadataCore

/// A server that says what etcd never says: nothing is concluded from it, its connection is given up, and it is asked
/// again no faster than the back-off lets.
@Suite struct HostileTests {
    let world = World()
    let peer: World.Node

    init() {
        peer = world.add(nil, seed: 2)
        let alpha = world.add("alpha")
        world.submit(alpha, .publish(label: Bytes("a"), blob: Bytes("1")))
        alpha.isStalled = true
    }

    private func told() -> [String] {
        defer { peer.events = [] }
        return peer.events.map { $0.brief }
    }

    private func watch(_ agent: StaticString? = "alpha") {
        world.submit(
            peer, .watch(agent: agent.map { Bytes($0) }, presenceOnly: false), timeout: nil)
    }

    private func message(_ body: (inout WireWriter) -> Void) -> Bytes {
        WireWriter.message {
            $0.header(cluster: world.etcd.cluster, revision: world.etcd.revision)
            body(&$0)
        }
    }

    private func event(_ key: StaticString, _ revision: Int64) -> Bytes {
        var kv = KeyValue()
        kv.key = Bytes(key)
        kv.value = Bytes("x")
        kv.modRevision = revision
        return WireWriter.message { $0.embedded(2, kv.encoded()) }
    }

    /// Says something on the stream of watches.
    private func say(_ bytes: Bytes) {
        guard let stream = peer.watchStreams.first else {
            Issue.record("there is no stream")
            return
        }
        peer.core.receive(.message(stream & 0xffff_ffff, bytes), now: world.now)
        world.settle()
    }

    /// For half a minute the server gives this answer to everything: the host gets no event, and
    /// the core asks some three times a second. When the server recovers, so does the core.
    private func expectNothing(_ instead: @escaping (EtcdMethod, Reply) -> Reply) {
        watch()
        #expect(told() == ["appeared alpha", "put alpha a=1", "synced"])
        world.answerInstead = instead
        let (connects, requests) = (peer.connects, world.etcd.requests)
        world.cut(peer)
        world.advance(by: 30_000)
        #expect(Set(told()).isSubset(of: ["contact lost"]))
        #expect(peer.connects - connects < 120)
        #expect(world.etcd.requests - requests < 400)
        world.answerInstead = nil
        world.advance(by: 2000)
        #expect(Set(told()).isSubset(of: ["contact regained"]))
        world.etcd.apply([.put(key: Bytes("/nixl/agents//alpha/a"), value: Bytes("2"), lease: 0)])
        world.settle()
        #expect(told() == ["put alpha a=2"])
    }

    @Test(arguments: [0, -1, .min, .max])
    func header_impossibleRevision_tellsNothing(revision: Int64) {
        expectNothing { _, _ in
            .ok(WireWriter.message { $0.header(cluster: 0xc1, revision: revision) })
        }
    }

    @Test func answer_withoutHeader_tellsNothing() {
        expectNothing { _, _ in .ok([]) }
    }

    @Test func answer_keysNotAskedFor_isNoAnswer() {
        watch(nil)
        _ = told()
        let others = message {
            for key in ["/nixl/agents//b/x", "/nixl/agents//a/x"] as [StaticString] {
                $0.embedded(
                    2,
                    WireWriter.message {
                        $0.bytes(1, Bytes(key)); $0.int64(3, 1)
                    })
            }
        }
        world.answerInstead = { method, reply in method == .range ? .ok(others) : reply }
        let fetch = world.submit(
            peer, .fetch(agent: Bytes("alpha"), label: Bytes("a"), wait: false), timeout: 2000)
        let list = world.submit(peer, .list, timeout: 2000)
        world.advance(by: 3000)
        #expect(peer.completions[fetch]?.status == .timedOut)
        #expect(peer.completions[list]?.status == .timedOut)
        #expect(peer.connects < 20)
    }

    @Test func connection_revisionFalls_isGivenUp() {
        watch()
        _ = told()
        let connects = peer.connects
        let old = WireWriter.message { $0.header(cluster: 0xc1, revision: 1) }
        world.answerInstead = { _, _ in .ok(old) }
        world.submit(peer, .fetch(agent: Bytes("x"), label: Bytes("a"), wait: false))
        #expect(peer.connection == nil)
        #expect(told().isEmpty)
        world.advance(by: 500)
        // The next connection learns whether it is another store; that one is empty.
        #expect(peer.connects > connects)
        #expect(told().prefix(3) == ["resync", "gone alpha", "synced"])
    }

    @Test func connection_anotherCluster_isGivenUp() {
        watch()
        _ = told()
        let connects = peer.connects
        say(
            WireWriter.message {
                $0.header(cluster: 0xbad, revision: 100)
                $0.int64(2, 1)
                $0.embedded(11, event("/nixl/agents//alpha/a", 100))
            })
        world.advance(by: 1000)
        #expect(peer.connects == connects + 1)
        #expect(told().isEmpty)
    }

    @Test(arguments: [0, 1, 2, 3, 4])
    func watch_impossibleMessage_endsTheConnection(kind: Int) {
        watch()
        _ = told()
        let connects = peer.connects
        let bad: [Bytes] = [
            // Created again; created with an id that nobody chose; of another agent; falling; of no revision.
            message {
                $0.int64(2, 1); $0.bool(3, true)
            },
            message {
                $0.int64(2, 99); $0.bool(3, true)
            },
            message {
                $0.int64(2, 1); $0.embedded(11, event("/nixl/agents//beta/a", 100))
            },
            message {
                $0.int64(2, 1)
                $0.embedded(11, event("/nixl/agents//alpha/a", 101))
                $0.embedded(11, event("/nixl/agents//alpha/a", 100))
            },
            message {
                $0.int64(2, 1); $0.embedded(11, event("/nixl/agents//alpha/a", 0))
            },
        ]
        say(bad[kind])
        world.advance(by: 1000)
        #expect(peer.connects == connects + 1)
        #expect(told().isEmpty)
    }

    @Test func watchCreation_unanswered_isToldAndAskedAgainOnTheConnection() {
        world.messageInstead = { _ in nil }
        watch()
        let connects = peer.connects
        #expect(told() == ["appeared alpha", "put alpha a=1", "synced"])
        world.advance(by: 4900)
        #expect(told().isEmpty)
        world.advance(by: 200)
        #expect(told() == ["contact lost"])
        world.messageInstead = nil
        world.advance(by: 1000)
        #expect(told() == ["contact regained"])
        #expect(peer.connects == connects)
        world.etcd.apply([.put(key: Bytes("/nixl/agents//alpha/a"), value: Bytes("2"), lease: 0)])
        world.settle()
        #expect(told() == ["put alpha a=2"])
    }

    /// As etcd's gRPC proxy does, which may lose events too.
    @Test func proxy_withOwnIDsAndALostEvent_isListedAgainAfterMinutes() {
        let renumbered: (Bytes) -> Bytes? = { bytes in
            guard let id = (try? WatchResponse.outline(of: bytes))?.watchID, id > 0 else {
                return bytes
            }
            // The last value of a repeated field counts.
            let given = UInt8(id + 100)
            return bytes + [2 << 3, given | 0x80, given >> 7]
        }
        func put(_ value: StaticString) {
            let key = Bytes("/nixl/agents//alpha/a")
            world.etcd.apply([.put(key: key, value: Bytes(value), lease: 0)])
            world.settle()
        }
        world.messageInstead = renumbered
        watch()
        watch()
        _ = told()
        let connects = peer.connects
        put("2")
        #expect(told() == ["put alpha a=2", "put alpha a=2"])
        world.messageInstead = { _ in nil }
        put("3")
        world.messageInstead = renumbered
        world.advance(by: 235_000)
        #expect(told().isEmpty)
        world.advance(by: 70_000)
        let found = ["resync", "put alpha a=3", "synced"]
        #expect(told().sorted() == (found + found).sorted())
        put("4")
        #expect(told() == ["put alpha a=4", "put alpha a=4"])
        #expect(peer.connects == connects)
    }

    /// Many creations on a slow connection: each answer, and each part of a large one, shows that it works.
    @Test(arguments: [true, false])
    func watchCreations_answeredSlowly_keepTheConnection(isPartial: Bool) {
        var held: [Bytes] = []
        world.messageInstead = {
            held.append($0); return nil
        }
        for _ in 0..<12 { watch() }
        let connects = peer.connects
        for _ in 0..<12 {
            world.advance(by: 1900)
            if isPartial, let connection = peer.connection {
                peer.core.receive(
                    .heard(connection, acknowledges: false, isMidMessage: true), now: world.now)
            } else if !held.isEmpty {
                say(held.removeFirst())
            }
        }
        #expect(peer.connects == connects)
        // The wait is bounded: then the stream is opened again.
        if isPartial {
            let streams = peer.watchStreams
            for _ in 0..<6 {
                world.advance(by: 1900)
                if let connection = peer.connection {
                    peer.core.receive(
                        .heard(connection, acknowledges: false, isMidMessage: true), now: world.now)
                }
            }
            #expect(peer.connects == connects)
            #expect(peer.watchStreams.isDisjoint(with: streams))
        }
    }

    /// At most three reports a second, with a new connection in between.
    @Test func watch_compactedOverAndOver_isPaced() {
        watch()
        _ = told()
        let requests = world.etcd.requests
        world.messageInstead = { bytes in
            guard let id = try? WatchResponse.outline(of: bytes).watchID else { return nil }
            // Compacted behind whatever is watched.
            self.world.etcd.outbox.append(
                (
                    self.peer.watchStreams.first ?? 0,
                    self.message {
                        $0.int64(2, id); $0.bool(4, true); $0.int64(5, .max)
                    }
                ))
            self.world.messageInstead = { [instead = self.world.messageInstead] in
                self.world.messageInstead = instead
                return $0
            }
            return bytes
        }
        world.cut(peer)
        world.advance(by: 10_000)
        #expect(world.etcd.requests - requests < 200)
        #expect(told().filter { $0 == "resync" }.count < 60)
    }

    @Test func fragments_neverEnding_leadToResync() {
        for _ in 0..<4 { watch() }
        _ = told()
        // 1 MiB each, to all watches in turn: 16 MiB in all, whoever holds them.
        let value = Bytes(repeating: 1, count: 1 << 20)
        var kv = KeyValue()
        kv.key = Bytes("/nixl/agents//alpha/a")
        kv.value = value
        kv.modRevision = 100
        let event = WireWriter.message { $0.embedded(2, kv.encoded()) }
        for number in 0..<20 {
            say(
                message {
                    $0.int64(2, Int64(number % 4 + 1))
                    $0.bool(7, true)
                    $0.embedded(11, event)
                })
        }
        #expect(told().contains("resync"))
    }

    @Test func message_tooManyEvents_leadsToResync() {
        watch()
        _ = told()
        let empty = Bytes(repeating: 0, count: 0)
        say(
            message {
                $0.int64(2, 1)
                for _ in 0...WireLimits.events { $0.message(11, size: empty.count) }
            })
        #expect(told() == ["resync", "synced"])
        // The watch goes on.
        world.etcd.apply([.put(key: Bytes("/nixl/agents//alpha/a"), value: Bytes("2"), lease: 0)])
        world.settle()
        #expect(told() == ["put alpha a=2"])
    }

    /// The labels of a restore are always refused, without a reason.
    @Test func restore_alwaysContradicted_isPaced() {
        let alpha = world.add("alpha")
        world.submit(alpha, .publish(label: Bytes("a"), blob: Bytes("1")))
        world.submit(alpha, .startHeartbeat(interval: 1000, ttlSeconds: 5))
        var transactions = 0
        world.answerInstead = { method, reply in
            guard method == .txn else { return reply }
            transactions += 1
            return transactions == 1 ? reply : .ok(message { _ in })
        }
        world.etcd.revoke(alpha.core.counters.leaseID)
        let (connects, requests) = (alpha.connects, world.etcd.requests)
        world.advance(by: 30_000)
        #expect(world.etcd.requests - requests < 600)
        #expect(alpha.connects - connects < 120)
        world.answerInstead = nil
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
    }
}
