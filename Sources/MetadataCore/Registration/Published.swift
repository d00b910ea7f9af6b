// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// The labels of this agent: what each is to hold, and what the store was seen to hold.
package struct Published: Hashable {
    /// A label as a reading shows it.
    package struct Found {
        let label: Bytes
        var revision: Int64
        let lease: Int64
    }
    private var labels = ByteMap<Label>()
    /// Labels that may have to be written.
    private var queue = Queue<Bytes>()
    private var lastNumber: UInt64 = 0
    /// On which they are to hang.
    private var lease: Int64 = 0
    private(set) var inFlight = 0
    private(set) var inDoubt = 0
    private(set) var unread = 0
    /// Labels of which nothing is left but their place in the queue.
    private var nothings = 0
    /// How many labels were seen on each lease.
    private var tally: [Tally] = []
    private struct Tally: Hashable {
        let lease: Int64
        var count: Int
    }

    // MARK: - Keeping count

    // `take` and `put` enclose every change of a label. An absent label is `nothing`.

    /// Moves a label out of its place, to change it; nil: it has none.
    @inline(never)
    private mutating func take(_ name: Bytes, _ label: inout Label) -> ByteMap<Label>.Place? {
        guard let place = labels.index(of: name) else { return nil }
        labels.exchange(place, &label)
        count(&label, -1)
        return place
    }

    /// Moves it back.
    @inline(never)
    private mutating func put(
        _ name: Bytes, _ label: inout Label, at place: ByteMap<Label>.Place?
    ) {
        if !label.isQueued, needsWrite(label) {
            label.isQueued = true
            queue.append(name)
        }
        if !label.isNothing || label.isQueued {
            count(&label, 1)
            if let place { labels.exchange(place, &label) } else { labels[name] = label }
        } else if let place {
            labels.remove(at: place)
        }
    }

    private subscript(name: Bytes) -> Label {
        @inline(never) get { labels[name] ?? Label() }
        @inline(never) set {
            var label = Label()
            let place = take(name, &label)
            label = newValue
            put(name, &label, at: place)
        }
    }

    private mutating func count(_ label: inout Label, _ by: Int) {
        if let sent = label.sent { if sent.isInFlight { inFlight += by } else { inDoubt += by } }
        if case .unread = label.seen { unread += by }
        if label.isNothing { nothings += by }
        let lease = label.seen.lease
        guard lease != 0 else { return }
        if let at = tally.firstIndex(where: { $0.lease == lease }) {
            tally[at].count += by
            if tally[at].count == 0 { tally.remove(at: at) }
        } else {
            tally.append(Tally(lease: lease, count: by))
        }
    }

    private func needsWrite(_ label: Label) -> Bool {
        guard label.sent == nil else { return false }
        switch label.seen {
        case .unread: return false
        case .nothing: return label.wanted.blob != nil
        case .unknown: return label.stuckOn != lease || lease == 0
        case .version(let number, _, let seenLease):
            if number != label.wanted.number { return true }
            return seenLease != lease && label.stuckOn != lease
        }
    }

    var isEmpty: Bool { labels.count == nothings }
    /// Labels that wait for their turn.
    var backlog: Int { queue.count }
    func isHanging(on lease: Int64) -> Bool { tally.contains { $0.lease == lease } }

    /// A write of unknown outcome may put a label on it.
    func mayHang(on lease: Int64) -> Bool {
        isHanging(on: lease)
            || inDoubt + inFlight > 0
                && labels.first { $0.sent?.lease == lease } != nil
    }

    /// Everything is as it is wanted.
    mutating func isSettled() -> Bool {
        tidy()
        return inFlight + inDoubt + unread == 0 && queue.isEmpty
    }

    /// Drops from the front of the queue what needs no write any more.
    private mutating func tidy() {
        while let name = queue.first, !(labels[name].map(needsWrite) ?? false) { unqueue(name) }
    }

    private mutating func unqueue(_ name: Bytes) {
        _ = queue.popFirst()
        guard let at = labels.index(of: name) else { return }
        labels[at].isQueued = false
        guard labels[at].isNothing else { return }
        labels.remove(at: at)
        nothings -= 1
    }

    /// A label must be written.
    mutating func hasWork() -> Bool {
        tidy()
        return !queue.isEmpty
    }

    // MARK: - What the host wants

    func has(_ name: Bytes) -> Bool {
        guard let label = labels[name] else { return false }
        return label.wanted.blob != nil || label.sent?.version.blob != nil
            // It is being removed.
            || label.written.blob != nil
    }

    /// There is room for one more label.
    mutating func hasRoom(for name: Bytes) -> Bool {
        if labels.count < Limits.labels || labels.index(of: name) != nil { return true }
        // Some may only wait in the queue for their turn to be forgotten.
        labels.removeAll { $0.isNothing }
        nothings = 0
        let labels = self.labels
        queue.removeAll { labels.index(of: $0) == nil }
        return labels.count < Limits.labels
    }

    /// `blob` nil: the label is removed.
    mutating func change(
        _ name: Bytes, to blob: Bytes?, _ operation: OperationID, _ out: inout Effects
    ) {
        lastNumber += 1
        let version = Version(number: lastNumber, blob: blob)
        var label = Label()
        let place = take(name, &label)
        if let replaced = label.operation {
            out.complete(replaced, .replaced, Self.replacedText(name))
        }
        label.wanted = version
        label.operation = operation
        label.stuckOn = 0
        label.complete(0, &out)
        put(name, &label, at: place)
    }

    static func replacedText(_ name: Bytes) -> Text {
        "a newer change of label '\(name)' took its place"
    }

    /// An operation has ended. Drop its write if it was never sent; otherwise finish it.
    mutating func abandon(_ name: Bytes, _ operation: OperationID, _ out: inout Effects) {
        var label = self[name]
        if label.operation == operation {
            label.unwant()
        } else if label.sent?.operation == operation {
            label.sent?.operation = nil
        }
        label.complete(0, &out)
        self[name] = label
    }

    /// Ends all that waits, as etcd refuses what must come before it.
    mutating func failWaiting(_ status: Status, _ text: Text, _ out: inout Effects) {
        for name in labels.keys {
            var label = self[name]
            guard label.operation != nil || label.sent?.operation != nil else { continue }
            out.complete(label.sent?.operation, status, text)
            label.sent?.operation = nil
            out.complete(label.operation, status, text)
            label.unwant()
            self[name] = label
        }
    }

    /// Ends operations that were not sent, before a withdrawal.
    mutating func endUnsent(_ status: Status, _ text: Text, _ out: inout Effects) {
        for name in labels.keys {
            guard var label = labels[name], label.operation != nil else { continue }
            out.complete(label.operation, status, text)
            label.unwant()
            self[name] = label
        }
    }

    /// Nothing of it is there any more, and nothing of it is wanted.
    mutating func removeAll(_ status: Status, _ text: Text, _ out: inout Effects) {
        labels.forEach { _, label in
            out.complete(label.sent?.operation, status, text)
            out.complete(label.operation, status, text)
        }
        let (number, target) = (lastNumber, lease)
        self = Published()
        lastNumber = number
        lease = target
    }

    // MARK: - Writing

    /// Everything is to hang on this lease.
    mutating func hang(on lease: Int64) {
        guard lease != self.lease else { return }
        self.lease = lease
        // On none nothing is written.
        guard lease != 0 else { return }
        for name in labels.keys { self[name] = self[name] }
    }

    /// Its approximate size in a transaction.
    private static func size(_ name: Bytes, _ blob: Bytes?) -> Int {
        Limits.operationBytes + name.count + (blob?.count ?? 0)
    }

    /// The next labels to write: one that somebody waits for, or as many of the others as one transaction takes.
    mutating func nextBatch(_ most: Int, bytes: Int) -> [Bytes] {
        var batch: [Bytes] = []
        var left = bytes
        while batch.count < most, let name = queue.first {
            guard let label = labels[name], needsWrite(label) else {
                unqueue(name)
                continue
            }
            let size = Self.size(name, label.wanted.blob)
            let isAlone = label.operation != nil
            guard batch.isEmpty || (!isAlone && size <= left) else { break }
            unqueue(name)
            batch.append(name)
            left -= min(left, size)
            if isAlone { break }
        }
        return batch
    }

    /// Labels for a transaction that puts the presence key onto another lease.
    func toCarry(_ most: Int, bytes: Int) -> [Bytes] {
        var batch: [Bytes] = []
        var left = bytes
        for name in labels.keys {
            guard batch.count < most, let label = labels[name] else { break }
            guard let blob = label.wanted.blob, label.sent == nil, label.stuckOn != lease else {
                continue
            }
            let size = Self.size(name, blob)
            guard size <= left else { break }
            left -= size
            batch.append(name)
        }
        return batch
    }

    /// Notes that they are sent on a lease, and gives what each is to hold.
    mutating func send(_ names: [Bytes], on lease: Int64) -> [(label: Bytes, blob: Bytes?)] {
        var contents: [(label: Bytes, blob: Bytes?)] = []
        contents.reserveCapacity(names.count)
        for name in names {
            var label = Label()
            let place = take(name, &label)
            contents.append((name, label.wanted.blob))
            label.sent = Sent(version: label.wanted, lease: lease, operation: label.operation)
            label.operation = nil
            put(name, &label, at: place)
        }
        return contents
    }

    // The following change only labels whose write on this lease is unanswered: a late answer may be to an earlier write on
    // another lease.

    mutating func areWritten(
        _ names: [Bytes], on lease: Int64, at revision: Int64, _ out: inout Effects
    ) {
        for name in names {
            var label = Label()
            let place = take(name, &label)
            if label.sent?.lease == lease {
                label.isWritten(revision, &out)
                label.complete(revision, &out)
            }
            put(name, &label, at: place)
        }
    }

    /// They were not written, and will not be: they are wanted still.
    mutating func areNotWritten(_ names: [Bytes], on lease: Int64, _ out: inout Effects) {
        for name in names {
            var label = self[name]
            guard label.sent?.lease == lease else { continue }
            label.isNotWritten(name, &out)
            label.complete(0, &out)
            self[name] = label
        }
    }

    mutating func areUnanswered(_ names: [Bytes], on lease: Int64) {
        for name in names {
            var label = self[name]
            guard label.sent?.lease == lease else { continue }
            label.sent?.isInFlight = false
            self[name] = label
        }
    }

    /// etcd refused to write them, and each keeps its old value. `isInDoubt`: unless the write was applied. `isFinal`:
    /// do not try again to restore a label. Returns whether a label stays on another lease.
    mutating func areRefused(
        _ names: [Bytes], on sentOn: Int64, _ status: Status, isInDoubt: Bool, isFinal: Bool,
        _ out: inout Effects, text: (_ size: Int) -> Text
    ) -> Bool {
        let lease = self.lease
        var isStuck = false
        for name in names {
            var label = self[name]
            guard var sent = label.sent, sent.lease == sentOn else { continue }
            let why: Text = "label '\(name)': \(text(sent.version.blob?.count ?? 0))"
            out.complete(sent.operation, status, why)
            let isNews = label.wanted == sent.version && label.wanted != label.written
            if isNews { label.wanted = label.written }
            sent.operation = nil
            sent.isInFlight = false
            label.sent = isInDoubt ? sent : nil
            if isInDoubt || isNews || label.wanted != sent.version {
                // Restore its old value.
            } else if label.seen != .nothing {
                label.stuckOn = lease
                isStuck = true
            } else if isFinal {
                out.log(.error, "\(why); it is not restored: publish a smaller blob")
                label.wanted = Version()
                label.written = Version()
            }
            label.complete(0, &out)
            self[name] = label
        }
        return isStuck
    }

    // MARK: - What is seen

    /// All labels as they are; `isOver`: what is in doubt and has not moved will not be written any more. Whether one
    /// stands at a lower revision than it was seen at: the store has gone back.
    mutating func observed(_ found: [Found], isOver: Bool, at revision: Int64, _ out: inout Effects)
        -> Bool
    {
        var hasGoneBack = false
        var position = 0
        for name in labels.keys {
            while position < found.count, found[position].label.precedes(name) {
                let foreign = found[position]
                self[foreign.label].seen = .unknown(
                    revision: foreign.revision, lease: foreign.lease)
                position += 1
            }
            var here: Found?
            if position < found.count, found[position].label == name {
                here = found[position]
                position += 1
            }
            var label = self[name]
            if let here, here.revision < label.seen.revision { hasGoneBack = true }
            label.isSeen(name, here, isOver: isOver, at: revision, &out)
            label.complete(revision, &out)
            self[name] = label
        }
        for foreign in found[position...] {
            self[foreign.label].seen = .unknown(revision: foreign.revision, lease: foreign.lease)
        }
        return hasGoneBack
    }

    /// The role may not read the labels: write again those in doubt.
    mutating func doubtIsOver(_ out: inout Effects) {
        guard inDoubt > 0 else { return }
        for name in labels.keys {
            var label = self[name]
            guard label.isInDoubt else { continue }
            label.seen = .unknown(revision: label.seen.revision, lease: label.sent?.lease ?? 0)
            label.isNotWritten(name, &out)
            self[name] = label
        }
    }

    /// The next label to be read with its value.
    var nextUnread: Bytes? {
        guard unread > 0 else { return nil }
        return labels.first { if case .unread = $0.seen { true } else { false } }?.key
    }

    /// A label that moved while a write of it was in doubt: is it that write? `isOver` as in `observed`.
    mutating func read(_ name: Bytes, _ kv: KeyValue?, isOver: Bool, _ out: inout Effects) {
        var label = self[name]
        guard case .unread = label.seen else { return }
        if let kv, let blob = label.sent?.version.blob, kv.value == blob {
            label.isWritten(kv.modRevision, &out)
        } else {
            label.seen = kv.map { .unknown(revision: $0.modRevision, lease: $0.lease) } ?? .nothing
            if isOver { label.isNotWritten(name, &out) }
        }
        label.complete(kv?.modRevision ?? 0, &out)
        self[name] = label
    }

    /// Labels on this lease are gone. `isOver` as in `observed`.
    mutating func leaseIsGone(_ lease: Int64, isOver: Bool, _ out: inout Effects) {
        guard isHanging(on: lease) else { return }
        for name in labels.keys where self[name].seen.lease == lease {
            var label = self[name]
            label.seen = .nothing
            // It had moved, and was not read yet.
            if isOver, label.isInDoubt { label.isNotWritten(name, &out) }
            label.complete(0, &out)
            self[name] = label
        }
    }

    /// Nothing of ours is in the store, and nothing that is on its way can be written any more.
    mutating func nothingIsThere(_ out: inout Effects) {
        for name in labels.keys {
            var label = self[name]
            label.seen = .nothing
            label.stuckOn = 0
            label.isNotWritten(name, &out)
            label.complete(0, &out)
            self[name] = label
        }
    }

    // MARK: - Invariants

    /// A broken invariant, checked after each input by assertions; nil: none. Many labels are not counted again.
    var broken: StaticString? {
        guard labels.count <= 32 else { return nil }
        var again = Published()
        var queued = 0
        var rule: StaticString?
        labels.forEach { _, found in
            var label = found
            again.count(&label, 1)
            if label.isQueued {
                queued += 1
            } else if lease != 0, needsWrite(label) {
                rule = "a label is not queued"
            }
            if label.sent?.lease == 0 { rule = "a label is written on no lease" }
        }
        if queued != queue.count { rule = "a place in the queue is nobody's" }
        let isCounted =
            (inFlight, inDoubt, unread, nothings)
            == (again.inFlight, again.inDoubt, again.unread, again.nothings)
        let isTallied =
            tally.count == again.tally.count && tally.allSatisfy { again.tally.contains($0) }
        return isCounted && isTallied ? rule : "labels are counted wrong"
    }

    // MARK: - For the exploration of states

    mutating func forEachRevision(_ body: (inout Int64) -> Void) {
        labels.changeEach { label in
            switch label.seen {
            case .nothing: break
            case .version(let number, var revision, let lease):
                body(&revision)
                label.seen = .version(number, revision: revision, lease: lease)
            case .unknown(var revision, let lease):
                body(&revision)
                label.seen = .unknown(revision: revision, lease: lease)
            case .unread(var revision, let lease):
                body(&revision)
                label.seen = .unread(revision: revision, lease: lease)
            }
        }
    }
}
