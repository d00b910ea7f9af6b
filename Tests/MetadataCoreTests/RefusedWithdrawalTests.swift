// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import EtcdProtocol
@testable import MetadataCore

/// etcd refuses a withdrawal: which operation completes when and how, and which keys are left.
@Suite struct RefusedWithdrawalTests: WorldSuite {
    let world = World()
    /// A status without a class of its own: `Failure.other`, reported as BACKEND.
    let corrupt = GRPCStatus(code: 15, message: Bytes("etcdserver: corrupt cluster"))
    /// etcd's answer to a client without credentials, once authentication is switched on.
    let noUser = GRPCStatus(code: 3, message: Bytes("etcdserver: user name is empty"))

    // MARK: - Withdrawals

    /// Header: 'completes with ... UNAUTHENTICATED, PERMISSION, NO_SPACE, BACKEND'.
    @Test(arguments: [true, false], [true, false])
    func withdrawal_refusedForAnyReason_completesOnTheSameConnection(isStop: Bool, isCorrupt: Bool)
    {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        refuseWrites(isCorrupt ? corrupt : permission)
        let (connects, requests) = (alpha.connects, world.etcd.requests)
        let operation = world.submit(
            alpha, isStop ? .stopHeartbeat(keep: false) : .invalidate, timeout: nil)
        world.advance(by: 30_000)
        #expect(status(alpha, operation) == (isCorrupt ? .backend : .permission))
        #expect(alpha.connects == connects)
        #expect(world.etcd.requests - requests < 20)
        // It is as if it had not been asked for: the heartbeat goes on.
        #expect(stored(a)?.value == Bytes("1"))
        #expect(stored(a)?.lease == alpha.core.counters.leaseID)
        #expect(alpha.ownership.isEmpty)
        refuseWrites(nil)
        world.advance(by: 20_000)
        #expect(stored(a)?.value == Bytes("1"))
        #expect(alpha.ownership.isEmpty)
    }

