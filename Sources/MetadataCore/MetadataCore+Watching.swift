// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// Connects the watch stream, its users, and the host.

extension MetadataCore {
    // MARK: - Watches of the host

    func watch(_ id: OperationID, agent: Bytes?, presenceOnly: Bool) {
        let watch = HostWatch(
            operation: id, agent: agent, presenceOnly: presenceOnly, keyspace,
            configuration.portions, now: now)
        operations[id] = .watch(watch)
        watches += 1
        lookForSilence()
        work.append(.page(watch, epoch: watch.epoch))
        if connection.contact.isLost { contactLost(watch) }
    }

    func end(_ watch: HostWatch, _ status: Status, _ text: Text) {
        carryOut(watch.end(status, text, &notices), for: watch)
    }

    func contactLost(_ watch: HostWatch) {
        watch.contactLost(connection.contact.lastTrouble, &notices)
    }

    /// A watch may be silent from now on: look when it has been for too long.
    func lookForSilence() {
        let due = now &+ Timing.watchSilence
        silenceDue = min(silenceDue ?? due, due)
    }

    /// Tells each silent watch so, whatever else works.
    func noticeSilentWatches() {
        guard mayJudge, let due = silenceDue, now >= due else { return }
        silenceDue = nil
        for case .watch(let watch) in operations.values {
            guard let due = watch.silenceDue else { continue }
            guard now >= due else {
                silenceDue = max(min(silenceDue ?? due, due), now &+ Timing.silencePause)
                continue
            }
            watch.contactLost("\(watch.silence(now: now))\(troubleText)", &notices)
        }
    }

    /// Contact is lost, or there again.
    func tellContact() {
        for case .watch(let watch) in operations.values {
            if connection.contact.isLost {
                contactLost(watch)
            } else {
                watch.contactIsBack(&notices)
            }
        }
    }

    func resync(_ watch: HostWatch, _ text: Text, forgetRevisions: Bool) {
        carryOut(
            watch.resync(text, forgetRevisions: forgetRevisions, now: now, &notices), for: watch)
    }

    private func carryOut(_ outcome: HostWatch.Outcome, for watch: HostWatch) {
        switch outcome {
        case .nothing: break
        case .askPage: work.append(.page(watch, epoch: watch.epoch))
        case .listAgain(let ending):
            cancel(ending)
            lookForSilence()
            paused.forget(watch)
            work.append(.page(watch, epoch: watch.epoch))
        case .unfinished: paused.postpone(.watch(watch))
        case .stalled(let ending):
            cancel(ending)
            paused.stall(watch)
        case .follow(let revision):
            lookForSilence()
            let range = watch.range
            watch.follow(
                with: watchStream.watch(
                    key: range.key, end: range.end, from: revision,
                    keepsValues: watch.keepsValues, for: .operation(watch.operation), now: now))
        case .ended(let ending):
            cancel(ending)
            operations[watch.operation] = nil
            watches -= 1
        case .malformed(let reason): isMalformed(reason)
        }
    }

    func sendPage(_ watch: HostWatch, epoch: Int) {
        guard let question = question(of: watch, epoch: epoch) else { return }
        guard watch.canBeAskedTogether, case .range(let request) = question else {
            send(question, .page(watch, epoch: epoch))
            return
        }
        // Those behind it in the queue, too: a request for each would take most of the time of a host that begins thousands.
        var pages: [Work] = [.page(watch, epoch: epoch)]
        var operations: [RequestOp] = [.range(request)]
        let most = min(Int(firstPages.most), configuration.portions.batchOperations)
        while operations.count < most, let next = work.first, case .page(let other, let its) = next,
            other.canBeAskedTogether
        {
            _ = work.popFirst()
            guard case .range(let request)? = self.question(of: other, epoch: its) else { continue }
            pages.append(next)
            operations.append(.range(request))
        }
        if pages.count == 1 {
            send(question, .page(watch, epoch: epoch))
        } else {
            firstPages.underWay += 1
            send(.txn(TxnRequest(compare: [], success: operations)), .pages(pages))
        }
    }

