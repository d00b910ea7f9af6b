// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Reads the current state for a watch: one pass over the keys, in pages of one pinned revision, compared with its
/// view.
struct WatchListing {
    /// The agent whose keys are being read and the labels found so far.
    private struct Open {
        let agent: Bytes
        var labels: [Bytes] = []
    }
    private struct Page {
        let response: RangeResponse
        /// The last key of the answer, which may have had more keys.
        let lastKey: Bytes?
        var next = 0
    }
    enum Outcome {
        /// There is more to ask.
        case more
        /// The rest of the page comes in another tick.
        case unfinished
        /// Complete, as of this revision.
        case done(revision: Int64)
        /// There is more than can be remembered.
        case tooMany
        case malformed(Text)
    }
    private let presenceOnly: Bool
    private let end: Bytes
    private let batchOperations: Int
    /// The next key to read.
    private var cursor: Bytes
    /// 0 before the first page.
    private var revision: Int64 = 0
    /// Keys that were read.
    private(set) var keys = 0
    /// Keys in one page, and the maximum.
    private var limit: Int64
    private let most: Int64
    private var open: Open?
    private var held: HeldPage?
    /// On which it was begun.
    private var connection: ConnectionID?
    /// The current page, as far as it is not decoded yet.
    private var rest: RangePage?
    /// The decoded keys of it, and how many of them are delivered.
    private var page: Page?
    private let keysAtOnce: Int
    /// Views up to this key are in accord with the list.
    private var passed: Bytes?

    init(of prefix: Bytes, presenceOnly: Bool, _ portions: CoreConfiguration.Portions) {
        self.presenceOnly = presenceOnly
        cursor = prefix
        end = Keyspace.end(of: prefix)
        batchOperations = portions.batchOperations
        limit = presenceOnly ? portions.pageKeys : portions.pageValues
        most = presenceOnly ? portions.pageKeysMax : Limits.pageValuesMax
        keysAtOnce = portions.keysAtOnce
    }

    // MARK: - Questions

    /// Whether it can go on with this connection: another one may show another store, of which a snapshot was restored.
    mutating func goesOn(with connection: ConnectionID?) -> Bool {
        if revision == 0, held == nil { self.connection = connection }
        return self.connection == connection
    }

    /// The next; its answer is one of a transaction while `isAskingAboutAgents`.
    // Mutating, to read in place: else all of it is copied.
    mutating func question(_ keyspace: Keyspace) -> CallBody {
        if let held { return .txn(held.question) }
        return .range(request)
    }

    var isAskingAboutAgents: Bool { held != nil }

    @inline(__always)
    private var request: RangeRequest {
        RangeRequest(
            key: cursor, rangeEnd: end, limit: limit, revision: revision, keysOnly: presenceOnly)
    }

    /// The last answer was too large. False: one key alone is.
    mutating func askForLess(than size: Int) -> Bool {
        held?.askForLess()
        guard held == nil else { return true }
        guard limit > 1 else { return false }
        PageSize.shrink(&limit, from: size)
        return true
    }

    // MARK: - Answers

    /// Only the first page, which no other has to precede.
    var canBeAskedTogether: Bool { revision == 0 && held == nil && !isAskedAlone }
    var isAskedAlone = false

    mutating func canTake(_ page: RangePage) -> Bool { page.canAnswer(request) }
    mutating func canTake(_ response: RangeResponse) -> Bool { response.canAnswer(request) }

    mutating func listed(
        _ page: RangePage, _ keyspace: Keyspace, _ views: inout AgentViews,
        _ notices: inout Notices
    ) -> Outcome {
        assert(held == nil && self.page == nil && rest == nil, "no page was asked for")
        PageSize.adapt(&limit, to: page.size, most: most)
        rest = page
        return decodeOn(keyspace, &views, &notices)
    }

    /// The next keys of the page.
    private mutating func decodeOn(
        _ keyspace: Keyspace, _ views: inout AgentViews, _ notices: inout Notices
    ) -> Outcome {
        guard let response = RangePage.next(of: &rest, keysAtOnce, from: cursor, to: end) else {
            return .malformed(Text.notThePage)
        }
        return listed(response, keyspace, &views, &notices)
    }

    /// Decoded keys that may be delivered now.
    mutating func listed(
        _ response: RangeResponse, _ keyspace: Keyspace, _ views: inout AgentViews,
        _ notices: inout Notices
    ) -> Outcome {
        if presenceOnly,
            let held = HeldPage(
                response, after: open?.agent, at: revision, portion: batchOperations, keyspace)
        {
            self.held = held
            return takeHeld(keyspace, &views, &notices)
        }
        return take(response, lastKey: response.kvs.last?.key, keyspace, &views, &notices)
    }

