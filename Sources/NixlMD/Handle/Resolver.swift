// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CSystem
import EtcdProtocol
import MetadataCore

/// Finds addresses of host names, on helper threads.
struct Resolver {
    private let hosts: [Bytes]
    private var mailbox: OpaquePointer?
    /// Endpoints that a thread asks for.
    private var underWay: [Bool]
    private(set) var threadsStarted: UInt64 = 0

    /// `hosts`: of the endpoints.
    init(hosts: [Bytes]) {
        self.hosts = hosts
        underWay = [Bool](repeating: false, count: hosts.count)
    }

    /// Readable when there is something to take; nil: nothing was ever asked.
    var descriptor: Int32? { mailbox.map { csystem_mailbox_descriptor($0) } }

    /// Starts to resolve; what keeps it from starting is the answer, the same as what it finds.
    mutating func ask(endpoint: Int, wakeup: Wakeup) -> NetworkEvent? {
        guard hosts.indices.contains(endpoint) else { return nil }
        guard !underWay[endpoint] else { return nil }
        do throws(Refusal) {
            let mailbox = try openMailbox(wakeup)
            let error = hosts[endpoint].asCString {
                csystem_mailbox_ask(mailbox, $0, UInt32(endpoint))
            }
            guard error == 0 else { throw .system("pthread_create (to resolve a name)", error) }
        } catch {
            return .resolved(endpoint: endpoint, addresses: [], reason: error.text)
        }
        underWay[endpoint] = true
        threadsStarted += 1
        return nil
    }

    private mutating func openMailbox(_ wakeup: Wakeup) throws(Refusal) -> OpaquePointer {
        if let mailbox { return mailbox }
        var error: Int32 = 0
        guard let opened = csystem_mailbox_new(&error) else { throw .system("eventfd", error) }
        do throws(Refusal) {
            try wakeup.add(csystem_mailbox_descriptor(opened))
        } catch {
            csystem_mailbox_close(opened)
            throw error
        }
        mailbox = opened
        return opened
    }

    /// The next answer of a resolver thread.
    mutating func nextAnswer() -> NetworkEvent? {
        guard let mailbox else { return nil }
        var result = csystem_resolution()
        guard csystem_mailbox_take(mailbox, &result) else { return nil }
        let endpoint = Int(result.tag)
        underWay[endpoint] = false
        return .resolved(
            endpoint: endpoint, addresses: Self.addresses(&result),
            reason: Self.reason(hosts[endpoint], result))
    }

    /// Resolves on this thread: blocks.
    static func resolveNow(_ host: Bytes) throws(Refusal) -> [Bytes] {
        var result = csystem_resolution()
        host.asCString { csystem_resolve($0, &result) }
        let addresses = addresses(&result)
        guard !addresses.isEmpty else {
            throw Refusal(StatusCode.notFound, reason(host, result))
        }
        return addresses
    }

    private static func addresses(_ result: inout csystem_resolution) -> [Bytes] {
        var addresses: [Bytes] = []
        for i in 0..<result.count {
            addresses.append(Bytes(cString: csystem_address(&result, i)))
        }
        return addresses
    }

    private static func reason(_ host: Bytes, _ result: csystem_resolution) -> Text {
        guard result.error != 0 else { return "" }
        let text = Bytes(cString: csystem_resolve_error_text(result.error))
        return "the name '\(host)' could not be resolved: \(text)"
    }

    func close() {
        if let mailbox { csystem_mailbox_close(mailbox) }
    }

    func closeAfterFork() {
        if let mailbox { csystem_mailbox_close_after_fork(mailbox) }
    }
}
