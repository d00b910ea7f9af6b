// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import CSystem
import EtcdProtocol
import MetadataCore

/// A call of the host on its way to the core.
enum QueuedCall {
    case start(HostCall, OperationID, timeout: Milliseconds?)
    case cancel(OperationID)
    case shutdown(drain: Milliseconds)
    /// Has been given to the core, so that its blob is held once.
    case taken

    var blobBytes: Int {
        if case .start(.publish(_, let blob), _, _) = self { blob.count } else { 0 }
    }
}

/// State shared by the host's threads and the ticking thread, protected by the handle's lock. The lock is never held
/// while a callback runs.
final class SharedState {
    private let gate: Gate
    /// The eventfd: written to when there is something for a tick that no socket and no timer tells. It need not be read:
    /// epoll reports each write once (see `Wakeup`).
    private let signal: Int32
    private var isSignalled = false
    /// A tick that does something is under way; at its end it looks whether calls have come.
    private var isTicking = false
    private var isClosed = false
    private var isShuttingDown = false
    private var calls: [QueuedCall] = []
    private var operations = OperationTable()
    private var stats = nixl_md_stats_t()
    /// When the timer is armed to; nil: never.
    private var dueAt: Milliseconds?

    init(gate: Gate, signal: Int32) {
        self.gate = gate
        self.signal = signal
    }

    private func raiseSignal() {
        guard !isSignalled, !isTicking else { return }
        isSignalled = true
        csystem_signal_set(signal)
    }

    // MARK: Calls of the host

    /// `id` is written before a tick of another thread can run the operation's callback.
    func start(
        _ kind: Operation.Kind, _ call: HostCall, _ options: Options, bytes: Int,
        _ id: UnsafeMutablePointer<UInt64>?
    ) throws(Refusal) {
        try gate.locked { () throws(Refusal) in
            try checkIsOpen()
            guard bytes <= cnixlmd_max_queued_bytes - operations.bytes else {
                throw Refusal(
                    StatusCode.limit,
                    "\(operations.bytes) bytes of blobs wait to be sent; with \(bytes) more the limit NIXL_MD_MAX_QUEUED_BYTES of \(cnixlmd_max_queued_bytes) is exceeded: wait for completions"
                )
            }
            guard let operation = operations.add(kind, options, bytes: bytes) else {
                throw Refusal(
                    StatusCode.limit,
                    "\(operations.count) operations are open, the limit NIXL_MD_MAX_OPERATIONS: wait for completions or end watches"
                )
            }
            id?.pointee = operation
            calls.append(.start(call, operation, timeout: options.timeout))
            raiseSignal()
        }
    }

    /// false: no such operation is open.
    func cancel(_ id: OperationID) -> Bool {
        gate.locked {
            guard let operation = operations[id] else { return false }
            // A second cancel changes nothing.
            guard !operation.isCanceled else { return true }
            operations.markCanceled(id)
            calls.append(.cancel(id))
            raiseSignal()
            return true
        }
    }

    func shutdown(drain: Milliseconds) throws(Refusal) {
        try gate.locked { () throws(Refusal) in
            try checkIsOpen()
            isShuttingDown = true
            calls.append(.shutdown(drain: drain))
            raiseSignal()
        }
    }

    private func checkIsOpen() throws(Refusal) {
        guard !isShuttingDown, !isClosed else {
            // Without its type it would be a String, which brings 8 KiB of the standard library along.
            let state: StaticString = isClosed ? "being closed" : "shut down"
            throw Refusal(
                StatusCode.shutDown, "the handle is \(state): open a new one to go on")
        }
    }

    /// When a tick is next due by itself; 0: now; nil: never.
    var nextDue: Milliseconds? {
        gate.locked { isSignalled || !calls.isEmpty ? 0 : dueAt }
    }

    var statsOfLastTick: nixl_md_stats_t { gate.locked { stats } }

    // MARK: The ticking thread

    func wake() { gate.locked { raiseSignal() } }

    func countIdleTick() {
        gate.locked {
            stats.ticks &+= 1
            stats.ticks_idle &+= 1
        }
    }

    func beginTurn() {
        gate.locked {
            isTicking = true
            isSignalled = false
        }
    }

    /// The calls made since this was last asked, in order; `buffer` is what they are exchanged for.
    func takeCalls(_ buffer: inout [QueuedCall]) {
        gate.locked { swap(&calls, &buffer) }
    }

    /// `hasMore`: the tick has left something to the next.
    func endTurn(
        hasMore: Bool, dueAt: Milliseconds?,
        collect: (inout nixl_md_stats_t) -> Void
    ) {
        gate.locked {
            stats.ticks &+= 1
            collect(&stats)
            stats.operations_open = UInt64(operations.count)
            stats.watches_open = UInt64(operations.watches)
            self.dueAt = dueAt
            isTicking = false
            if hasMore || !calls.isEmpty { raiseSignal() }
        }
    }

    /// The operation that receives an event of a watch; nil: none. ENDED closes the watch.
    func listener(of watch: OperationID, isEnded: Bool) -> Operation? {
        gate.locked {
            if isEnded { return operations.remove(watch) }
            guard let operation = operations[watch], !operation.isCanceled else { return nil }
            return operation
        }
    }

    /// Ends an operation; nil: it is not open.
    func complete(_ id: OperationID) -> Operation? {
        gate.locked { operations.remove(id) }
    }

    // MARK: Close

    /// No call is accepted any more.
    func close() {
        gate.locked {
            isClosed = true
            isTicking = true
            calls.removeAll()
        }
    }

    func isWatch(_ id: OperationID) -> Bool {
        gate.locked { operations[id]?.kind == .watch }
    }

    var openOperations: [OperationID] { gate.locked { operations.ids } }
}
