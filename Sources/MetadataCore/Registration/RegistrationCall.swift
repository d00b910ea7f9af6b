// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// A request of the registration.
package struct RegistrationCall: Hashable {
    package private(set) var step: Plan.Step
    /// The revision of the presence key that guards a write.
    var revision: Int64 = 0
    var lease: Int64 = 0
    package internal(set) var labels: [Bytes] = []
    /// The size of the request in bytes.
    var size = 0
    /// The lease had been asked to go before.
    var wasAsked = false

    init(_ step: Plan.Step) { self.step = step }

    /// The lease that it is about.
    var target: Int64 {
        switch step {
        case .grant(let lease), .revoke(let lease), .ask(let lease), .askDead(let lease): lease
        case .observe, .read, .write, .fence, .claim, .evict, .rehang, .remove, .nothing, .wait,
            .lose, .withdrawn, .superseded, .nameIsTaken, .contended, .stays, .leave, .left:
            lease
        }
    }

    package var isGrant: Bool { if case .grant = step { true } else { false } }

    /// The same with fewer labels.
    var canBeSmaller: Bool {
        if case .rehang = step { !labels.isEmpty } else { labels.count > 1 }
    }

    /// Whether a greeting that was refused so may be followed by another one on the same connection.
    func mayBeReplaced(after failure: Failure) -> Bool {
        guard case .fence = step else { return failure == .permission }
        return failure == .noSpace || !failure.refusesService
    }

    // MARK: - For the exploration of states

    package mutating func forEachRevision(_ body: (inout Int64) -> Void) {
        body(&revision)
        switch step {
        case .fence(var revision, let lease):
            body(&revision)
            step = .fence(revision: revision, lease: lease)
        case .evict(var revision, let lease):
            body(&revision)
            step = .evict(revision: revision, lease: lease)
        case .rehang(var revision, let from, let to):
            body(&revision)
            step = .rehang(revision: revision, from: from, to: to)
        case .remove(var revision):
            body(&revision)
            step = .remove(revision: revision)
        case .observe, .read, .write, .ask, .grant, .claim, .revoke, .askDead, .nothing, .wait,
            .lose, .withdrawn, .superseded, .nameIsTaken, .contended, .stays, .leave, .left:
            break
        }
    }
}

/// etcd's answer to it.
package enum RegistrationAnswer {
    case txn(TxnResponse)
    case range(RangeResponse)
    case grant(LeaseGrantResponse)
    case timeToLive(LeaseTimeToLiveResponse)
    case revoke(LeaseRevokeResponse)
    case refused(Failure, Text)
    /// Over the cap on messages; its size.
    case oversized(Int)
}
