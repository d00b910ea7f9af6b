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

    private func prefix(of agent: Bytes?) -> Bytes {
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

    private func listAgain(_ watch: HostWatch) {
        // The list finds them, if they are still there.
        for view in watch.views.values { view.hasUntoldLabels = false }
        watch.state = .listing(listing(of: watch.agent, presenceOnly: watch.presenceOnly))
        watch.epoch += 1
        stalledWatches.removeAll { $0 === watch }
        work.append(.page(watch, epoch: watch.epoch))
    }

    func sendPage(_ watch: HostWatch, epoch: Int) {
        guard epoch == watch.epoch, case .listing(let listing) = watch.state else { return }
        guard notices.count < configuration.noticeLimit / 2,
            noticeBytes < configuration.noticeBytes / 2
        else {
            stalledWatches.append(watch)
            return
        }
        if let held = listing.held {
            send(
                .txn(held.question(keyspace, configuration.portions.batchOperations)),
                .page(watch, epoch: epoch))
            return
        }
        send(.range(request(of: watch, listing)), .page(watch, epoch: epoch))
    }

    private func request(of watch: HostWatch, _ listing: HostWatch.Listing) -> RangeRequest {
        RangeRequest(
            key: listing.cursor, rangeEnd: Keyspace.end(of: prefix(of: watch.agent)),
            limit: listing.limit, revision: listing.revision, keysOnly: watch.presenceOnly)
    }

    func pageUnanswered(_ watch: HostWatch, epoch: Int) {
        work.append(.page(watch, epoch: epoch))
    }

    func pageAnswered(_ watch: HostWatch, epoch: Int, _ answer: Answer) {
        guard epoch == watch.epoch, case .listing(let listing) = watch.state else { return }
        switch answer {
        case .message(let bytes):
            if let held = listing.held {
                answered(held, bytes, for: watch, listing)
            } else {
                listed(bytes, for: watch, listing)
            }
        case .refused(.compacted, _):
            // The pinned revision is gone; what was told stays told, the rest is found by the difference.
            listAgain(watch)
            _ = givesUpRestarting(&watch.restarts, "what is listed is compacted")
        case .refused(.noSpace, _) where listing.held != nil:
            guard var held = listing.held else { return }
            held.assumePresent()
            take(held, for: watch, listing)
        case .refused(let failure, let text):
            end(watch, failure.status, text)
        case .oversized(let size):
            guard listing.limit > 1 else {
                end(watch, .tooLarge, "a value of \(size) bytes is over \(Limits.watchBytes)")
                return
            }
            var smaller = listing
            smaller.limit /= 2
            watch.state = .listing(smaller)
            work.append(.page(watch, epoch: watch.epoch))
        }
    }

    private func listed(_ bytes: Bytes, for watch: HostWatch, _ listing: HostWatch.Listing) {
        guard let response = decoded(bytes, RangeResponse.decode) else { return }
        guard response.canAnswer(request(of: watch, listing)) else {
            isMalformed("not the page of keys that was asked for")
            return
        }
        seen(response.header)
        contactRegained(watch)
        if watch.presenceOnly,
            let held = HeldPage(response, after: listing.open?.agent, keyspace)
        {
            hold(held, for: watch, listing)
        } else {
            take(response, lastKey: response.kvs.last?.key, for: watch, listing)
        }
    }

    private func hold(_ held: HeldPage, for watch: HostWatch, _ listing: HostWatch.Listing) {
        var listing = listing
        listing.held = held
        watch.state = .listing(listing)
        work.append(.page(watch, epoch: watch.epoch))
    }

    private func answered(
        _ held: HeldPage, _ bytes: Bytes, for watch: HostWatch, _ listing: HostWatch.Listing
    ) {
        guard let response = decoded(bytes, TxnResponse.decode) else { return }
        seen(response.header)
        var held = held
        guard held.answer(response, configuration.portions.batchOperations) else {
            isMalformed("not the answers to a transaction")
            return
        }
        take(held, for: watch, listing)
    }

    private func take(
        _ held: HeldPage, for watch: HostWatch, _ listing: HostWatch.Listing
    ) {
        guard held.unchecked.isEmpty else {
            hold(held, for: watch, listing)
            return
        }
        var listing = listing
        listing.held = nil
        take(
            held.counted(keyspace), lastKey: held.response.kvs.last?.key, for: watch, listing)
    }

    private func take(
        _ response: RangeResponse, lastKey: Bytes?, for watch: HostWatch,
        _ listing: HostWatch.Listing
    ) {
        var listing = listing
        if listing.revision == 0 { listing.revision = response.header.revision }
        var bytes = 0
        for kv in response.kvs {
            bytes += kv.value.count
            listed(kv, for: watch, &listing)
        }
        if response.more, let last = lastKey {
            // The smallest key after it.
            listing.cursor = last + [0]
            if !watch.presenceOnly { adapt(&listing.limit, to: bytes) }
            watch.state = .listing(listing)
            work.append(.page(watch, epoch: watch.epoch))
        } else {
            close(&listing, for: watch)
            let end = watch.views.count
            notListed(
                watch, from: position(after: listing, in: watch), to: end, at: listing.revision)
            tell(WatchEvent(watch: watch.operation, kind: .synced, revision: listing.revision))
            follow(watch, from: listing.revision &+ 1)
        }
    }

    private func adapt(_ limit: inout Int64, to bytes: Int) {
        if bytes < Limits.pageBytes / 2 {
            limit = min(limit * 2, Limits.pageValuesMax)
        } else if bytes > Limits.pageBytes * 2 {
            limit = max(limit / 2, 1)
        }
    }

    private func listed(_ kv: KeyValue, for watch: HostWatch, _ listing: inout HostWatch.Listing) {
        guard let (agent, label) = keyspace.parse(kv.key) else { return }
        if listing.open?.agent != agent {
            close(&listing, for: watch)
            let key = agent + [UInt8(ascii: "/")]
            let passed = position(after: listing, in: watch)
            notListed(
                watch, from: passed, to: watch.views.position(key), at: listing.revision)
            listing.open = HostWatch.Listing.Open(agent: agent)
            let presence = label.isEmpty ? kv : nil
            change(watch, agent) { $0.listed(presence: presence, at: listing.revision) }
        }
        guard !label.isEmpty else { return }
        var found = kv
        // Agents of whom it matters whether values are empty have been asked about.
        if watch.presenceOnly { found.hasValue = true }
        guard found.hasValue else { return }
        listing.open?.labels.append(label)
        change(watch, agent) { $0.listed(label, found) }
    }

    /// All keys of the open agent have been read.
    private func close(_ listing: inout HostWatch.Listing, for watch: HostWatch) {
        guard let open = listing.open else { return }
        let revision = listing.revision
        change(watch, open.agent) { $0.passed(open.labels, at: revision) }
    }

    /// The first view behind the agent that was read last.
    private func position(after listing: HostWatch.Listing, in watch: HostWatch) -> Int {
        guard let open = listing.open else { return 0 }
        let key = open.agent + [UInt8(ascii: "/")]
        let at = watch.views.position(key)
        return at < watch.views.count && watch.views.keys[at] == key ? at + 1 : at
    }

    /// Views from one position up to another: agents that the list did not find.
    private func notListed(_ watch: HostWatch, from: Int, to: Int, at revision: Int64) {
        guard from < to else { return }
        let agents = watch.views.keys[from..<to].map { Bytes($0.dropLast()) }
        for agent in agents {
            change(watch, agent) {
                $0.listed(presence: nil, at: revision)
                $0.passed([], at: revision)
            }
        }
    }

    private func follow(_ watch: HostWatch, from revision: Int64) {
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
    private func change(
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
        let wasDeparted = view.isDeparted
        var telling = AgentTelling(
            watch: watch.operation, agent: agent, tellsLabels: !watch.presenceOnly, view: view)
        body(&telling)
        for event in telling.events { tell(event) }
        if view.isEmpty {
            watch.views[key] = nil
        } else {
            watch.noteDeparture(of: view, wasDeparted: wasDeparted)
        }
        return telling.needsList
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
