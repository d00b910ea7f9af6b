// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import MetadataCore

// A core with operations of all kinds against a server that says anything, in any order. A trap is a find, and so is an
// operation that ends twice or never, work without end, or a deadline that is due and does nothing.

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = FuzzInput(start, count)
    let server = AnyServer(&input)
    var steps = 0
    while !input.isAtEnd, steps < 1000 {
        server.step(&input)
        steps += 1
    }
    server.end()
    return 0
}

private final class AnyServer {
    let core: MetadataCore
    var now: Milliseconds = 1_000_000
    var connection: ConnectionID = 0
    var calls: [(id: CallID, method: EtcdMethod)] = []
    var watchStream: StreamID = 0
    var keepAlive: StreamID = 0
    var lastWatch: Int64 = 0
    var revision: Int64 = 5
    var lastOperation: OperationID = 0
    /// Operations that have not ended.
    var open: Set<OperationID> = []
    var watches: Set<OperationID> = []
    var actions = 0

    init(_ input: inout FuzzInput) {
        let flags = input.byte()
        var configuration = CoreConfiguration(
            namespace: Bytes("n"), agent: flags & 1 == 0 ? Bytes("a") : nil,
            endpoints: (0...Int(flags >> 1 & 1)).map { index in
                CoreConfiguration.Endpoint(
                    name: Bytes("e"), addresses: [[UInt8(index)]], canResolve: flags & 4 != 0)
            },
            user: flags & 8 != 0 ? Bytes("u") : [], refuseTakeover: flags & 16 != 0,
            logLevel: flags & 32 != 0 ? .trace : .off, seed: (1, 2))
        if flags & 64 != 0 { configuration.noticeLimit = 8 }
        core = MetadataCore(configuration, now: now)
        let isAgent = flags & 1 == 0
        if isAgent {
            submit(.startHeartbeat(interval: 1000, ttlSeconds: 5))
            submit(.publish(label: Bytes("l"), blob: Bytes("1")))
        }
        submit(.watch(agent: nil, presenceOnly: flags & 128 == 0))
        submit(.watch(agent: Bytes("b"), presenceOnly: false))
        submit(.fetch(agent: Bytes("b"), label: Bytes("l"), wait: true))
        submit(.list)
        settle()
    }

    // MARK: - The host

    func submit(_ call: HostCall) {
        lastOperation += 1
        open.insert(lastOperation)
        var timeout: Milliseconds? = 5000
        if case .watch = call {
            watches.insert(lastOperation)
            timeout = nil
        }
        core.submit(call, operation: lastOperation, timeout: timeout, now: now)
    }

    private func ask(_ input: inout FuzzInput) {
        guard open.count < 64 else { return }
        let label = [UInt8(ascii: "l") + UInt8(input.number(3))]
        switch input.number(9) {
        case 0: submit(.publish(label: label, blob: [UInt8](repeating: 1, count: input.number(40))))
        case 1: submit(.unpublish(label: label))
        case 2: submit(.startHeartbeat(interval: 500, ttlSeconds: 2))
        case 3: submit(.stopHeartbeat(keep: input.number(2) == 0))
        case 4: submit(.fetch(agent: Bytes("b"), label: label, wait: input.number(2) == 0))
        case 5: submit(.watch(agent: input.number(2) == 0 ? nil : Bytes("b"), presenceOnly: true))
        case 6: submit(.invalidate)
        case 7: submit(.list)
        default: core.cancel(OperationID(input.number(Int(min(lastOperation, 200)) + 1)), now: now)
        }
    }

    // MARK: - The world

