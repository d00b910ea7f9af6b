// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// One watch's view of all its agents. Turns changes of keys into events.
struct AgentViews {
    private let watch: OperationID
    private let tellsLabels: Bool
    /// Keyed by name + "/": the order of keys, which is not that of names ("a-b/" precedes "a/").
    private var views = ByteMap<AgentView>()
    /// How many of them have departed; the memory of those is bounded.
    private var departedCount = 0
    /// How many labels they hold in all.
    private var labelCount = 0
    /// Numbers departures.
    private var departures: UInt64 = 0

    init(of watch: OperationID, tellsLabels: Bool) {
        self.watch = watch
        self.tellsLabels = tellsLabels
    }

    static func key(of agent: Bytes) -> Bytes { agent + [UInt8(ascii: "/")] }

    var count: Int { views.count }
    /// No event was delivered for any agent.
    var areUntold: Bool { views.first { !$0.isUntold } == nil }
    /// There is more than can be remembered.
    var areTooMany: Bool { views.count + labelCount > Limits.listKeys }

    /// Whether an agent is there without a presence key.
    var hasImpliedAgent: Bool {
        views.first { $0.isImplied } != nil
    }

    /// The first position whose key does not precede `key`.
    func position(_ key: Bytes) -> Int { views.rank(key) }

    /// The first position whose key is behind `key`.
    func position(after key: Bytes) -> Int {
        views.rank(key, orIsIt: true)
    }

    func keys(from start: Int, count: Int) -> [Bytes] {
        views.keys(from: start, count: count)
    }

    // MARK: - Changes

    /// Those of one revision. True: only a list can tell all that they mean.
    mutating func apply(
        _ events: ArraySlice<WatchResponse.Event>, _ keyspace: Keyspace,
        _ notices: inout Notices
    ) -> Bool {
        var needsList = false
        // The presence key of an agent that is gone, under which nothing is left to tell.
        var deleted: (key: Bytes, agent: Bytes)?
        var presenceEvents = 0
        // Presence first: GONE stands for the end of all labels, an appearance comes before them.
        for event in events where keyspace.isPresence(event.kv.key) {
            guard let (agent, _) = notices.leftOut.tellable(event.kv.key, keyspace) else {
                continue
            }
            needsList =
                change(agent, &notices) {
                    switch event.kind {
                    case .put: $0.presencePut(event.kv)
                    case .delete: $0.presenceDeleted(event.kv.modRevision)
                    }
                } || needsList
            if event.kind == .delete { deleted = (event.kv.key, agent) }
            presenceEvents += 1
        }
        guard presenceEvents < events.count else { return needsList }
        let gone = deleted.flatMap { key, agent in
            views[Self.key(of: agent)].map { $0.isPresent } ?? false ? nil : key
        }
        for event in events where !keyspace.isPresence(event.kv.key) {
            // All labels of an agent go with its lease: skip their deletions, up to 4,096, at almost no cost.
            if event.kind == .delete, let gone, event.kv.key.hasPrefix(gone) { continue }
            guard let (agent, label) = notices.leftOut.tellable(event.kv.key, keyspace) else {
                continue
            }
            needsList =
                change(agent, &notices) {
                    switch event.kind {
                    case .put: $0.labelPut(label, event.kv)
                    case .delete: $0.labelDeleted(label, event.kv.modRevision)
                    }
                } || needsList
        }
        return needsList
    }

    /// Applies a change to the view of an agent and delivers its events. True: a list must deliver the rest.
    @discardableResult
    mutating func change(
        _ agent: Bytes, _ notices: inout Notices, _ body: (inout AgentTelling) -> Void
    ) -> Bool {
        // In three parts, so that the compiler makes a copy for each body of the second alone.
        var telling = telling(of: agent)
        body(&telling)
        return take(telling, &notices)
    }

    @inline(never)
    private mutating func telling(of agent: Bytes) -> AgentTelling {
        let key = Self.key(of: agent)
        let view = views[key] ?? AgentView()
        if view.isEmpty { views[key] = view }
        return AgentTelling(watch: watch, agent: agent, tellsLabels: tellsLabels, view: view)
    }

    @inline(never)
    private mutating func take(_ telling: AgentTelling, _ notices: inout Notices) -> Bool {
        let view = telling.view
        for event in telling.events { notices.tell(event) }
        labelCount += view.labels.count - telling.labelsBefore
        assert(labelCount >= 0, "labels that nobody has")
        if view.isEmpty {
            views[Self.key(of: telling.agent)] = nil
        } else {
            noteDeparture(of: view, wasDeparted: telling.wasDeparted)
        }
        return telling.needsList
    }

    /// Remembers an agent that is gone, for a limited time.
    private mutating func noteDeparture(of view: AgentView, wasDeparted: Bool) {
        guard view.isDeparted != wasDeparted else { return }
        departedCount += wasDeparted ? -1 : 1
        guard view.isDeparted else { return }
        departures += 1
        view.noteDeparture(departures)
        guard departedCount > Limits.departedAgents + Limits.departedSlack else { return }
        var order: [UInt64] = []
        views.forEach { if $1.isDeparted { order.append($1.departure) } }
        order.heapSort(<)
        assert(order.count == departedCount, "departed agents are counted wrong")
        let last = order[Limits.departedSlack - 1]
        views.removeAll { $0.isDeparted && $0.departure <= last }
        departedCount -= Limits.departedSlack
    }

    // MARK: - Before a list

    /// The list finds them, if they are still there.
    func forgetUntoldLabels() {
        views.forEach { $1.forgetUntoldLabels() }
    }

    /// Those known are of another store.
    func forgetRevisions() {
        views.forEach { $1.forgetRevisions() }
    }
}
