// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// A watch of the host: lists what is there, then follows the changes.
final class HostWatch {
    private enum State {
        /// nil: it waits for room for a page.
        case listing(since: Milliseconds?)
        case watching(Watcher)
        /// The host is too slow: no more events until it has taken the queued ones.
        case overflowed
        case ended
    }
    /// The next action for it.
    enum Outcome {
        case nothing
        /// A page is wanted.
        case askPage
        /// It starts again with a first page. Cancel its watcher.
        case listAgain(ending: Watcher?)
        /// It wants to tell the rest of its page in another tick.
        case unfinished
        /// It waits until the host has taken all its events.
        case stalled(ending: Watcher?)
        /// The list is complete: watch from this revision.
        case follow(from: Int64)
        /// ENDED is delivered.
        case ended(ending: Watcher?)
        case malformed(Text)
    }
    let operation: OperationID
    private let prefix: Bytes
    private let isOfOneAgent: Bool
    private let presenceOnly: Bool
    private let portions: CoreConfiguration.Portions
    private var state: State
    /// Used while it lists.
    private var listing: WatchListing
    private var views: AgentViews
    private var isContactLostTold = false
    /// Counts the listings, so that what was asked for an earlier one is known as such.
    private(set) var epoch = 0
    private var restarts = Restarts()

    init(
        operation: OperationID, agent: Bytes?, presenceOnly: Bool, _ keyspace: Keyspace,
        _ portions: CoreConfiguration.Portions, now: Milliseconds
    ) {
        self.operation = operation
        state = .listing(since: now)
        self.presenceOnly = presenceOnly
        self.portions = portions
        isOfOneAgent = agent != nil
        prefix = agent.map { keyspace.key(agent: $0) } ?? keyspace.root
        listing = WatchListing(of: prefix, presenceOnly: presenceOnly, portions)
        views = AgentViews(of: operation, tellsLabels: !presenceOnly)
    }

    var isEnded: Bool {
        if case .ended = state { true } else { false }
    }

    private var isListing: Bool {
        if case .listing = state { true } else { false }
    }

    /// Counts one more interruption.
    func isInterruptedTooOften(now: Milliseconds) -> Bool { restarts.isTooMany(now: now) }

    // MARK: - Its end

    func end(_ status: Status, _ text: Text, _ notices: inout Notices) -> Outcome {
        guard !isEnded else { return .nothing }
        let ending = watcher
        state = .ended
        notices.tell(WatchEvent(watch: operation, kind: .ended(status, text)))
        return .ended(ending: ending)
    }

    /// The list is complete.
    var isFollowing: Bool { watcher != nil }

    private var watcher: Watcher? {
        if case .watching(let watcher) = state { watcher } else { nil }
    }

    // MARK: - Contact

    func contactLost(_ trouble: Text, _ notices: inout Notices) {
        guard !isContactLostTold else { return }
        isContactLostTold = true
        notices.tell(WatchEvent(watch: operation, kind: .contactLost(trouble)))
    }

    func contactRegained(_ notices: inout Notices) {
        guard isContactLostTold else { return }
        isContactLostTold = false
        notices.tell(WatchEvent(watch: operation, kind: .contactRegained))
    }

    /// The connection on which it watches answers again.
    func contactIsBack(_ notices: inout Notices) {
        if silentSince == nil { contactRegained(&notices) }
    }

    /// The begin of its silence; nil: it lives, or waits for the host.
    private var silentSince: Milliseconds? {
        switch state {
        case .listing(let since): since
        case .watching(let watcher): watcher.silentSince
        case .overflowed, .ended: nil
        }
    }

    /// When CONTACT_LOST is due; nil: it is not, or was delivered.
    var silenceDue: Milliseconds? {
        isContactLostTold ? nil : silentSince.map { $0 &+ Timing.watchSilence }
    }

