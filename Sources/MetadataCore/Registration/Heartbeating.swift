// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// The heartbeat as a mode of the agent, and the operations that wait for it to have come, or gone.
package struct Heartbeating: Hashable {
    package struct Plan: Hashable {
        let interval: Milliseconds
        let seconds: Int64

        package init(interval: Milliseconds, seconds: Int64) {
            self.interval = interval
            self.seconds = seconds
        }
    }
    /// nil: off.
    private(set) var plan: Plan?
    /// A lease is wanted also while nothing is published.
    private(set) var wantsLease = false
    private var starts: [OperationID] = []
    private var stops: [OperationID] = []

    var isOn: Bool { plan != nil }
    var hasWaiting: Bool { !starts.isEmpty || !stops.isEmpty }

    mutating func start(_ operation: OperationID, _ plan: Plan, _ out: inout Effects) {
        self.plan = plan
        wantsLease = true
        starts.append(operation)
        let text: Text = "the heartbeat was started again before everything was off its lease"
        for stop in stops { out.complete(stop, .replaced, text) }
        stops = []
    }

    /// KEEP: completes when no key is left on the lease.
    mutating func stop(_ operation: OperationID, _ out: inout Effects) {
        end(.canceled, "the heartbeat was stopped before it had begun", &out)
        stops.append(operation)
    }

    /// Ends all renewals.
    mutating func end(_ status: Status, _ text: Text, _ out: inout Effects) {
        plan = nil
        wantsLease = false
        fail(status, text, &out)
    }

    mutating func failStarts(_ status: Status, _ text: Text, _ out: inout Effects) {
        for operation in starts { out.complete(operation, status, text) }
        starts = []
    }

    /// Ends all that waits.
    mutating func fail(_ status: Status, _ text: Text, _ out: inout Effects) {
        failStarts(status, text, &out)
        failStops(status, text, &out)
    }

    mutating func failStops(_ status: Status, _ text: Text, _ out: inout Effects) {
        for operation in stops { out.complete(operation, status, text) }
        stops = []
    }

    mutating func hasStarted(ttl: Milliseconds, _ out: inout Effects) {
        for operation in starts { out.complete(operation, .success, ttl: ttl) }
        starts = []
    }

    mutating func hasStopped(_ out: inout Effects) {
        for operation in stops { out.complete(operation, .success) }
        stops = []
    }

    mutating func abandon(_ operation: OperationID) {
        starts.drop { $0 == operation }
        stops.drop { $0 == operation }
    }

    /// A broken invariant, checked after each input by assertions; nil: none.
    var broken: StaticString? {
        if isOn { return stops.isEmpty ? nil : "a heartbeat that is on stops" }
        return wantsLease || !starts.isEmpty ? "a heartbeat that is off starts" : nil
    }

    /// Everything was withdrawn: the next lease comes with the next publish.
    mutating func nothingIsLeft() { wantsLease = !starts.isEmpty }
}
