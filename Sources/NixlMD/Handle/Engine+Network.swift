// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CSystem
import EtcdProtocol
import MetadataCore

// The network's and the host's side of a tick: into the core, and out of it what it wants done.

extension Engine {
    /// Hears what sockets, the timer and the resolver have to say.
    func readNetwork(_ ready: borrowing ReadyList, _ count: Int) {
        now = Self.clock()
        // Leftover work of the last tick comes first. If it takes long, sockets stay readable for the next tick.
        hear()
        let hasTime = !meter.hasTaken(TickBudget.largeAfter)
        if hasTime { transport.readOn(now: now) }
        var hasRead = handle(ready, count, readsSockets: hasTime)
        hear()
        var left = TickBudget.rereads
        while hasRead, left > 0, transport.mayRead, !meter.hasTaken(TickBudget.networkTime),
            let deadline = core.nextDeadline, deadline <= now
        {
            left -= 1
            var again = ReadyList()
            guard let count = try? again.fill(from: wakeup), count > 0 else {
                hasRead = false
                break
            }
            hasRead = handle(again, count, readsSockets: true)
            hear()
        }
        hasHeardAll = !hasRead
        // libcurl may set up TLS here; what is due stays due.
        guard !meter.hasTaken(TickBudget.networkTime) else { return }
        transport.handleTimeout(now: now)
        hear()
    }

    /// Whether there was anything to read from a socket.
    private func handle(
        _ ready: borrowing ReadyList, _ count: Int, readsSockets: Bool
    ) -> Bool {
        var hasRead = false
        for i in 0..<count {
            let (descriptor, events) = (ready[i].descriptor, ready[i].events)
            if descriptor == resolver.descriptor {
                while let answer = resolver.nextAnswer() { core.receive(answer, now: now) }
            } else if wakeup.isSocket(descriptor) {
                if readsSockets { transport.handle(socket: descriptor, events: events, now: now) }
                if events & ~EpollEvent.write != 0 { hasRead = true }
            } else {
                wakeup.note(ready: descriptor)
            }
        }
        return hasRead
    }

    /// Gives the core what the transport has to report, as far as the budget goes.
    private func hear() {
        while let bytes = transport.nextEventBytes, mayHear(bytes) {
            guard let event = transport.nextEvent() else { return }
            eventsHeard += 1
            eventBytesHeard += bytes
            core.receive(event, now: now)
        }
    }

    private func mayHear(_ bytes: Int) -> Bool {
        if bytes >= TickBudget.largeMessage {
            return eventsHeard == 0 && !meter.hasTaken(TickBudget.largeAfter)
        }
        guard eventsHeard < TickBudget.events,
            eventBytesHeard + bytes <= TickBudget.eventBytes
        else { return false }
        return eventsHeard % TickBudget.stepsPerLook != 0
            || !meter.hasTaken(TickBudget.networkTime)
    }

    /// Gives the core what the host has asked for, as far as the budget goes.
    func takeCalls(_ now: Milliseconds) {
        if intakeTaken == intake.count {
            // Release the memory of a burst.
            intake.empty(keepingRoom: intake.count <= 1024)
            intakeTaken = 0
            shared.takeCalls(&intake)
        }
        while intakeTaken < intake.count, callsTaken < TickBudget.calls {
            let call = intake[intakeTaken]
            let bytes = call.blobBytes
            guard callsTaken == 0 || callBytesTaken + bytes <= TickBudget.callBytes else { return }
            intake[intakeTaken] = .taken
            intakeTaken += 1
            callsTaken += 1
            callBytesTaken += bytes
            switch call {
            case .start(let call, let operation, let timeout):
                core.submit(call, operation: operation, timeout: timeout, now: now)
            case .cancel(let operation):
                core.cancel(operation, now: now)
            case .shutdown(let drain):
                core.shutdown(drain: drain, now: now)
            case .taken: break
            }
            if callsTaken % TickBudget.stepsPerLook == 0, meter.hasTaken(TickBudget.callTime) {
                return
            }
        }
    }

    /// Performs what the core wants done, and hears what becomes of it at once.
    func settle(_ now: Milliseconds) {
        for _ in 0..<TickBudget.rounds {
            while let action = core.nextAction() {
                perform(action)
                // The log's callback may have forked, and in the child nothing of the parent's may be touched.
                guard !gate.isForked else { return }
            }
            // Where a connection is wanted, its time is now; without time for that it stays due.
            if !meter.hasTaken(TickBudget.networkTime) { transport.handleTimeout(now: now) }
            transport.flush(now: now)
            guard let bytes = transport.nextEventBytes, mayHear(bytes) else { return }
            hear()
        }
    }

    private func perform(_ action: Action) {
        switch action {
        case .resolve(let endpoint):
            if let answer = resolver.ask(endpoint: endpoint, wakeup: wakeup) {
                core.receive(answer, now: now)
            }
        case .log(let level, let text):
            log(level, text)
        default:
            transport.perform(action, now: now)
        }
    }

    private func log(_ level: LogLevel, _ text: Text) {
        guard logger.tells(level), !gate.isForked else { return }
        meter.excluding { logger.log(level, text) }
    }
}
