// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import CSystem
import EtcdProtocol
import MetadataCore

/// The object behind `nixl_md_t`.
final class Handle {
    let gate: Gate
    let shared: SharedState
    let efd: Int32
    private let isAgent: Bool
    private let engine: Engine

    private init(gate: Gate, shared: SharedState, engine: Engine, isAgent: Bool) {
        self.gate = gate
        self.shared = shared
        self.engine = engine
        self.isAgent = isAgent
        efd = engine.wakeup.epoll
    }

    /// Opens no connection. A failure leaves nothing behind. Not an initialiser: in Embedded mode one of a class that
    /// throws leaks the object.
    static func open(_ configuration: Configuration) throws(Refusal) -> Handle {
        let usesTLS = configuration.endpoints.contains { $0.tls }
        if let reason = Transport.checkLibrary(tls: usesTLS) {
            throw Refusal(StatusCode.notSupported, reason)
        }
        let coreConfiguration = try configuration.forCore()
        let (gate, wakeup) = try openDescriptors()
        let transport = Transport(
            epoll: wakeup.epoll, endpoints: configuration.endpoints.map { $0.forTransport },
            tls: configuration.tls)
        guard let transport else {
            wakeup.close()
            gate.free()
            throw Refusal(StatusCode.backend, "libcurl has no memory")
        }
        let shared = SharedState(gate: gate, signal: wakeup.signal)
        let engine = Engine(
            core: MetadataCore(coreConfiguration, now: Engine.clock()), transport: transport,
            shared: shared, gate: gate, logger: configuration.logger, wakeup: wakeup,
            resolver: Resolver(hosts: configuration.endpoints.map { $0.host }),
            owner: configuration.owner)
        // The first tick connects.
        shared.wake()
        configuration.logSummary()
        return Handle(
            gate: gate, shared: shared, engine: engine, isAgent: configuration.agent != nil)
    }

    private static func openDescriptors() throws(Refusal) -> (Gate, Wakeup) {
        let gate = try Gate()
        do throws(Refusal) {
            return (gate, try Wakeup())
        } catch {
            gate.free()
            throw error
        }
    }

    static var forkedRefusal: Refusal {
        Refusal(
            StatusCode.forked,
            "the handle belongs to the parent process: close it in the child and open another")
    }

    /// The handle behind the host's pointer, for every call but close.
    static func of(_ md: OpaquePointer?) throws(Refusal) -> Handle {
        let handle = try unchecked(md)
        guard !handle.gate.isForked else { throw forkedRefusal }
        return handle
    }

    static func unchecked(_ md: OpaquePointer?) throws(Refusal) -> Handle {
        guard let md else { throw .invalid("md is NULL: pass the handle from nixl_md_open()") }
        return Unmanaged<Handle>.fromOpaque(UnsafeRawPointer(md)).takeUnretainedValue()
    }

    func checkIsAgent() throws(Refusal) {
        guard isAgent else {
            throw Refusal(
                StatusCode.notAllowed,
                "the handle is an observer, which writes nothing: set config.agent to a name")
        }
    }

    func start(
        _ kind: Operation.Kind, _ call: HostCall, _ options: Options, bytes: Int = 0,
        _ id: UnsafeMutablePointer<UInt64>?
    ) throws(Refusal) -> Int32 {
        try shared.start(kind, call, options, bytes: bytes, id)
        return StatusCode.success
    }

    func tick() throws(Refusal) -> Int32 {
        try gate.enter("nixl_md_tick")
        defer { gate.leave() }
        return try engine.tick()
    }

    /// Frees everything but the object itself.
    func close() throws(Refusal) {
        if gate.isForked { return try closeAfterFork() }
        try gate.enter("nixl_md_close")
        shared.close()
        engine.endOperations()
        // A callback forked, and this is the child.
        if gate.isForked { return engine.closeAfterFork() }
        engine.close()
        gate.free()
    }

    private func closeAfterFork() throws(Refusal) {
        guard !gate.isInside else { return try gate.enter("nixl_md_close") }
        guard gate.wasAtRest else {
            // Another thread was inside a tick or a call at the fork. It does not exist here and its work is half done,
            // so leak the memory.
            engine.closeDescriptorsAfterFork()
            _ = Unmanaged.passRetained(self)
            return
        }
        engine.closeAfterFork()
        gate.free()
    }
}

extension Engine {
    func close() {
        transport.close()
        forgetSecrets()
        resolver.close()
        wakeup.close()
    }

    /// No epoll_ctl, which would change the parent's set.
    func closeAfterFork() {
        transport.closeAfterFork()
        forgetSecrets()
        closeDescriptorsAfterFork()
    }

    private func forgetSecrets() {
        core.forgetSecrets()
        csystem_wipe_stack()
    }

    func closeDescriptorsAfterFork() {
        resolver.closeAfterFork()
        wakeup.close()
    }
}
