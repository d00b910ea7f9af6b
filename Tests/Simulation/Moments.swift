// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol

/// How far the history of the world has come: which of its stores, and that one's revision.
struct Moment {
    let store: Int
    let revision: Int64
}

extension World {
    var moment: Moment { Moment(store: stores.count - 1, revision: cluster.store.revision) }

    func noteMoment() {
        if let last = moments.last, now < last.at + 1_000_000 { return }
        if moments.count == 64 { moments.removeFirst(32) }
        moments.append((now, moment))
    }

    /// Some seconds before now: what is read was asked for by then.
    var earlier: Moment {
        moments.last { $0.at + 8_000_000 <= now }?.moment ?? Moment(store: 0, revision: 1)
    }

    /// Whether a key was as is meant at any moment from an earlier one on.
    func was(since begun: Moment, _ key: Bytes, _ isMeant: (Record?) -> Bool) -> Bool {
        for index in begun.store..<stores.count {
            let store = stores[index]
            if isMeant(store[key]) { return true }
            // A store begins empty.
            let first = index == begun.store ? begun.revision : 1
            var revision = store.revision
            while revision > first {
                for change in store.commit(revision).changes where change.key == key {
                    if isMeant(change.previous) { return true }
                }
                revision -= 1
            }
        }
        return false
    }

    /// Who wrote a record. Its revision may be of a store that is gone.
    func author(of record: Record) -> Int? {
        for store in stores.reversed() where record.modRevision <= store.revision {
            let commit = store.commit(record.modRevision)
            if commit.changes.contains(where: { $0.record == record }) { return commit.author }
        }
        return nil
    }
}
