// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// How this agent's keys come into etcd, stay true, and go: the state behind `Registration`, which alone holds one.
///
/// Wanted and seen are its state, in parts that only their own methods change; `Plan` gives the next step from them, and
/// each answer is a new observation. Here: what the host wants, and what others ask.
struct NameKeeper: Hashable {
    /// The relation of this process to the agent's name.
    enum Standing: Hashable {
        /// It never had the name, or has left it by its own will.
        case stranger
        case owner
        /// After LOST, before RESTORED.
        case lost
        /// Another process has it: final.
        case superseded
    }
    let keys: RegistrationKeys
    let agent: Bytes
    let refusesTakeover: Bool
    let batchOperations: Int
    var batchBytes = Limits.batchBytes

    // Wanted.
    var heartbeat = Heartbeating()
    var published = Published()
    var departure = Departure()

    // Seen.
    var presence = Plan.Presence.absent(isMarked: false)
    var looking = Looking()
    var fence = Fence()
    var trial = Trial()
    var hanging = Hanging()
    var leases: Leases

    // History.
    var standing = Standing.stranger
    var takeover = Takeover()
    var pacing = Pacing()
    var leasesLost: UInt64 = 0
    var restores: UInt64 = 0

    /// Under way; writes of labels beside it.
    var inFlight: RegistrationCall?

    init(
        agent: Bytes, presenceKey: Bytes, refusesTakeover: Bool, batchOperations: Int,
        random: Random
    ) {
        self.agent = agent
        self.refusesTakeover = refusesTakeover
        self.batchOperations = batchOperations
        keys = RegistrationKeys(presence: presenceKey)
        leases = Leases(random: random)
    }

    // MARK: - What the host wants

    var supersededText: Text {
        "another process has taken over the agent's name '\(agent)'"
    }

    /// Whether a call can be taken: not when another process has the name.
    private func refusesCall(_ operation: OperationID, _ out: inout Effects) -> Bool {
        guard standing == .superseded else { return false }
        out.complete(operation, .superseded, supersededText)
        return true
    }

    /// `blob` nil: the label is removed.
    mutating func change(
        _ label: Bytes, to blob: Bytes?, _ operation: OperationID, _ out: inout Effects
    ) {
        guard !refusesCall(operation, &out) else { return }
        let isLater = departure.isUnderWay
        let hasRoom = isLater ? departure.hasRoom(for: label) : published.hasRoom(for: label)
        if blob != nil, !hasRoom {
            out.complete(
                operation, .limit, "\(Limits.labels) labels are published; that is the limit")
        } else if isLater {
            departure.postpone(label, blob, operation, &out)
        } else if blob == nil, !published.has(label) {
            out.complete(
                operation, .notFound, "label '\(label)' has not been published by this handle")
        } else {
            // The last known owner of the name may have left: no watch was open.
            if refusesTakeover, !wantsName, case .anothers = presence { looking.again() }
            published.change(label, to: blob, operation, &out)
            pacing.isPublished()
        }
    }

    mutating func startHeartbeat(
        _ plan: Heartbeating.Plan, _ operation: OperationID, now: Milliseconds, _ out: inout Effects
    ) {
        guard !refusesCall(operation, &out) else { return }
        heartbeat.start(operation, plan, &out)
        departure.stopHeartbeat(false)
        leases.renewEvery(plan.interval, now: now)
        pacing.isPublished()
    }

    mutating func stopHeartbeat(
        keep: Bool, _ operation: OperationID, _ out: inout Effects
    ) {
        guard !refusesCall(operation, &out) else { return }
        // A second one that withdraws joins the first.
        guard heartbeat.isOn, !keep || !departure.stopsHeartbeat else {
            out.complete(operation, .notFound, "the heartbeat is off")
            return
        }
        if keep {
            heartbeat.stop(operation, &out)
        } else {
            withdraw(operation, "the heartbeat was stopped and everything withdrawn", &out)
            departure.stopHeartbeat(true)
        }
    }

    mutating func invalidate(_ operation: OperationID, _ out: inout Effects) {
        guard !refusesCall(operation, &out) else { return }
        withdraw(operation, "a later withdrawal removed everything", &out)
    }

    private mutating func withdraw(
        _ operation: OperationID, _ text: Text, _ out: inout Effects
    ) {
        departure.wait(operation)
        departure.dropPostponed(text, &out)
        begin(.asked, .replaced, text, &out)
    }

    /// Withdraws everything of this agent.
    mutating func shutDown(_ out: inout Effects) {
        begin(.asked, .canceled, "the handle is shut down", &out)
        departure.stopHeartbeat(true)
    }

    /// etcd has refused it: it is asked again in a while.
    mutating func shutDownAgain(now: Milliseconds, _ out: inout Effects) {
        guard !departure.isUnderWay, !hasLeft || wantsName, pacing.isDue(now) else { return }
        shutDown(&out)
    }

    mutating func begin(
        _ reason: Departure.Reason, _ status: Status, _ text: Text,
        _ out: inout Effects
    ) {
        guard !departure.isUnderWay else { return }
        departure.begin(reason, status)
        pacing.isAsked()
        // Earlier refusals do not apply to the withdrawal.
        pacing.forgetRefusal()
        published.endUnsent(status, text, &out)
    }

