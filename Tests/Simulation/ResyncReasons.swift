// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol

/// A RESYNC costs the host a list: it must have had to be.
extension WatchChecker {
    /// A lease that was revoked while its host was away is as little known to etcd as one of another store. An agent may
    /// find out by its own keys that a snapshot was restored when its watch has done so already.
    static let mayBeAnother = "the store may have been replaced"

    func checkReason(_ text: String, _ host: SimulatedHost) {
        let reasons: [(String, () -> Bool)] = [
            (
                "the store was replaced",
                { self.heardFrom !== host.storeOfNotice || host.appetite <= 2 }
            ),
            (
                Self.mayBeAnother,
                {
                    host.world.scenario.allows(.operatorRevokes)
                        || self.mayHaveGoneBack(host)
                }
            ),
            ("etcd has compacted", { self.isCompacted(host) }),
            ("the host left more than", { self.isSince(host.wasFullAt, host) }),
            ("etcd sent a watch message of", { self.isSince(host.wasTooLargeAt, host) }),
            ("labels were put before", { self.hasLabelsBeforePresence }),
        ]
        guard let (_, isTrue) = reasons.first(where: { text.hasPrefix($0.0) }) else {
            host.fail("RESYNC for a reason that is none: \(text)")
            return
        }
        if !isTrue() {
            host.fail("RESYNC after revision \(lastRevision) for a reason that is not so: \(text)")
        }
    }

    private func mayHaveGoneBack(_ host: SimulatedHost) -> Bool {
        world.scenario.allows(.restored) && host.bornIn.store < world.stores.count - 1
    }

    /// After the last notice. A slow host hears later than it happens.
    private func isSince(_ time: Instant, _ host: SimulatedHost) -> Bool {
        host.appetite <= 2 ? time > 0 : time >= syncedAt
    }

    /// The history that follows the last event is compacted.
    private func isCompacted(_ host: SimulatedHost) -> Bool {
        // A snapshot that was restored may count as compacted.
        let newest = host.storeOfNotice
        if heardFrom !== newest, newest.restored > 0, newest.compacted > lastRevision {
            return true
        }
        guard let store else { return false }
        return store.compacted > lastRevision
    }

    /// Some presence key was put where labels were already.
    private var hasLabelsBeforePresence: Bool {
        guard let store, lastRevision >= 1 else { return false }
        var revision = store.revision
        while revision > max(1, lastRevision - 1) {
            for change in store.commit(revision).changes {
                guard change.record != nil, let (agent, label) = world.parse(change.key),
                    label.isEmpty, self.agent == nil || self.agent == agent
                else { continue }
                if hadLabels(agent, before: revision, store) { return true }
            }
            revision -= 1
        }
        return false
    }

    /// Labels may outlive their presence key where a lease ended in the middle of a move.
    private func keptLabels(_ agent: Bytes, at revision: Int64, _ store: Store) -> Bool {
        let start = world.key(agent, [])
        var end = start
        end[end.count - 1] += 1
        return store.range(start, end, at: revision).contains {
            $0.key != start && !$0.value.isEmpty
        }
    }

    /// Whether a label was put since the presence key was last removed.
    private func hadLabels(_ agent: Bytes, before revision: Int64, _ store: Store) -> Bool {
        var earlier = revision - 1
        while earlier > 1 {
            for change in store.commit(earlier).changes {
                guard let (name, label) = world.parse(change.key), name == agent else { continue }
                if !label.isEmpty, change.record != nil { return true }
                if label.isEmpty { return keptLabels(agent, at: earlier, store) }
            }
            earlier -= 1
        }
        return false
    }
}
