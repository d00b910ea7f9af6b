// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

// Inputs and outputs of the core. The shell (module NixlMD) or a simulator drives it. The core sees the world only
// through these types, and the same inputs give the same outputs.

import EtcdProtocol

/// Milliseconds of a clock that only moves forward (CLOCK_BOOTTIME in the shell).
public typealias Milliseconds = UInt64

/// Identifies an operation of the host: what the C interface calls `op` or `watch`. Never 0.
public typealias OperationID = UInt64
/// Identifies a unary request; chosen by the core, never used twice.
public typealias CallID = UInt64
/// Identifies a bidirectional stream; chosen by the core, never used twice.
public typealias StreamID = UInt64
/// Identifies one attempt to be connected to one endpoint; chosen by the core, never used twice.
public typealias ConnectionID = UInt64

// MARK: - Host to core

/// A starting call of the host, already checked by the shell.
public enum HostCall: Sendable {
    case publish(label: Bytes, blob: Bytes)
    case unpublish(label: Bytes)
    /// Both resolved and checked by the shell: `ttl` in whole seconds, greater than `interval`.
    case startHeartbeat(interval: Milliseconds, ttlSeconds: Int64)
    case stopHeartbeat(keep: Bool)
    case fetch(agent: Bytes, label: Bytes, wait: Bool)
    /// `agent` nil: the whole namespace.
    case watch(agent: Bytes?, presenceOnly: Bool)
    case invalidate
    case list
}

/// The outcome of an operation, a watch or a call. Mapped to C in one place.
public enum Status: Sendable, Hashable {
    case success, invalidParameter, backend, notFound, mismatch, notAllowed, unknown, notSupported
    case remoteDisconnect, canceled
    case timedOut, tooLarge, replaced, superseded, unauthenticated, permission, forked, busy
    case inCallback, shutDown, limit, noSpace
}

// MARK: - Core to host

/// A callback to run.
public enum Notice: Sendable {
    case completed(Completion)
    case event(WatchEvent)
    case ownership(OwnershipEvent)
}

/// The end of an operation that is not a watch.
public struct Completion: Sendable {
    public var operation: OperationID
    public var status: Status
    /// The cause of a failure and the remedy; empty on success.
    public var text: Text
    public var revision: Int64 = 0
    /// Only for a fetch that succeeded.
    public var blob: Bytes? = nil
    /// Only for a list that succeeded; sorted by name.
    public var agents: [PresentAgent]? = nil
    /// Only for a heartbeat that started.
    public var ttl: Milliseconds = 0

    public init(operation: OperationID, status: Status, text: Text = "") {
        self.operation = operation
        self.status = status
        self.text = text
    }
}

public struct PresentAgent: Sendable {
    public var name: Bytes
    /// 0 where the agent has no presence key.
    public var incarnation: UInt64
    public var revision: Int64
    /// The lease of the presence key; 0: none, or no presence key.
    public var lease: Int64

    public init(name: Bytes, incarnation: UInt64, revision: Int64, lease: Int64) {
        self.name = name
        self.incarnation = incarnation
        self.revision = revision
        self.lease = lease
    }
}

/// An event of one watch.
public struct WatchEvent: Sendable {
    public enum Kind: Sendable {
        case put(agent: Bytes, label: Bytes, blob: Bytes)
        case appeared(agent: Bytes, incarnation: UInt64)
        case delete(agent: Bytes, label: Bytes)
        case gone(agent: Bytes)
        case restarted(agent: Bytes, incarnation: UInt64)
        case returned(agent: Bytes, incarnation: UInt64)
        case synced
        case contactLost(Text)
        case contactRegained
        case resync(Text)
        /// The last event of the watch.
        case ended(Status, Text)
    }
    public var watch: OperationID
    public var kind: Kind
    public var revision: Int64

    public init(watch: OperationID, kind: Kind, revision: Int64 = 0) {
        self.watch = watch
        self.kind = kind
        self.revision = revision
    }
}