    /// nil: it has none now.
    private func question(of watch: HostWatch, epoch: Int) -> CallBody? {
        guard watch.expects(epoch) else { return nil }
        guard watch.listingGoesOn(with: connection.ground?.connection) else {
            carryOut(watch.listingIsInterrupted(now: now), for: watch)
            return nil
        }
        let question = watch.question(keyspace, notices)
        if question == nil { paused.stall(watch) }
        return question
    }

    func pagesAnswered(_ pages: [Work], _ answer: Answer) {
        guard case .message(let bytes) = answer else {
            if case .oversized(let size) = answer { firstPages.shrink(from: size) }
            // Perhaps because of one of them.
            for case .page(let watch, _) in pages { watch.isToBeAskedAlone() }
            askAgain(pages)
            return
        }
        firstPages.underWay -= 1
        guard let response = decoded(bytes, TxnResponse.decode) else { return }
        seen(response.header)
        firstPages.adapt(to: bytes.count)
        for (index, page) in pages.enumerated() {
            guard case .page(let watch, let epoch) = page, watch.expects(epoch) else { continue }
            guard index < response.responses.count,
                case .range(var range) = response.responses[index]
            else {
                isMalformed(Text.notThePage)
                return
            }
            range.header = response.header
            carryOut(watch.listed(range, keyspace, &notices), for: watch)
        }
    }

    func askAgain(_ pages: [Work]) {
        firstPages.underWay -= 1
        for page in pages { work.append(page) }
    }

    func pageAnswered(_ watch: HostWatch, epoch: Int, _ answer: Answer) {
        guard watch.expects(epoch) else { return }
        switch answer {
        case .message(let bytes) where watch.isAskingAboutAgents:
            guard let response = decoded(bytes, TxnResponse.decode) else { return }
            seen(response.header)
            carryOut(watch.answered(response, keyspace, &notices), for: watch)
        case .message(let bytes):
            guard let page = decoded(bytes, RangePage.decode) else { return }
            guard watch.canTake(page) else {
                isMalformed(Text.notThePage)
                return
            }
            seen(page.header)
            carryOut(watch.listed(page, keyspace, &notices), for: watch)
        case .refused(.compacted, let text):
            carryOut(watch.listingIsInterrupted(now: now), for: watch)
            note("a list started again: \(text)")
            let isTooOften = watch.isInterruptedTooOften(now: now)
            _ = givesUp(if: isTooOften, "the revision of the list was compacted")
        case .refused(.noSpace, _) where watch.isAskingAboutAgents:
            carryOut(watch.assumePresent(keyspace, &notices), for: watch)
        case .refused(let failure, let text):
            end(watch, failure.status, text)
        case .oversized(let size):
            carryOut(watch.answerIsOversized(size, &notices), for: watch)
        }
    }

    /// The host has taken all that waited: watches that stood still go on.
    func resumeStalledWatches() {
        guard notices.isEmpty, paused.hasStalled else { return }
        for watch in paused.takeStalled() {
            lookForSilence()
            carryOut(watch.resume(now: now, &notices), for: watch)
        }
    }

    /// Goes on with one of the pages that were too much for one tick.
    func tellUnfinishedPage() {
        switch paused.takeUnfinished() {
        case .watch(let watch): carryOut(watch.tellOn(keyspace, &notices), for: watch)
        case .list(let job): listOn(job)
        case nil: break
        }
    }

    // MARK: - The stream

    func cancel(_ watcher: Watcher?) {
        if let watcher { watchStream.cancel(watcher, &out) }
    }

    func driveWatchStream() {
        guard watchStream.hasWanted, !isReplacingStore, now >= connection.busyUntil,
            let ground = connection.ground
        else {
            return
        }
        watchStream.drive(on: ground, now: now, &out)
    }

    /// A watch that is never created would stay silent.
    func expireCreations() {
        guard mayJudge, let deadline = watchStream.creationDeadline, now >= deadline else { return }
        // While not even a probe is answered the whole connection is silent.
        if connection.isProbing, watchStream.prolongCreation(now: now) { return }
        watchStreamFailed(
            "\(currentTarget) does not answer the creation of a watch", isSilence: true)
    }