    /// The reason of CONTACT_LOST.
    func silence(now: Milliseconds) -> Text {
        let seconds = (now &- (silentSince ?? now)) / 1000
        return isListing
            ? "still listing after \(seconds) s, \(listing.keys) keys so far"
            : "etcd has not begun to watch for \(seconds) s"
    }

    // MARK: - Listing

    /// The chain of events is broken: list again and tell the differences. `forgetRevisions`: those known
    /// are of another store.
    func resync(
        _ text: Text, forgetRevisions: Bool, now: Milliseconds, _ notices: inout Notices
    ) -> Outcome {
        if isEnded { return .nothing }
        // No event was delivered yet.
        if isListing, views.areUntold { return listAgain(now: now) }
        notices.tell(WatchEvent(watch: operation, kind: .resync(text)))
        if forgetRevisions { views.forgetRevisions() }
        return listAgain(now: now)
    }

    private func listAgain(now: Milliseconds) -> Outcome {
        views.forgetUntoldLabels()
        let ending = watcher
        // A restarted list stays silent since its first start.
        if case .listing(.some) = state {} else { state = .listing(since: now) }
        listing = WatchListing(of: prefix, presenceOnly: presenceOnly, portions)
        epoch += 1
        return .listAgain(ending: ending)
    }

    /// Whether it still wants an answer to what was asked in this epoch.
    func expects(_ epoch: Int) -> Bool { epoch == self.epoch && isListing }

    func listingGoesOn(with connection: ConnectionID?) -> Bool { listing.goesOn(with: connection) }

    /// The next; its answer is one of a transaction while `isAskingAboutAgents`. nil: there must be room for it first.
    func question(_ keyspace: Keyspace, _ notices: Notices) -> CallBody? {
        assert(isListing, "nothing is left to ask")
        guard notices.haveRoomForPage else {
            state = .listing(since: nil)
            return nil
        }
        return listing.question(keyspace)
    }

    var isAskingAboutAgents: Bool { listing.isAskingAboutAgents }

    /// Its first page is small, and needs no answer before it.
    var canBeAskedTogether: Bool { isOfOneAgent && isListing && listing.canBeAskedTogether }
    /// etcd refused the transaction that read the first pages of several watches.
    func isToBeAskedAlone() { listing.isAskedAlone = true }

    func canTake(_ page: RangePage) -> Bool { listing.canTake(page) }

    func listed(
        _ response: RangeResponse, _ keyspace: Keyspace, _ notices: inout Notices
    ) -> Outcome {
        guard listing.canTake(response) else { return .malformed(Text.notThePage) }
        return listed(listing.listed(response, keyspace, &views, &notices), &notices)
    }

    func listed(
        _ page: RangePage, _ keyspace: Keyspace, _ notices: inout Notices
    ) -> Outcome {
        listed(listing.listed(page, keyspace, &views, &notices), &notices)
    }

    func answered(
        _ response: TxnResponse, _ keyspace: Keyspace, _ notices: inout Notices
    ) -> Outcome {
        listed(listing.answered(response, keyspace, &views, &notices), &notices)
    }

    /// The pinned revision may be gone: keep the view and list again; the difference shows the rest.
    func listingIsInterrupted(now: Milliseconds) -> Outcome { listAgain(now: now) }

    /// Counts unknown agents as present.
    func assumePresent(_ keyspace: Keyspace, _ notices: inout Notices) -> Outcome {
        listed(listing.assumePresent(keyspace, &views, &notices), &notices)
    }

    func answerIsOversized(_ size: Int, _ notices: inout Notices) -> Outcome {
        if listing.askForLess(than: size) { return .askPage }
        return end(
            .tooLarge, "a value of \(size) bytes is over \(Limits.watchBytes)", &notices)
    }

    /// Another tick: tells more of its page, if it has one.
    func tellOn(_ keyspace: Keyspace, _ notices: inout Notices) -> Outcome {
        guard isListing, listing.isUnfinished else { return .nothing }
        return listed(listing.tellOn(keyspace, &views, &notices), &notices)
    }

