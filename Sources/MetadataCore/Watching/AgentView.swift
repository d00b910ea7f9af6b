// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// One watch's view of one agent, from which it derives the event for a change.
final class AgentView {
    enum Presence {
        /// Nothing was seen of it.
        case never
        /// There are labels, but there never was a presence key (stock NIXL leaves such).
        case implied
        case present(incarnation: UInt64)
        /// GONE was delivered; `incarnation` 0: the agent never had a presence key.
        case departed(incarnation: UInt64)
    }
    fileprivate(set) var presence = Presence.never
    /// The delivered labels (or, without labels, those that imply presence), with the revision of each Put.
    fileprivate(set) var labels = ByteMap<Int64>()
    /// A label was put while the agent was departed: it waits for the presence key.
    fileprivate var hasUntoldLabels = false
    /// Which departure of its watch was its last.
    private(set) var departure: UInt64 = 0

    var isPresent: Bool {
        switch presence {
        case .never, .departed: false
        case .implied, .present: true
        }
    }

    var isDeparted: Bool {
        if case .departed = presence { true } else { false }
    }

    var isImplied: Bool {
        if case .implied = presence { true } else { false }
    }

    /// No event was delivered for it.
    var isUntold: Bool {
        if case .never = presence { true } else { false }
    }

    /// Nothing worth remembering.
    var isEmpty: Bool {
        if case .never = presence { labels.isEmpty && !hasUntoldLabels } else { false }
    }

    func noteDeparture(_ number: UInt64) {
        assert(isDeparted, "it is still there")
        departure = number
    }

    /// A list is to find them, if they are still there.
    func forgetUntoldLabels() {
        hasUntoldLabels = false
    }

    /// Those known are of another store.
    func forgetRevisions() {
        labels.changeEach { $0 = 0 }
    }
}

extension KeyValue {
    /// Which Put it was. A store that was wiped, or restored from a snapshot, uses revisions again: then all else differs.
    fileprivate var put: Int64 {
        let factor: Int64 = 0x1e37_79b9_7f4a_7c15
        return ((modRevision &* factor &+ createRevision) &* factor &+ version) &* factor &+ lease
    }
}

/// Turns changes of keys into events of a watch. Pure: state and change in, events out.
struct AgentTelling {
    let watch: OperationID
    let agent: Bytes
    /// Whether the watch delivers labels and blobs, or presence only.
    let tellsLabels: Bool
    let view: AgentView
    // As the view was before.
    let wasDeparted: Bool
    let labelsBefore: Int
    private(set) var events: [WatchEvent] = []
    /// Labels are there that only a list can tell.
    private(set) var needsList = false

    init(watch: OperationID, agent: Bytes, tellsLabels: Bool, view: AgentView) {
        self.watch = watch
        self.agent = agent
        self.tellsLabels = tellsLabels
        self.view = view
        wasDeparted = view.isDeparted
        labelsBefore = view.labels.count
    }

    private mutating func tell(_ kind: WatchEvent.Kind, _ revision: Int64) {
        events.append(WatchEvent(watch: watch, kind: kind, revision: revision))
    }

    mutating func presencePut(_ kv: KeyValue) {
        let found = Incarnation.of(kv)
        switch view.presence {
        case .never:
            tell(.appeared(agent: agent, incarnation: found), kv.modRevision)
        case .implied:
            break  // Delivered with its first label.
        case .present(let known):
            if known != found {
                tell(.restarted(agent: agent, incarnation: found), kv.modRevision)
            }
        case .departed(let known):
            if known == found {
                tell(.returned(agent: agent, incarnation: found), kv.modRevision)
            } else {
                tell(.restarted(agent: agent, incarnation: found), kv.modRevision)
            }
        }
        view.presence = .present(incarnation: found)
        needsList = view.hasUntoldLabels
        view.hasUntoldLabels = false
        if !tellsLabels { view.labels.removeAll() }
    }

    mutating func presenceDeleted(_ revision: Int64) {
        guard case .present(let known) = view.presence else { return }
        depart(known, revision)
    }

    private mutating func depart(_ incarnation: UInt64, _ revision: Int64) {
        view.presence = .departed(incarnation: incarnation)
        view.hasUntoldLabels = false
        view.labels.removeAll()
        tell(.gone(agent: agent), revision)
    }

    mutating func labelPut(_ label: Bytes, _ kv: KeyValue) {
        guard kv.hasValue else {
            labelDeleted(label, kv.modRevision)
            return
        }
        switch view.presence {
        case .never where kv.lease != 0, .departed(0) where kv.lease != 0:
            // It belongs to a presence key and is delivered with that.
            view.hasUntoldLabels = tellsLabels
            return
        case .never:
            tell(.appeared(agent: agent, incarnation: 0), kv.modRevision)
            view.presence = .implied
        case .departed(0):
            // Without a presence key nobody can say whether it is the same process: the safe answer.
            tell(.restarted(agent: agent, incarnation: 0), kv.modRevision)
            view.presence = .implied
        case .departed:
            // GONE ended all its labels; later ones are delivered with its next presence key.
            view.hasUntoldLabels = tellsLabels
            return
        case .implied, .present:
            break
        }
        guard tellsLabels || view.isImplied else { return }
        view.labels[label] = kv.put
        if tellsLabels {
            tell(.put(agent: agent, label: label, blob: kv.value), kv.modRevision)
        }
    }

    mutating func labelDeleted(_ label: Bytes, _ revision: Int64) {
        guard view.isPresent, view.labels.index(of: label) != nil else { return }
        view.labels[label] = nil
        if view.isImplied, view.labels.isEmpty {
            depart(0, revision)
        } else if tellsLabels {
            tell(.delete(agent: agent, label: label), revision)
        }
    }

    // MARK: - What a list found

    /// The list has come to this agent: its presence key, or none.
    mutating func listed(presence: KeyValue?, at revision: Int64) {
        guard let presence else {
            presenceDeleted(revision)
            return
        }
        if case .present(let known) = view.presence, known != Incarnation.of(presence) {
            // The host has dropped its metadata: deliver all labels again.
            view.labels.removeAll()
        }
        presencePut(presence)
    }

    mutating func listed(_ label: Bytes, _ kv: KeyValue) {
        if view.labels[label] != kv.put { labelPut(label, kv) }
    }

    /// The list has passed this agent; `labels`, in order, are those that it found.
    mutating func passed(_ labels: [Bytes], at revision: Int64) {
        guard view.isPresent else { return }
        let removed = view.labels.keep(only: labels)
        let isGone = view.isImplied && view.labels.isEmpty && !removed.isEmpty
        if tellsLabels {
            // GONE stands for the last.
            for label in removed.dropLast(isGone ? 1 : 0) {
                tell(.delete(agent: agent, label: label), revision)
            }
        }
        if isGone { depart(0, revision) }
    }
}
