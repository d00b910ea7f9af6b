// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// A watch of the host: lists what is there, then follows the changes.
final class HostWatch {
    /// One pass over the keys, in pages of one pinned revision.
    struct Listing {
        /// The agent whose keys are being read and the labels found so far.
        struct Open {
            let agent: Bytes
            var labels: [Bytes] = []
        }
        /// The next key to read.
        var cursor: Bytes
        /// 0 until the first page has told it.
        var revision: Int64 = 0
        var limit: Int64
        var open: Open?
        var held: HeldPage?
        /// The page that is being told, and how much of it was.
        var page: Page?
        /// Views up to this key are in accord with the list.
        var passed: Bytes?
    }
    struct Page {
        let response: RangeResponse
        /// Of the answer, which may have had more keys.
        let lastKey: Bytes?
        var next = 0
    }
    enum State {
        case listing(Listing)
        case watching(Watcher)
        /// The host does not keep up: nothing more is told until it has taken what waits.
        case overflowed
        case ended
    }
    let operation: OperationID
    /// nil: the whole namespace.
    let agent: Bytes?
    let presenceOnly: Bool
    var state: State
    /// By name + "/": the order of keys, which is not that of names ("a-b/" precedes "a/").
    var views = ByteMap<AgentView>()
    /// How many of them have departed; the memory of those is bounded.
    var departedCount = 0
    /// How many labels they hold in all.
    fileprivate var labelCount = 0
    /// Numbers departures.
    var departures: UInt64 = 0
    var isContactLostTold = false
    /// Counts the listings, so that what was asked for an earlier one is known as such.
    var epoch = 0
    var restarts = Restarts()

    init(operation: OperationID, agent: Bytes?, presenceOnly: Bool, listing: Listing) {
        self.operation = operation
        self.agent = agent
        self.presenceOnly = presenceOnly
        state = .listing(listing)
    }
}

extension MetadataCore {
    func watch(_ id: OperationID, agent: Bytes?, presenceOnly: Bool) {
        let watch = HostWatch(
            operation: id, agent: agent, presenceOnly: presenceOnly,
            listing: listing(of: agent, presenceOnly: presenceOnly))
        operations[id] = .watch(watch)
        work.append(.page(watch, epoch: watch.epoch))
        if isContactLost { contactLost(watch) }
    }

    private func listing(of agent: Bytes?, presenceOnly: Bool) -> HostWatch.Listing {
        let portions = configuration.portions
        return HostWatch.Listing(
            cursor: prefix(of: agent),
            limit: presenceOnly ? portions.pageKeys : portions.pageValues)
    }

    func prefix(of agent: Bytes?) -> Bytes {
        agent.map { keyspace.key(agent: $0) } ?? keyspace.root
    }

    func tell(_ event: WatchEvent) {
        if case .put(_, _, let blob) = event.kind {
            tell(.event(event), bytes: blob.count)
        } else {
            tell(.event(event), bytes: 0)
        }
    }

    func end(_ watch: HostWatch, _ status: Status, _ text: Text) {
        stopWatching(watch)
        watch.state = .ended
        guard operations[watch.operation] != nil else { return }
        operations[watch.operation] = nil
        tell(WatchEvent(watch: watch.operation, kind: .ended(status, text)))
    }

    private func stopWatching(_ watch: HostWatch) {
        guard case .watching(let watcher) = watch.state else { return }
        var ended: Watcher? = watcher
        cancel(&ended)
    }

    // MARK: - Contact

    func contactLost(_ watch: HostWatch) {
        guard !watch.isContactLostTold else { return }
        watch.isContactLostTold = true
        tell(WatchEvent(watch: watch.operation, kind: .contactLost(lastTrouble)))
    }

    func contactRegained(_ watch: HostWatch) {
        guard watch.isContactLostTold else { return }
        watch.isContactLostTold = false
        tell(WatchEvent(watch: watch.operation, kind: .contactRegained))
    }

    // MARK: - Listing

    /// The chain of events is broken: list again and tell the differences. `forgetRevisions`: those known
    /// are of another store.
    func resync(_ watch: HostWatch, _ text: Text, forgetRevisions: Bool) {
        if case .ended = watch.state { return }
        if case .listing = watch.state, watch.views.isEmpty {
            listAgain(watch)  // Nothing was told yet.
            return
        }
        stopWatching(watch)
        tell(WatchEvent(watch: watch.operation, kind: .resync(text)))
        if forgetRevisions {
            for view in watch.views.values { view.forgetRevisions() }
        }
        listAgain(watch)
    }

    func listAgain(_ watch: HostWatch) {
        // The list finds them, if they are still there.
        for view in watch.views.values { view.hasUntoldLabels = false }
        watch.state = .listing(listing(of: watch.agent, presenceOnly: watch.presenceOnly))
        watch.epoch += 1
        stalledWatches.removeAll { $0 === watch }
        work.append(.page(watch, epoch: watch.epoch))
    }