    private func listed(
        _ outcome: WatchListing.Outcome, _ notices: inout Notices
    ) -> Outcome {
        switch outcome {
        case .more: return .askPage
        case .unfinished: return .unfinished
        case .tooMany: return endAsTooLarge(&notices)
        case .malformed(let reason): return .malformed(reason)
        case .done(let revision):
            contactRegained(&notices)
            notices.tell(WatchEvent(watch: operation, kind: .synced, revision: revision))
            return .follow(from: revision &+ 1)
        }
    }

    private func endAsTooLarge(_ notices: inout Notices) -> Outcome {
        end(.limit, "there are more than \(Limits.listKeys) keys to watch", &notices)
    }

    // MARK: - Following

    /// etcd has no watch without values, so one that wants only presence reads one key. Where there are labels without
    /// a presence key, their end is the agent's.
    var range: (key: Bytes, end: Bytes) {
        let isOneKey = isOfOneAgent && presenceOnly && !views.hasImpliedAgent
        return (prefix, isOneKey ? [] : Keyspace.end(of: prefix))
    }

    var keepsValues: Bool { !presenceOnly }

    func follow(with watcher: Watcher) {
        assert(isListing && !listing.isUnfinished, "not all was listed")
        state = .watching(watcher)
    }

    /// Events in the order of revisions; those of one revision are delivered together or not at all.
    func changed(
        _ events: [WatchResponse.Event], _ keyspace: Keyspace, now: Milliseconds,
        _ notices: inout Notices
    ) -> Outcome {
        var start = 0
        while start < events.count {
            var end = start
            var bytes = 0
            while end < events.count, events[end].kv.modRevision == events[start].kv.modRevision {
                bytes += events[end].kv.value.count
                end += 1
            }
            guard notices.haveRoom(for: end - start, bytes: bytes) || notices.isEmpty else {
                let ending = watcher
                state = .overflowed
                return .stalled(ending: ending)
            }
            if views.apply(events[start..<end], keyspace, &notices) {
                let text: Text = "labels were put before the presence key of their agent"
                return resync(text, forgetRevisions: false, now: now, &notices)
            }
            guard !views.areTooMany else { return endAsTooLarge(&notices) }
            start = end
        }
        return .nothing
    }

    /// The host has taken all that waited: what stood still goes on.
    func resume(now: Milliseconds, _ notices: inout Notices) -> Outcome {
        switch state {
        case .overflowed:
            return resync(
                "the host left more than \(notices.limit) events waiting",
                forgetRevisions: false, now: now, &notices)
        case .listing:
            state = .listing(since: now)
            return .askPage
        case .watching, .ended: return .nothing
        }
    }
}

/// Watches and lists that go on when their time comes, and not before.
struct PausedReaders {
    enum Unfinished {
        case watch(HostWatch)
        case list(ListJob)
    }
    /// Watches that resume when the host has taken all events.
    private var stalled: [HostWatch] = []
    /// Each has a page that is too much for one tick.
    private var unfinished: [Unfinished] = []

    var stalledCount: Int { stalled.count }
    var hasStalled: Bool { !stalled.isEmpty }
    var hasUnfinished: Bool { !unfinished.isEmpty }

    mutating func stall(_ watch: HostWatch) { stalled.append(watch) }

    mutating func postpone(_ reader: Unfinished) { unfinished.append(reader) }

    mutating func takeStalled() -> [HostWatch] {
        let watches = stalled
        stalled.removeAll()
        return watches
    }

    mutating func takeUnfinished() -> Unfinished? {
        unfinished.isEmpty ? nil : unfinished.remove(at: 0)
    }

    /// It does not wait any more.
    mutating func forget(_ watch: HostWatch) {
        stalled.drop { $0 === watch }
    }
}
