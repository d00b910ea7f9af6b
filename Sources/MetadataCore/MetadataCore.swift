// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import EtcdProtocol

/// What the core must know before it starts; checked by the shell.
public struct CoreConfiguration: Sendable {
    public struct Endpoint: Sendable {
        /// For people: `host:port` as it was given.
        public var name: Bytes
        /// Textual addresses; empty for a host name that is still to be resolved.
        public var addresses: [Bytes]
        /// A host name that can be resolved again with `Action.resolve`.
        public var canResolve: Bool

        public init(name: Bytes, addresses: [Bytes], canResolve: Bool) {
            self.name = name
            self.addresses = addresses
            self.canResolve = canResolve
        }
    }
    /// The namespace, byte for byte.
    public var namespace: Bytes
    /// nil: an observer.
    public var agent: Bytes?
    public var endpoints: [Endpoint]
    /// Empty: no authentication.
    public var user: Bytes
    public var password: Bytes
    public var refuseTakeover: Bool
    public var logLevel: LogLevel
    /// 128 random bits from the shell: lease ids and jitter come from it and from nothing else.
    public var seed: (UInt64, UInt64)

    public init(
        namespace: Bytes, agent: Bytes?, endpoints: [Endpoint], user: Bytes = [],
        password: Bytes = [], refuseTakeover: Bool = false, logLevel: LogLevel = .off,
        seed: (UInt64, UInt64)
    ) {
        self.namespace = namespace
        self.agent = agent
        self.endpoints = endpoints
        self.user = user
        self.password = password
        self.refuseTakeover = refuseTakeover
        self.logLevel = logLevel
        self.seed = seed
    }
}

/// What the core counts; see nixl_md_stats_t for the meaning of each.
public struct CoreCounters: Sendable {
    public var requests: UInt64 = 0
    public var requestsFailed: UInt64 = 0
    public var connects: UInt64 = 0
    public var connectsFailed: UInt64 = 0
    public var renewals: UInt64 = 0
    public var renewalsUnanswered: UInt64 = 0
    public var leasesLost: UInt64 = 0
    public var restores: UInt64 = 0
    public var events: UInt64 = 0
    public var resyncs: UInt64 = 0
    public var isConnected = false
    public var leaseID: Int64 = 0
    public var leaseTTL: Milliseconds = 0
    public var revision: Int64 = 0
}

/// The agent as a state machine: no clock, no I/O, no random source of its own.
///
/// After each input the shell takes all actions with `nextAction()`, performs them in order, and runs
/// callbacks with `nextNotice()` as far as its budget goes; what is left stays queued.
public final class MetadataCore {
    public private(set) var counters = CoreCounters()

    public init(_ configuration: CoreConfiguration, now: Milliseconds) {}

    /// A starting call. `timeout` nil: never. Its operation completes exactly once, by a notice.
    public func submit(
        _ call: HostCall, operation: OperationID, timeout: Milliseconds?, now: Milliseconds
    ) {}

    /// Cancels an operation or ends a watch; unknown ids (just completed) are ignored.
    public func cancel(_ operation: OperationID, now: Milliseconds) {}

    /// Begins the drain; `isShutDown` turns true when it is over.
    public func shutdown(drain: Milliseconds, now: Milliseconds) {}

    /// Something happened on the network.
    public func receive(_ event: NetworkEvent, now: Milliseconds) {}

    /// Time has passed: does what is due. Call it at `nextDeadline` at the latest.
    public func advance(now: Milliseconds) {}

    /// When `advance` has something to do next; nil: never.
    public var nextDeadline: Milliseconds? { nil }

    public func nextAction() -> Action? { nil }
    public func nextNotice() -> Notice? { nil }
    /// Notices that wait for `nextNotice()`.
    public var pendingNotices: Int { 0 }
    /// The drain is over and no notice is left.
    public var isShutDown: Bool { false }
}
