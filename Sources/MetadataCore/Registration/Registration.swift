// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// How this agent's keys come into etcd, stay true, and go: what the core may ask of it. The state is in `NameKeeper`,
/// which nobody else can reach. docs/registration.md explains the protocol.
package struct Registration: Hashable {
    private var keeper: NameKeeper {
        didSet {
            #if !hasFeature(Embedded)
                assert(keeper.broken == nil, "the registration is broken: \(keeper.broken!)")
            #endif
        }
    }

    package init(
        agent: Bytes, presenceKey: Bytes, refusesTakeover: Bool, batchOperations: Int,
        random: Random
    ) {
        keeper = NameKeeper(
            agent: agent, presenceKey: presenceKey, refusesTakeover: refusesTakeover,
            batchOperations: batchOperations, random: random)
    }

    // MARK: - Calls of the host

    /// `blob` nil: the label is removed.
    package mutating func change(
        _ label: Bytes, to blob: Bytes?, _ operation: OperationID, _ out: inout Effects
    ) {
        keeper.change(label, to: blob, operation, &out)
    }

    package mutating func startHeartbeat(
        _ plan: Heartbeating.Plan, _ operation: OperationID, now: Milliseconds, _ out: inout Effects
    ) {
        keeper.startHeartbeat(plan, operation, now: now, &out)
    }

    package mutating func stopHeartbeat(
        keep: Bool, _ operation: OperationID, _ out: inout Effects
    ) {
        keeper.stopHeartbeat(keep: keep, operation, &out)
    }

    package mutating func invalidate(_ operation: OperationID, _ out: inout Effects) {
        keeper.invalidate(operation, &out)
    }

    /// Withdraws everything of this agent.
    package mutating func shutDown(_ out: inout Effects) {
        keeper.shutDown(&out)
    }

    /// etcd has refused it: it is asked again in a while.
    package mutating func shutDownAgain(now: Milliseconds, _ out: inout Effects) {
        keeper.shutDownAgain(now: now, &out)
    }

    /// An operation has ended by its time-out, or its host does not want it any more.
    package mutating func abandon(_ operation: OperationID, label: Bytes?, _ out: inout Effects) {
        keeper.abandon(operation, label: label, &out)
    }

    // MARK: - How things are

    // Queries of every step are inlined or `mutating`, so that they read in place. Otherwise the compiler copies the whole
    // state for each, with a retain for every array in it.

    /// Whether anything needs etcd.
    @inline(__always)
    var needsConnection: Bool { keeper.needsConnection }
    /// Nothing waits to be written.
    package var isIdle: Bool { mutating get { keeper.isIdle } }
    /// A shutdown has nothing left to do.
    @inline(__always)
    package var hasLeft: Bool { keeper.hasLeft }
    /// On which everything is to hang; 0: none.
    package var lease: Int64 { keeper.leases.target }
    /// The revision from which to watch the presence key; nil: do not watch.
    @inline(__always)
    package var watchFrom: Int64? { keeper.watchFrom }
    /// Calls that wait for their turn.
    var backlog: Int { keeper.backlog }
    var renews: Bool { mutating get { keeper.leases.hasRenewed } }
    /// The shortest TTL of a lease that is renewed; without one, the measure of patience.
    var ttl: Milliseconds { mutating get { keeper.leases.shortestTTL } }
    var lastRefusal: Pacing.Refusal? { keeper.pacing.lastRefusal }

    /// The lease is that of the heartbeat; 0: there is none.
    func count(into counters: inout CoreCounters) { keeper.count(into: &counters) }

    /// When there is something to do that no answer brings.
    package mutating func nextDeadline(now: Milliseconds) -> Milliseconds? {
        keeper.nextDeadline(now: now)
    }

    // MARK: - Requests

    /// Begins a connection.
    package mutating func greet(now: Milliseconds) -> (RegistrationCall, CallBody) {
        keeper.greet(now: now)
    }

    /// etcd has refused that. nil: nothing can be read.
    package mutating func greetAgain(now: Milliseconds) -> (RegistrationCall, CallBody)? {
        keeper.greetAgain(now: now)
    }

    /// The next request, if there is one to be sent now. `isFree`: there is room for one that can wait.
    package mutating func next(now: Milliseconds, isFree: Bool, _ out: inout Effects)
        -> (RegistrationCall, CallBody)?
    {
        keeper.next(now: now, isFree: isFree, &out)
    }

    /// The next lease to renew now; it counts as asked for.
    mutating func nextRenewal(now: Milliseconds) -> Int64? { keeper.leases.nextRenewal(now: now) }

    /// Since when a renewal has been without an answer; `.max`: none.
    var renewalSince: Milliseconds { mutating get { keeper.leases.renewalSince } }
    /// The leases of those renewals.
    var renewalsUnanswered: [Int64] { mutating get { keeper.leases.renewalsUnanswered } }

    // MARK: - What becomes of them

    package mutating func answered(
        _ call: RegistrationCall, _ answer: RegistrationAnswer, now: Milliseconds,
        _ out: inout Effects
    ) {
        keeper.answered(call, answer, now: now, &out)
    }

    package mutating func unanswered(_ call: RegistrationCall) { keeper.unanswered(call) }

    /// A slow server has said so: nothing more is asked before that time.
    package mutating func serverIsBusy(until: Milliseconds) {
        keeper.pacing.serverIsBusy(until: until)
    }

    /// Renewals that are not answered are sent again from then on.
    mutating func renewAgain(at due: Milliseconds) { keeper.leases.renewAgain(at: due) }

    /// With everything that was not answered on it.
    package mutating func connectionIsLost(now: Milliseconds) { keeper.connectionIsLost(now: now) }

    /// Whether it was expected and the lease is there.
    mutating func renewalAnswered(
        _ lease: Int64, seconds: Int64, now: Milliseconds, _ out: inout Effects
    ) -> Bool {
        keeper.renewalAnswered(lease, seconds: seconds, now: now, &out)
    }

    package mutating func renewalsAreRefused(_ text: Text, now: Milliseconds, _ out: inout Effects)
    {
        keeper.renewalsAreRefused(text, now: now, &out)
    }

    // MARK: - What else is seen

    /// The self-watch saw a change.
    package mutating func presenceChanged(at revision: Int64) {
        keeper.looking.presenceChanged(at: revision)
    }

    /// The self-watch has missed something, or may have.
    package mutating func mayHaveMissed() { keeper.looking.again() }

    /// The store was replaced: all observations are void.
    package mutating func storeIsAnother(_ text: Text, _ out: inout Effects) {
        keeper.storeIsAnother(text, &out)
    }
}

// MARK: - For the exploration of states

extension Registration {
    /// Leases that may exist.
    package var leasesKnown: [Int64] { keeper.leases.ids }
    package var isOver: Bool { keeper.standing == .superseded }
    package var isLeaving: Bool { keeper.departure.isUnderWay }
    package func isOurs(_ lease: Int64) -> Bool { keeper.leases.isOurs(lease) }
    package func isGranted(_ lease: Int64) -> Bool { keeper.leases.isGranted(lease) }

    /// A renewal has found the lease gone.
    package mutating func leaseHasEnded(_ lease: Int64, _ out: inout Effects) {
        keeper.leaseHasEnded(lease, &out)
    }

    /// Visits every revision: only their order means something.
    package mutating func forEachRevision(_ body: (inout Int64) -> Void) {
        keeper.forEachRevision(body)
    }

    /// The state with blobs, names, ids and times left out: which of its cases it is in.
    package var stateClass: [UInt8] { keeper.stateClass }

    /// Makes `now` the time `base`, and forgets what only counts.
    package mutating func rebase(now: Milliseconds, to base: Milliseconds) {
        keeper.rebase(now, to: base)
    }
}