    func step(_ input: inout FuzzInput) {
        switch input.number(14) {
        case 0...4: reply(&input)
        case 5...7: say(watchMessage(&input), on: watchStream)
        case 8:
            say(
                message(&input) {
                    $0.int(2, lease(&$1)); $0.int(3, Int64(Int8(bitPattern: $1.byte())))
                }, on: keepAlive)
        case 9: ask(&input)
        case 10: wait(Milliseconds(input.byte()) * 20)
        case 11:
            switch input.number(5) {
            case 0: core.receive(.connectionLost(connection, "lost"), now: now)
            case 1: core.receive(.streamEnded(watchStream, .tooLarge(1 << 25)), now: now)
            case 2: core.receive(.streamEnded(keepAlive, .failed(status(&input))), now: now)
            case 3:
                core.receive(.heard(connection, acknowledges: false, isMidMessage: true), now: now)
            default:
                core.receive(
                    .resolved(endpoint: input.number(4), addresses: [input.take(2)], reason: ""),
                    now: now)
            }
        case 12:
            say(input.take(input.number(64)), on: input.number(2) == 0 ? watchStream : keepAlive)
        default: takeNotices(input.number(20))
        }
        settle()
    }

    private func reply(_ input: inout FuzzInput) {
        guard !calls.isEmpty else { return }
        let call = calls.remove(at: input.number(min(calls.count, 200)))
        let answer: Reply =
            switch input.number(12) {
            case 0: .ok(input.take(input.number(64)))
            case 1: .failed(status(&input))
            case 2: .tooLarge(input.number(2) << 25)
            default: .ok(answer(call.method, &input))
            }
        core.receive(.reply(call.id, answer), now: now)
    }

    private func status(_ input: inout FuzzInput) -> GRPCStatus {
        let texts: [StaticString] = [
            "", "etcdserver: requested lease not found", "etcdserver: lease already exists",
            "etcdserver: mvcc: required revision has been compacted", "permission denied",
            "etcdserver: request is too large", "etcdserver: mvcc: database space exceeded",
            "etcdserver: revision of auth store is old",
            "etcdserver: authentication is not enabled",
        ]
        let code = Int32(input.number(18))
        return GRPCStatus(code: code, message: Bytes(texts[input.number(texts.count)]))
    }

    private func say(_ bytes: Bytes, on stream: StreamID) {
        if stream != 0 { core.receive(.message(stream, bytes), now: now) }
    }

    /// Does what the core wants, without answering.
    func settle() {
        while let action = core.nextAction() {
            actions += 1
            precondition(actions < 200_000, "work without end")
            switch action {
            case .connect(let id, _, _):
                connection = id
                forget()
            case .disconnect: forget()
            case .call(let id, _, let method, let frame, _):
                precondition(frame.count >= 5)
                calls.append((id, method))
            case .openStream(let id, _, let method, _):
                if method == .watch { watchStream = id } else { keepAlive = id }
            case .closeStream(let id):
                if id == keepAlive { keepAlive = 0 }
                if id == watchStream { watchStream = 0 }
            case .abandonCall(let id): calls.removeAll { $0.id == id }
            case .send(let stream, _):
                if stream == watchStream { lastWatch += 1 }
            case .probe, .examine, .resolve, .log: break
            }
        }
    }

    private func forget() {
        calls = []
        watchStream = 0
        keepAlive = 0
    }

    private func wait(_ duration: Milliseconds) {
        let end = now + duration
        var advances = 0
        while true {
            core.advance(now: now)
            settle()
            takeNotices(256)
            advances += 1
            precondition(advances < 2000, "a deadline that is due and does nothing")
            guard let deadline = core.nextDeadline, deadline <= end else { break }
            now = max(now, deadline)
        }
        now = end
    }

    private func takeNotices(_ count: Int) {
        for _ in 0..<count {
            guard let notice = core.nextNotice() else { return }
            switch notice {
            case .completed(let completion): ended(completion.operation, isWatch: false)
            case .event(let event):
                precondition(open.contains(event.watch), "an event behind the end")
                if case .ended = event.kind { ended(event.watch, isWatch: true) }
            case .ownership: break
            }
        }
    }

    private func ended(_ operation: OperationID, isWatch: Bool) {
        precondition(open.remove(operation) != nil, "an operation that ended twice")
        precondition(watches.contains(operation) == isWatch)
    }

    /// Nobody says anything any more: all that has a time-out ends in it.
    func end() {
        takeNotices(.max)
        wait(20_000)
        takeNotices(.max)
        precondition(open.subtracting(watches).isEmpty, "an operation that never ends")
        core.shutdown(drain: 1000, now: now)
        wait(5000)
        takeNotices(.max)
        precondition(open.isEmpty, "a watch that outlives its handle")
        precondition(core.isShutDown)
    }

