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
        var hasTime = true
        if transport.pendingEvents > 0 {
            // What the last tick left comes first. Where that takes long, sockets stay readable for the next.
            hear()
            hasTime = meter.cpu < TickBudget.intakeTime
        }
        var hasRead = handle(ready, count, readsSockets: hasTime)
        hear()
        var left = TickBudget.rereads
        while hasRead, left > 0, meter.cpu < TickBudget.intakeTime,
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
        // libcurl reads here too; what is due stays due.
        guard meter.cpu < TickBudget.intakeTime else { return }
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

    /// Gives the core what the transport has to tell, as far as the time goes. What is left is the first that the next
    /// tick does, so that at least one event is told in it, however large.
    private func hear() {
        var steps = 0
        var bytes = 0
        while let next = transport.nextEventBytes {
            if steps == TickBudget.stepsPerLook || bytes + next >= TickBudget.bytesPerLook {
                let isLarge = next >= TickBudget.largeMessage
                if meter.cpu > (isLarge ? TickBudget.largeAfter : TickBudget.intakeTime) { return }
                steps = 0
                bytes = 0
            }
            guard let event = transport.nextEvent() else { return }
            steps += 1
            bytes += next
            core.receive(event, now: now)
        }
    }

    /// Gives the core what the host has asked for, as far as the time goes.
    func takeCalls(_ now: Milliseconds) {
        if intakeTaken == intake.count {
            // A burst must not keep its memory for ever.
            intake.removeAll(keepingCapacity: intake.count <= 1024)
            intakeTaken = 0
            shared.takeCalls(&intake)
        }
        guard intakeTaken < intake.count else { return }
        let start = meter.cpu
        while intakeTaken < intake.count {
            let call = intake[intakeTaken]
            intake[intakeTaken] = .taken
            intakeTaken += 1
            switch call {
            case .start(let call, let operation, let timeout):
                core.submit(call, operation: operation, timeout: timeout, now: now)
            case .cancel(let operation):
                core.cancel(operation, now: now)
            case .shutdown(let drain):
                core.shutdown(drain: drain, now: now)
            case .taken: break
            }
            if intakeTaken % TickBudget.stepsPerLook == 0, meter.cpu - start > TickBudget.intakeTime
            {
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
            // libcurl begins a transfer when its time-out, which is then now, is handled, and reads what it can. Without
            // time for that it stays due, and the next tick begins the transfer.
            if let timeout = transport.timeout, timeout <= now {
                guard meter.cpu < TickBudget.intakeTime else { return }
                transport.handleTimeout(now: now)
            }
            guard transport.pendingEvents > 0, meter.cpu < TickBudget.intakeTime else { return }
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