    func follow(_ watch: HostWatch, from revision: Int64) {
        let key = prefix(of: watch.agent)
        // etcd has no watch without values, so one that wants only presence reads one key. Where there
        // are labels without a presence key, their end is the agent's.
        let isOneKey = watch.agent != nil && watch.presenceOnly && !watch.hasImpliedAgent
        watch.state = .watching(
            startWatcher(
                key: key, rangeEnd: isOneKey ? [] : Keyspace.end(of: key), from: revision,
                keepsValues: !watch.presenceOnly, for: .host(watch)))
    }

    // MARK: - Following

    /// Events in the order of revisions; those of one revision are told together, or not at all.
    func changed(_ watch: HostWatch, _ events: [WatchResponse.Event]) {
        var start = 0
        while start < events.count {
            var end = start
            var bytes = 0
            while end < events.count, events[end].kv.modRevision == events[start].kv.modRevision {
                bytes += events[end].kv.value.count
                end += 1
            }
            let fits =
                notices.count + (end - start) <= configuration.noticeLimit
                && noticeBytes + bytes <= configuration.noticeBytes
            guard fits || notices.isEmpty else {
                stopWatching(watch)
                watch.state = .overflowed
                stalledWatches.append(watch)
                return
            }
            if apply(events[start..<end], to: watch) {
                let text: Text = "labels were put before the presence key of their agent"
                resync(watch, text, forgetRevisions: false)
                return
            }
            guard !isTooLarge(watch) else { return }
            start = end
        }
    }

    /// The changes of one revision. True: only a list can tell all that they mean.
    private func apply(
        _ events: ArraySlice<WatchResponse.Event>, to watch: HostWatch
    ) -> Bool {
        var needsList = false
        // Presence first: GONE stands for the end of all labels, an appearance comes before them.
        for isPresence in [true, false] {
            for event in events {
                guard let (agent, label) = keyspace.parse(event.kv.key),
                    label.isEmpty == isPresence
                else { continue }
                let revision = event.kv.modRevision
                let isUntold = change(watch, agent) {
                    switch (event.kind, isPresence) {
                    case (.put, true): $0.presencePut(event.kv)
                    case (.delete, true): $0.presenceDeleted(revision)
                    case (.put, false): $0.labelPut(label, event.kv)
                    case (.delete, false): $0.labelDeleted(label, revision)
                    }
                }
                needsList = needsList || isUntold
            }
        }
        return needsList
    }

    /// Applies a change to the view of an agent and tells what it means. True: a list must tell the rest.
    @discardableResult
    func change(
        _ watch: HostWatch, _ agent: Bytes, _ body: (inout AgentTelling) -> Void
    ) -> Bool {
        let key = agent + [UInt8(ascii: "/")]
        let view: AgentView
        if let known = watch.views[key] {
            view = known
        } else {
            view = AgentView()
            watch.views[key] = view
        }
        let (wasDeparted, labelsBefore) = (view.isDeparted, view.labels.count)
        var telling = AgentTelling(
            watch: watch.operation, agent: agent, tellsLabels: !watch.presenceOnly, view: view)
        body(&telling)
        for event in telling.events { tell(event) }
        watch.labelCount += view.labels.count - labelsBefore
        if view.isEmpty {
            watch.views[key] = nil
        } else {
            watch.noteDeparture(of: view, wasDeparted: wasDeparted)
        }
        return telling.needsList
    }

    /// Whether there is more to watch than can be remembered; then it is ended.
    func isTooLarge(_ watch: HostWatch) -> Bool {
        guard watch.views.count + watch.labelCount > Limits.listKeys else { return false }
        end(watch, .limit, "there are more than \(Limits.listKeys) keys to watch")
        return true
    }

    // MARK: - A slow host

    /// The host has taken all that waited: watches that stood still go on.
    func resumeStalledWatches() {
        guard notices.isEmpty, !stalledWatches.isEmpty else { return }
        let watches = stalledWatches
        stalledWatches.removeAll()
        for watch in watches {
            switch watch.state {
            case .overflowed:
                let text: Text =
                    "the host left more than \(configuration.noticeLimit) events waiting"
                resync(watch, text, forgetRevisions: false)
            case .listing: work.append(.page(watch, epoch: watch.epoch))
            case .watching, .ended: break
            }
        }
    }
}

extension HostWatch {
    var isEnded: Bool {
        if case .ended = state { true } else { false }
    }

    fileprivate var hasImpliedAgent: Bool {
        for view in views.values {
            if case .implied = view.presence { return true }
        }
        return false
    }

    /// An agent that is gone is remembered, but not for ever.
    fileprivate func noteDeparture(of view: AgentView, wasDeparted: Bool) {
        guard view.isDeparted != wasDeparted else { return }
        departedCount += wasDeparted ? -1 : 1
        guard view.isDeparted else { return }
        departures += 1
        view.departure = departures
        guard departedCount > Limits.departedAgents + Limits.departedSlack else { return }
        var order = views.values.filter { $0.isDeparted }.map { $0.departure }
        order.sort()
        let last = order[Limits.departedSlack - 1]
        views.removeAll { $0.isDeparted && $0.departure <= last }
        departedCount -= Limits.departedSlack
    }
}

extension AgentView {
    fileprivate func forgetRevisions() {
        for index in labels.values.indices { labels.values[index] = 0 }
    }
}
