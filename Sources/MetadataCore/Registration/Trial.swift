// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// The attempts after etcd refused permission. Somebody may have attached a key to our lease that we may not write:
/// then etcd refuses every request on that lease (server/etcdserver/apply, checkLeasePuts). Or one label of several is
/// forbidden.
struct Trial: Hashable {
    private enum Phase: Hashable {
        case none, onAnotherLease
        /// And each label by itself.
        case labelsApart
    }
    private var phase = Phase.none
    private var lease: Int64 = 0
    private var since: Milliseconds = 0
    /// Labels that were refused and not written on that lease yet; nil: renewals were.
    private var refused: [Bytes]?

    var writesApart: Bool { phase == .labelsApart }

    func isOn(_ lease: Int64) -> Bool { phase != .none && lease == self.lease }

    /// After an attempt without a result, the next one would move all labels: wait.
    func mayBegin(_ target: Int64, _ now: Milliseconds) -> Bool {
        !isOn(target) || now >= since &+ Timing.trialPause
    }

    mutating func begin(_ lease: Int64, _ now: Milliseconds, refused: [Bytes]?) {
        // Where nothing is wanted there is none.
        guard lease != 0 else { return }
        if phase == .none { phase = .onAnotherLease }
        (self.lease, since) = (lease, now)
        self.refused = refused
    }

    /// Another answer of before.
    mutating func wasRefused(_ labels: [Bytes]) { refused?.append(contentsOf: labels) }

    /// Once what was refused is written, it was the other lease: what is refused from here on has another reason.
    mutating func wrote(_ labels: [Bytes], on lease: Int64) {
        guard isOn(lease), refused != nil else { return }
        refused?.drop { labels.contains($0) }
        if refused?.isEmpty ?? false { phase = .none }
    }

    /// It alone is renewed, so no label had to stay on the other.
    mutating func renewed(_ lease: Int64) {
        if isOn(lease), refused == nil { phase = .none }
    }

    mutating func takeApart() { phase = .labelsApart }

    mutating func connectionIsLost() {
        if phase == .labelsApart { phase = .onAnotherLease }
    }

    mutating func isOver() { phase = .none }

    /// A broken invariant, checked after each input by assertions; nil: none.
    var broken: StaticString? { phase != .none && lease == 0 ? "a trial on no lease" : nil }

    /// For the exploration of states.
    mutating func rebase(_ base: Milliseconds) { since = base }
}