/// A change of this agent's own keys.
public enum OwnershipEvent: Sendable {
    case lost(Text)
    case restored(revision: Int64)
    case superseded(Text)
    case withdrawn(Text)
}

public enum LogLevel: Int32, Sendable, Comparable {
    case trace = 1, debug, info, warn, error, fatal, off

    public static func < (a: LogLevel, b: LogLevel) -> Bool { a.rawValue < b.rawValue }
}

// MARK: - Core to transport

/// Something for the shell to do. Performed in the order given.
public enum Action: Sendable {
    /// Open a connection to this address (a textual IPv4 or IPv6 address) of this endpoint (an index into the
    /// configuration). At most two are open: the one with calls and streams, and a second one beside it while that is silent.
    /// The second one sends its preface and SETTINGS and nothing else. It gets calls only after the first was disconnected or
    /// lost. On each connection the core sends a single call, and goes on when that is answered.
    case connect(ConnectionID, endpoint: Int, address: Bytes)
    /// Ask for a sign of life: send an empty SETTINGS frame. Its acknowledgement comes as `.heard`. One at a time.
    case probe(ConnectionID)
    /// Look at TCP_INFO: does the server's kernel acknowledge our bytes? Answered by `.path`.
    case examine(ConnectionID)
    /// Drop the connection with all calls and streams; none of them is answered any more.
    case disconnect(ConnectionID)
    /// Send a unary request (`frame`: with its gRPC prefix); answered by exactly one `.reply`, or by the
    /// `.connectionLost` of its connection. `token` empty: no authentication.
    case call(CallID, ConnectionID, EtcdMethod, frame: Bytes, token: Bytes)
    /// No answer is wanted any more.
    case abandonCall(CallID)
    case openStream(StreamID, ConnectionID, EtcdMethod, token: Bytes)
    case send(StreamID, frame: Bytes)
    /// No message of it is wanted any more.
    case closeStream(StreamID)
    /// Find the addresses of an endpoint given by name; answered by `.resolved`.
    case resolve(endpoint: Int)
    case log(LogLevel, Text)
}

// MARK: - Transport to core

/// Something that happened on the network.
public enum NetworkEvent: Sendable {
    case reply(CallID, Reply)
    /// One whole message of a stream, without its gRPC prefix.
    case message(StreamID, Bytes)
    case streamEnded(StreamID, Reply)
    /// Bytes have come, whatever they are: the peer's process lives. At most once per connection and reading, and not needed
    /// where a reply or a message says the same. The first one of a connection means that the server's SETTINGS have come.
    /// `acknowledges`: with them came the answer to `.probe`. `isMidMessage`: a large answer is under way.
    case heard(ConnectionID, acknowledges: Bool, isMidMessage: Bool)
    /// The answer to `.examine`. Dead: for a second TCP has acknowledged nothing although bytes are on their way, or it has not
    /// connected yet. A new connection then costs the server nothing. Otherwise the server's kernel holds our bytes, and our place in
    /// the server's queue is kept.
    case path(ConnectionID, isDead: Bool)
    /// The connection cannot be used any more (refused, reset, not HTTP/2, TLS failed, ...). Its calls
    /// and streams are gone; none of them is answered any more.
    case connectionLost(ConnectionID, Text)
    /// Addresses of an endpoint, textual; empty with a reason if there are none.
    case resolved(endpoint: Int, addresses: [Bytes], reason: Text)
}

/// How a call or a stream ended.
public enum Reply: Sendable {
    /// gRPC status 0 and the one message (for a stream: empty).
    case ok(Bytes)
    /// A gRPC status other than 0.
    case failed(GRPCStatus)
    /// A message larger than the stated cap was announced; its size.
    case tooLarge(Int)
    /// The server did nothing about it, and another connection may be asked (REFUSED_STREAM, or beyond what GOAWAY names).
    case unprocessed
}