    // MARK: - Messages that are nearly right

    private func message(
        _ input: inout FuzzInput, _ body: (inout Message, inout FuzzInput) -> Void
    ) -> Bytes {
        var message = Message()
        let kind = input.byte()
        switch kind {
        case 250...: break
        case 240..<250: revision = Int64(Int8(bitPattern: input.byte()))
        default: revision += Int64(kind & 1)
        }
        if kind < 250 {
            var header = Message()
            header.int(1, kind == 249 ? 7 : 1)
            header.int(3, revision)
            message.bytes(1, header.data)
        }
        body(&message, &input)
        return message.data
    }

    private func lease(_ input: inout FuzzInput) -> Int64 {
        input.number(4) == 0 ? Int64(input.byte()) : core.counters.leaseID
    }

    private func keyValue(_ input: inout FuzzInput) -> Bytes {
        let keys: [StaticString] = [
            "n/a/", "n/a/l", "n/a/m", "n/b/", "n/b/l", "n/b/x", "n/c/y", "n//z", "m",
        ]
        var message = Message()
        message.bytes(1, Bytes(keys[input.number(keys.count)]))
        message.int(2, max(1, revision - Int64(input.number(4))))
        message.int(3, revision - Int64(input.number(4)))
        if input.number(3) > 0 { message.bytes(5, [1]) }
        if input.number(2) > 0 { message.int(6, lease(&input)) }
        return message.data
    }

    private func range(_ message: inout Message, _ input: inout FuzzInput) {
        for _ in 0..<input.number(5) { message.bytes(2, keyValue(&input)) }
        if input.number(8) == 0 { message.int(3, 1) }
    }

    private func answer(_ method: EtcdMethod, _ input: inout FuzzInput) -> Bytes {
        message(&input) { message, input in
            switch method {
            case .range: self.range(&message, &input)
            case .txn:
                message.int(2, Int64(input.number(4) > 0 ? 1 : 0))
                for _ in 0..<input.number(4) {
                    var op = Message()
                    var inner = Message()
                    inner.int(2, Int64(input.number(2)))
                    op.bytes(UInt64(input.number(4)) + 1, inner.data)
                    message.bytes(3, op.data)
                }
            case .leaseGrant, .leaseTimeToLive, .leaseKeepAlive:
                message.int(2, self.lease(&input))
                message.int(3, Int64(Int8(bitPattern: input.byte())))
            case .authenticate: message.bytes(2, input.take(input.number(20)))
            case .leaseRevoke, .watch: break
            }
        }
    }

    private func watchMessage(_ input: inout FuzzInput) -> Bytes {
        message(&input) { message, input in
            message.int(2, input.number(3) == 0 ? self.lastWatch : Int64(input.number(12)))
            switch input.number(6) {
            case 0, 1: message.int(3, 1)
            case 2:
                message.int(4, 1)
                if input.number(2) == 0 { message.int(5, self.revision + Int64(input.number(3))) }
                if input.number(2) == 0 { message.bytes(6, Bytes("permission denied")) }
                if input.number(2) == 0 { message.int(3, 1) }
            default:
                if input.number(4) == 0 { message.int(7, 1) }
                for _ in 0..<input.number(6) {
                    var event = Message()
                    event.int(1, Int64(input.number(2)))
                    event.bytes(2, self.keyValue(&input))
                    message.bytes(11, event.data)
                }
            }
        }
    }
}

/// A message that is being written.
private struct Message {
    private(set) var data = Bytes()

    private mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            data.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        data.append(UInt8(truncatingIfNeeded: rest))
    }

    mutating func int(_ field: UInt64, _ value: Int64) {
        varint(field << 3)
        varint(UInt64(bitPattern: value))
    }

    mutating func bytes(_ field: UInt64, _ value: Bytes) {
        varint(field << 3 | 2)
        varint(UInt64(value.count))
        data.append(contentsOf: value)
    }
}