    /// Everything else may work, so most failures only open the stream again.
    func watchStreamFailed(_ reason: Text, isSilence: Bool = false) {
        if watchStream.failed(isSilence: isSilence, now: now, &out) {
            failConnection(reason)
        } else {
            log(.debug, reason)
            note(reason)
            lookForSilence()
        }
    }

    func watchMessage(_ bytes: Bytes) {
        watchStream.progressed(now: now)
        let addressee = watchStream.addressee(of: bytes)
        if let outcome = watchStream.interruptIfTooMany(addressee, &out) {
            carryOut(outcome)
            return
        }
        guard
            let response = decoded(
                bytes,
                { (bytes) throws(WireError) in
                    try WatchResponse.decode(
                        bytes, keepValues: addressee.keepsValues, events: addressee.events)
                })
        else { return }
        let outcome = watchStream.take(
            response, bytes: bytes.count, for: addressee, now: now, &out)
        if !response.created || !watchStream.numbersAreTheirs { seen(response.header) }
        carryOut(outcome)
        considerProxy()
    }

    func watchMessageTooLarge(_ size: Int) {
        let text: Text = "etcd sent a watch message of \(size) bytes"
        log(.warn, text)
        for sink in watchStream.interruptAll() { carryOut(.interrupted(sink, text)) }
    }

    private func carryOut(_ outcome: WatchStream.Outcome) {
        switch outcome {
        case .nothing: break
        case .changed(let sink, let events): changed(sink, events)
        case .began(let sink):
            if case .operation(let id) = sink, case .watch(let watch) = operations[id] {
                watch.contactRegained(&notices)
            }
        case .interrupted(let sink, let text): interrupted(sink, text)
        case .refused(let sink, let text): refused(sink, text)
        case .malformed(let reason): isMalformed(reason)
        case .denied(let reason):
            streamTokenIsRefused("\(currentTarget) ended a watch: \(reason)")
        case .ended(let reason): watchStreamFailed("\(currentTarget) ended a watch: \(reason)")
        }
    }

    private func changed(_ sink: Watcher.Sink, _ events: [WatchResponse.Event]) {
        guard case .operation(let id) = sink else {
            ourPresenceChanged(events)
            return
        }
        switch operations[id] {
        case .watch(let watch):
            carryOut(watch.changed(events, keyspace, now: now, &notices), for: watch)
        case .fetch(let fetch):
            if let found = fetch.changed(events) { succeed(fetch, found) }
        default: assertionFailure("events for an operation that watches nothing")
        }
    }

    /// The user of the watch reads what it may have missed.
    private func interrupted(_ sink: Watcher.Sink, _ text: Text) {
        let isTooOften: Bool
        switch sink {
        case .registration:
            selfWatchWasInterrupted()
            isTooOften = selfRestarts.isTooMany(now: now)
        case .operation(let id):
            switch operations[id] {
            case .watch(let watch):
                resync(watch, text, forgetRevisions: false)
                isTooOften = watch.isInterruptedTooOften(now: now)
            case .fetch(let fetch):
                fetchAgain(fetch)
                isTooOften = fetch.isInterruptedTooOften(now: now)
            default:
                assertionFailure("an operation that watches nothing is interrupted")
                isTooOften = false
            }
        }
        _ = givesUp(if: isTooOften, text)
    }

    private func refused(_ sink: Watcher.Sink, _ text: Text) {
        guard case .operation(let id) = sink else {
            selfWatchWasRefused(text)
            return
        }
        switch operations[id] {
        case .watch(let watch): end(watch, .permission, text)
        case .fetch(let fetch): fail(fetch, .permission, text)
        default: assertionFailure("a watch of an operation that watches nothing is refused")
        }
    }

    // MARK: - Proxies

    /// A proxy may lose events: read everything again from time to time.
    private func considerProxy() {
        guard relistAt == nil, watchStream.numbersAreTheirs else { return }
        relistAt = now &+ Timing.relist &- random.below(Timing.relist / 5)
    }

    func relistBehindProxy() {
        guard let at = relistAt, now >= at else { return }
        relistAt = nil
        considerProxy()
        sweep(.lookAgain("a proxy that may lose events stands between, so all is listed again"))
        guard selfWatcher != nil else { return }
        stopWatchingOurselves()
        registration.mayHaveMissed()
    }
}