    mutating func answered(
        _ response: TxnResponse, _ keyspace: Keyspace, _ views: inout AgentViews,
        _ notices: inout Notices
    ) -> Outcome {
        var held = self.held
        // Not copied.
        self.held = nil
        guard held?.answer(response) == true else {
            return .malformed("not the answers to a transaction")
        }
        self.held = held
        return takeHeld(keyspace, &views, &notices)
    }

    /// What cannot be asked about counts.
    mutating func assumePresent(
        _ keyspace: Keyspace, _ views: inout AgentViews, _ notices: inout Notices
    ) -> Outcome {
        held?.assumePresent()
        return takeHeld(keyspace, &views, &notices)
    }

    private mutating func takeHeld(
        _ keyspace: Keyspace, _ views: inout AgentViews, _ notices: inout Notices
    ) -> Outcome {
        guard let held, held.isKnown else { return .more }
        self.held = nil
        let lastKey = held.response.kvs.last?.key
        return take(held.counted, lastKey: lastKey, keyspace, &views, &notices)
    }

    private mutating func take(
        _ response: RangeResponse, lastKey: Bytes?, _ keyspace: Keyspace,
        _ views: inout AgentViews, _ notices: inout Notices
    ) -> Outcome {
        if revision == 0 { revision = response.header.revision }
        keys += response.kvs.count
        page = Page(response: response, lastKey: lastKey)
        return tellOn(keyspace, &views, &notices)
    }

    // MARK: - Telling

    /// As much of the page as one tick may tell; many agents may be gone at once.
    mutating func tellOn(
        _ keyspace: Keyspace, _ views: inout AgentViews, _ notices: inout Notices
    ) -> Outcome {
        guard var page else { return rest == nil ? .more : decodeOn(keyspace, &views, &notices) }
        let kvs = page.response.kvs
        var left = Limits.operationsAtOnce
        while page.next < kvs.count, tell(kvs[page.next], keyspace, &views, &notices, &left) {
            page.next += 1
        }
        guard !views.areTooMany else { return .tooMany }
        let isLast = !page.response.more || page.lastKey == nil
        var isTold = page.next == kvs.count
        if isTold, isLast {
            close(&views, &notices)
            isTold = notListed(to: views.count, &views, &notices, &left)
        }
        guard isTold else {
            self.page = page
            return .unfinished
        }
        self.page = nil
        guard !isLast, let last = page.lastKey else { return .done(revision: revision) }
        // The smallest key after it.
        cursor = last + [0]
        return rest == nil ? .more : .unfinished
    }

    /// Whether a page is delivered in part.
    var isUnfinished: Bool { page != nil || (rest != nil && held == nil) }

    /// Delivers an agent, and GONE for departed agents before it, at most `left` of them. Returns whether it was
    /// delivered.
    private mutating func tell(
        _ kv: KeyValue, _ keyspace: Keyspace, _ views: inout AgentViews,
        _ notices: inout Notices, _ left: inout Int
    ) -> Bool {
        guard let (agent, label) = notices.leftOut.tellable(kv.key, keyspace) else { return true }
        if open?.agent != agent {
            close(&views, &notices)
            let key = AgentViews.key(of: agent)
            guard notListed(to: views.position(key), &views, &notices, &left) else {
                return false
            }
            open = Open(agent: agent)
            passed = key
            let presence = label.isEmpty ? kv : nil
            let revision = revision
            views.change(agent, &notices) { $0.listed(presence: presence, at: revision) }
        }
        guard !label.isEmpty else { return true }
        var found = kv
        // etcd has answered for all agents whose values matter.
        if presenceOnly { found.hasValue = true }
        guard found.hasValue else { return true }
        open?.labels.append(label)
        views.change(agent, &notices) { $0.listed(label, found) }
        return true
    }

    /// All keys of the open agent have been read.
    private mutating func close(_ views: inout AgentViews, _ notices: inout Notices) {
        guard let open else { return }
        self.open = nil
        let revision = revision
        views.change(open.agent, &notices) { $0.passed(open.labels, at: revision) }
    }

    /// Views from what was passed up to a position: agents that the list did not find. Whether that was all of them.
    private mutating func notListed(
        to end: Int, _ views: inout AgentViews, _ notices: inout Notices, _ left: inout Int
    ) -> Bool {
        let start = passed.map { views.position(after: $0) } ?? 0
        let portion = min(end - start, left)
        guard portion > 0 else { return end <= start }
        let revision = revision
        let keys = views.keys(from: start, count: portion)
        for key in keys {
            views.change(Bytes(key.dropLast()), &notices) {
                $0.listed(presence: nil, at: revision)
                $0.passed([], at: revision)
            }
        }
        passed = keys.last
        left -= portion
        return start + portion == end
    }
}