    /// An operation has ended by its time-out, or its host does not want it any more. A mode stays, a withdrawal goes on.
    mutating func abandon(_ operation: OperationID, label: Bytes?, _ out: inout Effects) {
        heartbeat.abandon(operation)
        departure.abandon(operation, label: label)
        if let label { published.abandon(label, operation, &out) }
    }

    // MARK: - What others ask

    @inline(__always)
    var hasPresence: Bool { if case .ours = presence { true } else { false } }
    @inline(__always)
    var wantsName: Bool {
        !published.isEmpty || standing == .lost || !hanging.leases.isEmpty
    }

    @inline(__always)
    var needsConnection: Bool {
        departure.isUnderWay || !leases.isEmpty || heartbeat.wantsLease || hasPresence || wantsName
    }

    var isIdle: Bool {
        mutating get { !departure.isUnderWay && inFlight == nil && published.isSettled() }
    }

    @inline(__always)
    var hasLeft: Bool { !departure.isUnderWay && leases.isEmpty && inFlight == nil }

    var backlog: Int { published.backlog + departure.backlog }

    /// Who leaves does not ask what others do to the name, and may not look for long: the revision would be compacted away.
    @inline(__always)
    var watchFrom: Int64? {
        guard !departure.isUnderWay, hasPresence || hanging.absence != nil else { return nil }
        return looking.revision &+ 1
    }

    func count(into counters: inout CoreCounters) {
        counters.leasesLost = leasesLost
        counters.restores = restores
        guard leases.targetState == .alive, leases.targetKind != .neverEnding else { return }
        counters.leaseID = leases.target
        counters.leaseTTL = leases.ttl
    }

    /// When there is something to do that no answer brings.
    mutating func nextDeadline(now: Milliseconds) -> Milliseconds? {
        var earliest = leases.nextDeadline
        guard inFlight == nil else { return earliest }
        if let lookAt = hanging.lookAt {
            let due = max(lookAt, pacing.retryAt)
            earliest = min(earliest ?? due, due)
        }
        if !pacing.isDue(now) { earliest = min(earliest ?? pacing.retryAt, pacing.retryAt) }
        if pacing.isBusy(now) { earliest = min(earliest ?? pacing.busyUntil, pacing.busyUntil) }
        return earliest
    }

    // MARK: - Invariants

    /// A broken invariant, checked after each input by assertions; nil: none.
    var broken: StaticString? {
        let wanted = published.broken ?? heartbeat.broken ?? departure.broken
        let seen = looking.broken ?? fence.broken ?? hanging.broken ?? leases.broken
        let history = trial.broken ?? takeover.broken ?? pacing.broken
        return wanted ?? seen ?? history ?? brokenAmongParts
    }

    private var brokenAmongParts: StaticString? {
        if inFlight?.step == .write { return "a write holds up what is not one" }
        if case .ours(let lease, let revision) = presence {
            if !leases.isOurs(lease) || revision <= 0 { return "our presence key is not ours" }
            switch hanging.absence {
            case .asking, .waiting: return "our presence key is there and is not"
            case .isBack, .leaseIsGone, .removed, nil: break
            }
        }
        if case .anothers(let lease, _) = presence, leases.isOurs(lease) {
            return "another's presence key is ours"
        }
        guard standing == .superseded else { return nil }
        if !published.isEmpty || heartbeat.isOn {
            return "something is wanted under another's name"
        }
        switch departure.reason {
        case nil, .asked, .superseded: return nil
        case .withdrawn, .nameIsTaken: return "another's name is left"
        }
    }

    // MARK: - For the exploration of states

    mutating func forEachRevision(_ body: (inout Int64) -> Void) {
        looking.forEachRevision(body)
        presence.forEachRevision(body)
        fence.forEachRevision(body)
        takeover.forEachRevision(body)
        inFlight?.forEachRevision(body)
        published.forEachRevision(body)
    }

    /// The state with blobs, names, ids and times left out: which of its cases it is in.
    var stateClass: [UInt8] {
        let place: UInt8 =
            switch presence {
            case .absent(let isMarked): isMarked ? 1 : 0
            case .ours(leases.target, _): 2
            case .ours: 3
            case .anothers: 4
            }
        let missing: UInt8 =
            switch hanging.absence {
            case nil: 0
            case .asking: 1
            case .leaseIsGone: 2
            case .waiting: 3
            case .removed: 4
            case .isBack: 5
            }
        let lease: UInt8 =
            switch leases.targetState {
            case nil: 0
            case .wanted: 1
            case .granting: 2
            case .inDoubt: 3
            case .alive: 4
            }
        let leaving: UInt8 =
            switch departure.reason {
            case nil: 0
            case .asked: 1
            case .withdrawn: 2
            case .superseded: 3
            case .nameIsTaken: 4
            }
        let doubts: UInt8 = fence.doubt.map { $0.isAnswered ? 1 : 2 } ?? 0
        let flags = [
            looking.isDue, standing == .superseded, standing == .lost, heartbeat.isOn, wantsName,
        ]
        return [place, missing, lease, leaving, doubts] + flags.map { $0 ? 1 : 0 }
    }

    mutating func rebase(_ now: Milliseconds, to base: Milliseconds) {
        func moved(_ time: Milliseconds) -> Milliseconds { time &+ base &- now }
        pacing.rebase(now, moved)
        hanging.rebase(moved)
        trial.rebase(base)
        leasesLost = 0
        restores = 0
        departure.forgetRevision()
        leases.forgetTimes()
    }
}
