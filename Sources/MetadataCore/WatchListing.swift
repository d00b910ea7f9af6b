// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// How a watch learns what is there: pages of keys, of one revision, compared with what it has told.

extension MetadataCore {
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
        listing.page = HostWatch.Page(response: response, lastKey: lastKey)
        tellPage(of: watch, listing)
    }

    /// As much of the page as one tick may tell; many agents may be gone at once.
    private func tellPage(of watch: HostWatch, _ listing: HostWatch.Listing) {
        var listing = listing
        guard var page = listing.page else { return }
        let kvs = page.response.kvs
        var left = Limits.operationsAtOnce
        while page.next < kvs.count, listed(kvs[page.next], for: watch, &listing, &left) {
            page.next += 1
        }
        guard !isTooLarge(watch) else { return }
        let isLast = !page.response.more || page.lastKey == nil
        var isTold = page.next == kvs.count
        if isTold, isLast {
            close(&listing, for: watch)
            isTold = notListed(&listing, of: watch, to: watch.views.count, &left)
        }
        guard isTold else {
            listing.page = page
            watch.state = .listing(listing)
            unfinishedWatches.append(watch)
            return
        }
        listing.page = nil
        if !isLast, let last = page.lastKey {
            // The smallest key after it.
            listing.cursor = last + [0]
            if !watch.presenceOnly {
                adapt(&listing.limit, to: kvs.reduce(0) { $0 + $1.value.count })
            }
            watch.state = .listing(listing)
            work.append(.page(watch, epoch: watch.epoch))
        } else {
            tell(WatchEvent(watch: watch.operation, kind: .synced, revision: listing.revision))
            follow(watch, from: listing.revision &+ 1)
        }
    }

    /// Goes on with one of the pages that were too much for one tick.
    func tellUnfinishedPage() {
        guard !unfinishedWatches.isEmpty else { return }
        let watch = unfinishedWatches.removeFirst()
        if case .listing(let listing) = watch.state { tellPage(of: watch, listing) }
    }

    private func adapt(_ limit: inout Int64, to bytes: Int) {
        if bytes < Limits.pageBytes / 2 {
            limit = min(limit * 2, Limits.pageValuesMax)
        } else if bytes > Limits.pageBytes * 2 {
            limit = max(limit / 2, 1)
        }
    }

    /// Whether it was told, with those that precede it and are gone; `left` of those may be.
    private func listed(
        _ kv: KeyValue, for watch: HostWatch, _ listing: inout HostWatch.Listing, _ left: inout Int
    ) -> Bool {
        guard let (agent, label) = keyspace.parse(kv.key) else { return true }
        if listing.open?.agent != agent {
            close(&listing, for: watch)
            let key = agent + [UInt8(ascii: "/")]
            guard notListed(&listing, of: watch, to: watch.views.position(key), &left) else {
                return false
            }
            listing.open = HostWatch.Listing.Open(agent: agent)
            listing.passed = key
            let presence = label.isEmpty ? kv : nil
            change(watch, agent) { $0.listed(presence: presence, at: listing.revision) }
        }
        guard !label.isEmpty else { return true }
        var found = kv
        // Agents of whom it matters whether values are empty have been asked about.
        if watch.presenceOnly { found.hasValue = true }
        guard found.hasValue else { return true }
        listing.open?.labels.append(label)
        change(watch, agent) { $0.listed(label, found) }
        return true
    }

    /// All keys of the open agent have been read.
    private func close(_ listing: inout HostWatch.Listing, for watch: HostWatch) {
        guard let open = listing.open else { return }
        listing.open = nil
        let revision = listing.revision
        change(watch, open.agent) { $0.passed(open.labels, at: revision) }
    }

    /// The first view behind what was passed.
    private func position(after listing: HostWatch.Listing, in watch: HostWatch) -> Int {
        guard let key = listing.passed else { return 0 }
        let at = watch.views.position(key)
        return at < watch.views.count && watch.views.keys[at] == key ? at + 1 : at
    }

    /// Views from there up to a position: agents that the list did not find. Whether that was all of them.
    private func notListed(
        _ listing: inout HostWatch.Listing, of watch: HostWatch, to end: Int, _ left: inout Int
    ) -> Bool {
        let start = position(after: listing, in: watch)
        let portion = min(end - start, left)
        guard portion > 0 else { return end <= start }
        let revision = listing.revision
        let keys = watch.views.keys[start..<start + portion].map { $0 }
        for key in keys {
            change(watch, Bytes(key.dropLast())) {
                $0.listed(presence: nil, at: revision)
                $0.passed([], at: revision)
            }
        }
        listing.passed = keys.last
        left -= portion
        return start + portion == end
    }
}
