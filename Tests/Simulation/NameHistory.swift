// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol

/// Who put each presence key, over the whole run: no name changes hands more often than somebody had a reason
/// to take it.
final class NameHistory {
    private static let mark: Bytes = [0]
    private var followed: Int64 = 1
    private var owners: [Bytes: Int] = [:]
    private var takes: [Int: Int] = [:]
    /// Who has had each name.
    private var holders: [Bytes: Set<Int>] = [:]
    /// Processes after which another has had the name.
    private(set) var replaced: Set<Int> = []
    /// How often others removed the presence key of a process, and are not about to put their own.
    private var removed: [Int: Int] = [:]
    /// Newcomers that have removed a presence key, while their mark is there.
    private var evictions: [Bytes: Eviction] = [:]
    /// The last one that has done so; whoever takes it removes it.
    private var newcomer: Int?
    private struct Eviction {
        let holders: Set<Int>
        let at: Instant
    }
    /// Authors that refuse takeover.
    var refusing: Set<Int> = []

    /// How often WITHDRAWN may have been reported to a process. It waits for a newcomer whose mark
    /// it may read.
    func removals(of host: SimulatedHost) -> Int {
        let mayNotRead = host.world.refusedUntil[.forbidden] != nil
        let now = host.world.now + host.jumped
        let given = evictions.values.filter {
            $0.holders.contains(host.author) && (mayNotRead || now >= $0.at + 10_000_000)
        }
        return (removed[host.author] ?? 0) + given.count
    }

    func takeNewcomer() -> Int? {
        defer { newcomer = nil }
        return newcomer
    }

    private func isOver(_ eviction: Eviction?) {
        for holder in eviction?.holders ?? [] { removed[holder, default: 0] += 1 }
    }

    func wiped() {
        for eviction in evictions.values { isOver(eviction) }
        evictions = [:]
        followed = 1
        owners = [:]
    }

    /// Keys that a snapshot brought back have no author.
    func restored(_ world: World) {
        let before = owners
        wiped()
        let store = world.cluster.store
        followed = store.revision
        for (agent, owner) in before {
            // A snapshot from before its claim, with its lease: as if somebody had removed its key.
            let record = store[world.key(agent, [])]
            if record.map({ store.commit($0.modRevision).author != owner }) ?? true {
                removed[owner, default: 0] += 1
            }
        }
        for record in store.records {
            guard let (agent, label) = world.parse(record.key), label.isEmpty else { continue }
            let author = store.commit(record.modRevision).author
            owners[agent] = author
            // Nobody can tell the key of a process before from that of a successor.
            for holder in holders[agent] ?? [] where holder != author { replaced.insert(holder) }
        }
    }

    func follow(_ world: World) {
        let store = world.cluster.store
        while followed < store.revision {
            followed += 1
            let commit = store.commit(followed)
            world.note(commit)
            // Also by the end of its lease, which is nobody's doing.
            for change in commit.changes where change.record == nil {
                guard let (agent, label) = world.parse(change.key), label == Self.mark else {
                    continue
                }
                isOver(evictions.removeValue(forKey: agent))
            }
            guard let author = commit.author else { continue }
            for change in commit.changes {
                guard let (agent, label) = world.parse(change.key), label.isEmpty else { continue }
                let before = change.previous.flatMap { store.commit($0.modRevision).author }
                if change.previous != nil, refusing.contains(author), before != author {
                    world.fail("process \(author) took a name although it was told not to")
                }
                guard change.record != nil else {
                    // A stock agent's was put over that of the process with which the key began.
                    let began = change.previous.flatMap { store.commit($0.createRevision).author }
                    let holders = Set([before, began].compactMap(\.self)).subtracting([author])
                    let eviction = Eviction(holders: holders, at: world.now)
                    let mark = world.key(agent, Self.mark)
                    if commit.changes.contains(where: { $0.key == mark && $0.record != nil }) {
                        isOver(evictions.updateValue(eviction, forKey: agent))
                        newcomer = author
                    } else {
                        isOver(eviction)
                    }
                    continue
                }
                for holder in holders[agent] ?? [] where holder != author {
                    replaced.insert(holder)
                }
                holders[agent, default: []].insert(author)
                if owners[agent] != author { takes[author, default: 0] += 1 }
                owners[agent] = author
            }
        }
    }

    /// For a process whose notices have all been taken. After a lost answer (a broken connection,
    /// or a refusal that leaves the claim in doubt) it claims again; a lost lease is restored
    /// before it is known whether another process came and went.
    func check(_ host: SimulatedHost) {
        let count = takes[host.author] ?? 0
        let ledger = host.ownership
        let reasons =
            ledger.licences + ledger.losses + host.timesInDoubt + host.world.stores.count - 1
        if count > reasons {
            host.fail("it took its name \(count) times with \(reasons) reasons")
        }
    }
}