    @Test func withdrawal_noCredentials_completesWithUnauthenticated() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        refuseWrites(noUser)
        world.refusals[.range] = noUser
        let operation = world.submit(alpha, .invalidate, timeout: nil)
        world.advance(by: 30_000)
        #expect(status(alpha, operation) == .unauthenticated)
    }

    /// Somebody hung a key on our lease that we may not write: we evict ourselves.
    @Test func revocation_refused_removesTheKeys() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        world.refusals[.leaseRevoke] = permission
        let operation = world.submit(alpha, .invalidate)
        world.advance(by: 2000)
        #expect(status(alpha, operation) == .success)
        #expect(world.etcd.store.isEmpty)
        #expect(alpha.ownership.isEmpty)
        world.advance(by: 10_000)
        #expect(world.etcd.leases.isEmpty)
    }

    /// The reading that begins the next connection shows that nothing is there.
    @Test(arguments: [true, false])
    func withdrawal_carriedOutThenRefused_succeeds(isCorrupt: Bool) {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        befall(.answerLost, .leaseRevoke)
        befall(.refused(isCorrupt ? corrupt : permission), .leaseRevoke)
        let operation = world.submit(alpha, .invalidate, timeout: 60_000)
        world.advance(by: 5000)
        #expect(world.etcd.store.isEmpty)
        #expect(status(alpha, operation) == .success)
        #expect(alpha.ownership.isEmpty)
    }

    /// Somebody removed the presence key alone: the labels are there, and stay.
    @Test func withdrawal_refusedWhileLabelsAreLeft_completesWithThatStatus() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        refuseWrites(corrupt)
        alpha.isStalled = true
        operatorRemoves(all: false)
        alpha.isStalled = false
        let operation = world.submit(alpha, .invalidate, timeout: 60_000)
        world.advance(by: 2000)
        #expect(stored(a) != nil)
        #expect(status(alpha, operation) == .backend)
    }

    /// As above, for an agent without a report of it: WITHDRAWN, and the labels go without their
    /// lease.
    @Test func withdrawn_revocationRefusedWhileLabelsAreLeft_removesThem() {
        let alpha = world.add("alpha")
        publish(alpha)
        world.refusals[.leaseRevoke] = permission
        operatorRemoves(all: false)
        world.advance(by: 5000)
        #expect(world.etcd.store.isEmpty)
        #expect(alpha.ownership == ["WITHDRAWN"])
    }

    @Test func withdrawal_lostThenRefused_failsAndIsNotCarriedOut() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        befall(.late, .leaseRevoke)
        let operation = world.submit(alpha, .invalidate, timeout: 60_000)
        refuseWrites(permission)
        world.advance(by: 5000)
        #expect(status(alpha, operation) == .permission)
        refuseWrites(nil)
        world.advance(by: 5000)
        #expect(stored(a)?.value == Bytes("1"))
        #expect(alpha.ownership.isEmpty)
    }

    /// The host may not read either: the only report left is that the withdrawal is refused.
    @Test(arguments: [true, false])
    func withdrawal_lostThenEverythingRefused_completesWithThatStatus(isCarriedOut: Bool) {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        befall(isCarriedOut ? .answerLost : .late, .leaseRevoke)
        let operation = world.submit(alpha, .invalidate, timeout: nil)
        refuseWrites(permission)
        world.refusals[.range] = permission
        world.advance(by: 30_000)
        #expect(
            status(alpha, operation) == .permission
                || isCarriedOut && status(alpha, operation) == .success)
    }

    @Test func withdrawal_timedOutThenRefused_goesOnOnceItMay() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        disconnect(alpha)
        let stop = world.submit(alpha, .stopHeartbeat(keep: false), timeout: 1000)
        world.advance(by: 1100)
        #expect(status(alpha, stop) == .timedOut)
        world.isDown = false
        world.advance(by: 20_000)
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
        #expect(alpha.ownership.isEmpty)
    }

    @Test(arguments: [true, false])
    func keys_goneAfterARefusedWithdrawal_areReported(isLeaseRevoked: Bool) {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        refuseWrites(permission)
        let operation = world.submit(alpha, .invalidate)
        world.advance(by: 500)
        #expect(status(alpha, operation) == .permission)
        refuseWrites(nil)
        if isLeaseRevoked {
            world.etcd.revoke(alpha.core.counters.leaseID)
        } else {
            operatorRemoves()
        }
        world.advance(by: 5000)
        #expect(alpha.ownership == (isLeaseRevoked ? ["LOST", "RESTORED"] : ["WITHDRAWN"]))
        #expect((stored(a) != nil) == isLeaseRevoked)
    }

    /// A host that asks five times a second for what etcd refuses keeps its connection.
    @Test func withdrawals_refusedAgainAndAgain_costNoConnection() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        refuseWrites(permission)
        let connects = alpha.connects
        for _ in 0..<50 {
            world.submit(alpha, .invalidate)
            world.advance(by: 250)
        }
        #expect(alpha.connects == connects)
    }

    @Test func rehang_halfDone_thenRefusedWithdrawal_isFinished() {
        let alpha = world.add("alpha")
        publishMany(alpha)
        befall(.answerLost, nth: 2)
        let start = heartbeat(alpha)
        disconnect(alpha)
        refuseWrites(permission)
        let operation = world.submit(alpha, .invalidate, timeout: 60_000)
        world.isDown = false
        world.advance(by: 1000)
        #expect(status(alpha, operation) == .permission)
        refuseWrites(nil)
        world.advance(by: 5000)
        #expect(status(alpha, start) == .success)
        #expect(world.etcd.store.count == 251)
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
        #expect(alpha.ownership.isEmpty)
    }

    /// A claim on that lease was never answered, so it is not given up.
    @Test func stop_keepsAndTheLeaseCannotBeRevoked_completesWithThatStatus() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        befall(.answerLost)
        publish(alpha)
        world.advance(by: 2000)
        world.refusals[.leaseRevoke] = corrupt
        let operation = world.submit(alpha, .stopHeartbeat(keep: true), timeout: nil)
        world.advance(by: 5000)
        #expect(status(alpha, operation) == .backend)
        #expect(stored(a)?.lease == alpha.core.ownLease)
        world.refusals[.leaseRevoke] = nil
        world.advance(by: 5000)
        #expect(hangsEverything(on: alpha.core.ownLease))
        #expect(alpha.ownership.isEmpty)
    }

    // MARK: - Shutdowns

    @Test func shutdown_everythingRefused_leavesTheKeysToTheLease() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        refuseWrites(corrupt)
        let connects = alpha.connects
        alpha.core.shutdown(drain: 3000, now: world.now)
        alpha.core.advance(now: world.now)
        world.advance(by: 3100)
        #expect(alpha.core.isShutDown)
        #expect(alpha.connects == connects)
        world.advance(by: 5000)
        #expect(world.etcd.store.isEmpty)
    }

    @Test func shutdown_refusedForAWhile_leavesNothing() {
        let alpha = world.add("alpha")
        publish(alpha)
        refuseWrites(permission)
        let connects = alpha.connects
        alpha.core.shutdown(drain: 10_000, now: world.now)
        alpha.core.advance(now: world.now)
        world.advance(by: 5000)
        #expect(!alpha.core.isShutDown)
        refuseWrites(nil)
        world.advance(by: 5100)
        #expect(alpha.core.isShutDown)
        #expect(alpha.connects == connects)
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
    }

    /// A write is on its way, the revocation is refused, and the lease ends: no new grant, no new
    /// claim.
    @Test func shutdown_refusedThenLeaseEnds_endsWhatIsOpen() {
        var registration = Registration(
            agent: Bytes("alpha"), presenceKey: Bytes(presence), refusesTakeover: false,
            batchOperations: 100, random: Random(seed: (1, 2)))
        var out = Effects()
        func next(_ now: Milliseconds) -> RegistrationCall? {
            registration.next(now: now, isFree: true, &out)?.0
        }
        func answer(_ call: RegistrationCall?, _ answer: RegistrationAnswer) {
            guard let call else { return }
            registration.answered(call, answer, now: 1000, &out)
        }
        var header = ResponseHeader()
        header.revision = 5
        var done = TxnResponse()
        (done.header, done.succeeded) = (header, true)
        var granted = LeaseGrantResponse()
        granted.ttl = 5
        var nothing = RangeResponse()
        nothing.header = header
        registration.startHeartbeat(.init(interval: 1000, seconds: 5), 1, now: 1000, &out)
        registration.change(Bytes("a"), to: [1], 2, &out)
        answer(registration.greet(now: 1000).0, .range(nothing))
        let grant = next(1000)
        answer(grant, .grant(granted))
        answer(next(1000), .txn(done))
        let write = next(1000)
        #expect(write?.step == .write)
        registration.shutDown(&out)
        answer(next(1000), .refused(.permission, "no"))
        // The presence key is gone.
        header.revision = 6
        nothing.header = header
        var failed = TxnResponse()
        (failed.header, failed.responses) = (header, [.range(nothing)])
        answer(write, .txn(failed))
        #expect(next(1000) == nil)
        registration.leaseHasEnded(grant?.target ?? 0, &out)
        registration.shutDownAgain(now: 9000, &out)
        // The renewal was news.
        let look = next(9000)
        #expect(look?.step == .observe)
        answer(look, .range(nothing))
        #expect(next(9000) == nil)
        #expect(registration.hasLeft)
        var ends: [OperationID: Status] = [:]
        var events = 0
        for item in out.items {
            if case .completed(let operation, let status, _, _, _) = item {
                ends[operation] = status
            }
            if case .event = item { events += 1 }
        }
        #expect(ends[2] == .canceled)
        #expect(events == 0)
    }

    // MARK: - Publishing

    /// etcd's answer says nothing about what it has done: the lease is there, under the same id.
    @Test func grant_carriedOutThenRefused_isTheOnlyOne() {
        let alpha = world.add("alpha")
        var isFirst = true
        world.answerInstead = { [corrupt] method, reply in
            guard method == .leaseGrant, isFirst else { return reply }
            isFirst = false
            return .failed(corrupt)
        }
        heartbeat(alpha)
        #expect(world.etcd.leases.count == 1)
        let first = world.etcd.leases.keys.first ?? 0
        publish(alpha)
        world.advance(by: 3000)
        #expect(alpha.core.counters.leaseID == first)
        #expect(hangsEverything(on: first))
    }

    /// Somebody hung a key on our lease that we may not write: the next generation may do.
    @Test func write_refusedOnOneLeaseOnly_isWrittenOnTheNext() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        let lease = alpha.core.counters.leaseID
        befall(.refused(permission))
        let operation = publish(alpha, "a", "2")
        world.advance(by: 5000)
        #expect(status(alpha, operation) == .success)
        #expect(alpha.core.counters.leaseID != lease)
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
        #expect(alpha.ownership.isEmpty)
        // And another one on that, soon after.
        befall(.refused(permission))
        let second = publish(alpha, "a", "3")
        world.advance(by: 5000)
        #expect(status(alpha, second) == .success)
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
    }

    /// Or it was hung there before the name was claimed.
    @Test func claim_refusedOnOneLeaseOnly_isMadeOnTheNext() {
        let alpha = world.add("alpha")
        befall(.refused(permission))
        let operation = publish(alpha)
        world.advance(by: 5000)
        #expect(status(alpha, operation) == .success)
        #expect(hangsEverything(on: alpha.core.ownLease))
        #expect(alpha.ownership.isEmpty)
    }

    @Test func publish_permissionRefused_completesAtOnce() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        world.refusals[.txn] = permission
        let first = world.submit(alpha, .publish(label: Bytes("a"), blob: Bytes("2")), timeout: nil)
        let second = world.submit(
            alpha, .publish(label: Bytes("b"), blob: Bytes("2")), timeout: nil)
        world.advance(by: 3000)
        #expect(status(alpha, first) == .permission)
        #expect(status(alpha, second) == .permission)
        world.refusals[.txn] = nil
        world.advance(by: 5000)
        #expect(stored(a)?.value == Bytes("1"))
        #expect(stored("/nixl/agents//alpha/b") == nil)
        #expect(alpha.ownership.isEmpty)
    }

    /// 'No space' waits for the time-out: somebody may compact. It then says why.
    @Test(arguments: [0, 1, 2])
    func publish_noSpace_waitsForItsTimeout(kind: Int) {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        if kind > 0 { publish(alpha) }
        refuseWrites(noSpace)
        world.refusals[.leaseRevoke] = nil
        if kind == 2 {
            // Behind a restore.
            world.etcd.revoke(alpha.core.counters.leaseID)
            world.refusals[.leaseGrant] = noSpace
            world.advance(by: 2000)
        }
        let operation = world.submit(
            alpha, .publish(label: Bytes("b"), blob: Bytes("2")), timeout: 10_000)
        world.advance(by: 9900)
        #expect(status(alpha, operation) == nil)
        world.advance(by: 200)
        #expect(status(alpha, operation) == .noSpace)
        world.refusals = [:]
        world.advance(by: 10_000)
        #expect(stored("/nixl/agents//alpha/b") == nil)
        #expect((stored(a) != nil) == (kind > 0))
    }

    @Test func publish_noSpaceForAWhile_succeeds() {
        let alpha = world.add("alpha")
        publish(alpha)
        refuseWrites(noSpace)
        let operation = world.submit(
            alpha, .publish(label: Bytes("b"), blob: Bytes("2")), timeout: 20_000)
        world.advance(by: 9000)
        refuseWrites(nil)
        world.advance(by: 5000)
        #expect(status(alpha, operation) == .success)
        #expect(stored("/nixl/agents//alpha/b")?.value == Bytes("2"))
    }

    @Test func stopWithKeep_refusedForAWhile_leavesTheHeartbeatUntilThen() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        let lease = alpha.core.counters.leaseID
        world.refusals[.txn] = noSpace
        let stop = world.submit(alpha, .stopHeartbeat(keep: true), timeout: nil)
        let operation = world.submit(
            alpha, .publish(label: Bytes("b"), blob: Bytes("2")), timeout: 10_000)
        world.advance(by: 30_000)
        #expect(status(alpha, operation) == .noSpace)
        #expect(stored(a)?.lease == lease)
        world.refusals = [:]
        world.advance(by: 5000)
        #expect(status(alpha, stop) == .success)
        #expect(alpha.core.ownLease & 1 == 1)
        #expect(hangsEverything(on: alpha.core.ownLease))
        #expect(stored("/nixl/agents//alpha/b") == nil)
    }

    /// A role that may not read anything but the presence key, or nothing at all, can publish.
    @Test(arguments: [true, false])
    func publish_readsRefused_succeeds(isFirstRead: Bool) {
        let alpha = world.add("alpha")
        if isFirstRead {
            befall(.refused(permission), .range)
        } else {
            world.refusals[.range] = permission
        }
        let operation = publish(alpha)
        world.advance(by: 2000)
        #expect(status(alpha, operation) == .success)
        #expect(stored(a)?.value == Bytes("1"))
        befall(.answerLost)
        let next = publish(alpha, "a", "2")
        world.advance(by: 5000)
        #expect(status(alpha, next) == .success)
        #expect(stored(a)?.value == Bytes("2"))
        world.submit(alpha, .invalidate)
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
    }
}
