// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import EtcdProtocol
import MetadataCore

/// Puts notices of the core into the structs of the C interface and hands them to the host.
enum Delivery {
    private static let noText: StaticString = ""

    static func deliver(_ completion: Completion, to operation: Operation) {
        guard let onDone = operation.onDone else { return }
        var result = nixl_md_result_t()
        result.size = UInt32(MemoryLayout<nixl_md_result_t>.size)
        result.status = completion.status.code
        result.kind = operation.kind.code
        result.op = operation.id
        result.revision = completion.revision
        result.ttl_ms = completion.ttl
        withText(completion.text) { text in
            result.text = text
            if let blob = completion.blob {
                blob.withUnsafeBytes { bytes in
                    result.blob = bytes.baseAddress
                    result.blob_len = bytes.count
                    onDone(&result, operation.user)
                }
            } else if let agents = completion.agents {
                withAgents(agents) { pointers in
                    result.agents = pointers.baseAddress
                    result.agent_count = pointers.count
                    onDone(&result, operation.user)
                }
            } else {
                onDone(&result, operation.user)
            }
        }
    }

    static func deliver(_ event: WatchEvent, to operation: Operation) {
        guard let onEvent = operation.onEvent else { return }
        var parts = EventParts()
        parts.fields.watch = event.watch
        parts.fields.revision = event.revision
        parts.set(event.kind)
        parts.deliver(onEvent, operation.user)
    }

    static func deliver(
        _ event: OwnershipEvent, to onEvent: nixl_md_event_cb, user: UnsafeMutableRawPointer?,
        agent: Bytes
    ) {
        var parts = EventParts()
        parts.agent = agent
        switch event {
        case .lost(let text):
            parts.type = NIXL_MD_EVENT_LOST
            parts.text = text
        case .restored(let revision):
            parts.type = NIXL_MD_EVENT_RESTORED
            parts.fields.revision = revision
        case .superseded(let text):
            parts.type = NIXL_MD_EVENT_SUPERSEDED
            parts.text = text
        case .withdrawn(let text):
            parts.type = NIXL_MD_EVENT_WITHDRAWN
            parts.text = text
        }
        parts.deliver(onEvent, user)
    }

    fileprivate static func withText(_ text: Text, _ body: (UnsafePointer<CChar>) -> Void) {
        if text.isEmpty { body(noText.cString) } else { text.bytes.asCString(body) }
    }

    /// The agents as the interface has them: pointers to structs, which point to names.
    private static func withAgents(
        _ agents: [PresentAgent],
        _ body: (UnsafeBufferPointer<UnsafePointer<nixl_md_agent_t>?>) -> Void
    ) {
        var names = Bytes()
        for agent in agents { names.append(contentsOf: agent.name) }
        names.withUnsafeBytes { names in
            var offset = 0
            let structs = agents.map { agent in
                var entry = nixl_md_agent_t()
                entry.size = UInt32(MemoryLayout<nixl_md_agent_t>.size)
                entry.name = names.baseAddress?.advanced(by: offset)
                    .assumingMemoryBound(to: CChar.self)
                entry.name_len = agent.name.count
                entry.incarnation = agent.incarnation
                entry.revision = agent.revision
                entry.lease_id = UInt64(bitPattern: agent.lease)
                offset += agent.name.count
                return entry
            }
            structs.withUnsafeBufferPointer { structs in
                let pointers = structs.indices.map { structs.baseAddress?.advanced(by: $0) }
                pointers.withUnsafeBufferPointer(body)
            }
        }
    }
}

/// The parts of an event, which must live while the struct points to them.
private struct EventParts {
    var type = nixl_md_event_type(0)
    var agent: Bytes?
    var label: Bytes?
    var blob: Bytes?
    var text: Text = ""
    /// The fields that are not pointers.
    var fields = nixl_md_event_t()

    mutating func set(_ kind: WatchEvent.Kind) {
        switch kind {
        case .put(let agent, let label, let blob):
            (type, self.agent, self.label, self.blob) = (NIXL_MD_EVENT_PUT, agent, label, blob)
        case .appeared(let agent, let incarnation):
            set(NIXL_MD_EVENT_PRESENT, agent, incarnation)
        case .delete(let agent, let label):
            (type, self.agent, self.label) = (NIXL_MD_EVENT_DELETE, agent, label)
        case .gone(let agent):
            set(NIXL_MD_EVENT_GONE, agent, 0)
        case .restarted(let agent, let incarnation):
            set(NIXL_MD_EVENT_RESTARTED, agent, incarnation)
        case .returned(let agent, let incarnation):
            set(NIXL_MD_EVENT_RETURNED, agent, incarnation)
        case .synced: type = NIXL_MD_EVENT_SYNCED
        case .contactLost(let text):
            (type, self.text) = (NIXL_MD_EVENT_CONTACT_LOST, text)
        case .contactRegained: type = NIXL_MD_EVENT_CONTACT_REGAINED
        case .resync(let text): (type, self.text) = (NIXL_MD_EVENT_RESYNC, text)
        case .ended(let status, let text):
            (type, self.text) = (NIXL_MD_EVENT_ENDED, text)
            fields.status = status.code
        }
    }

    private mutating func set(_ type: nixl_md_event_type, _ agent: Bytes, _ incarnation: UInt64) {
        self.type = type
        self.agent = agent
        fields.incarnation = incarnation
    }

    func deliver(_ callback: nixl_md_event_cb, _ user: UnsafeMutableRawPointer?) {
        var event = fields
        event.size = UInt32(MemoryLayout<nixl_md_event_t>.size)
        event.type = Int32(bitPattern: type.rawValue)
        Self.withOptional(agent) { agent in
            Self.withOptional(label) { label in
                Self.withOptional(blob) { blob in
                    Delivery.withText(text) { text in
                        event.agent = agent.baseAddress?.assumingMemoryBound(to: CChar.self)
                        event.agent_len = agent.count
                        event.label = label.baseAddress?.assumingMemoryBound(to: CChar.self)
                        event.label_len = label.count
                        event.blob = blob.baseAddress
                        event.blob_len = blob.count
                        event.text = text
                        callback(&event, user)
                    }
                }
            }
        }
    }

    private static func withOptional(_ bytes: Bytes?, _ body: (UnsafeRawBufferPointer) -> Void) {
        if let bytes {
            bytes.withUnsafeBytes(body)
        } else {
            body(UnsafeRawBufferPointer(start: nil, count: 0))
        }
    }
}
