// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol

/// A RESYNC costs the host a list: it must have had to be.
extension WatchChecker {
    func checkReason(_ text: String, _ host: SimulatedHost) {
        let reasons: [(String, () -> Bool)] = [
            ("the store was replaced", { self.heardFrom !== host.storeOfNotice }),
            ("etcd has compacted", { self.isCompacted }),
            ("the host left more than", { host.wasFullAt >= self.syncedAt }),
            ("labels were put before", { self.hasLabelsBeforePresence }),
        ]
        guard let (_, isTrue) = reasons.first(where: { text.hasPrefix($0.0) }) else {
            host.fail("RESYNC for a reason that is none: \(text)")
            return
        }
        if !isTrue() { host.fail("RESYNC for a reason that is not so: \(text)") }
    }

    /// What comes next after what was told is not to be had any more.
    private var isCompacted: Bool {
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
                if wasLabelPut(of: agent, before: revision, in: store) { return true }
            }
            revision -= 1
        }
        return false
    }

    /// Since the presence key was removed; it may be gone again, which a view that keeps no labels does not know.
    private func wasLabelPut(of name: Bytes, before last: Int64, in store: Store) -> Bool {
        var revision = last - 1
        while revision > max(1, store.compacted) {
            for change in store.commit(revision).changes {
                guard let (agent, label) = world.parse(change.key), agent == name else { continue }
                if label.isEmpty { return false }
                if change.record != nil { return true }
            }
            revision -= 1
        }
        return true
    }
}
