// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import EtcdProtocol
import MetadataCore

// The starting calls.

@implementation @_cdecl("nixl_md_publish")
public func nixl_md_publish(
    _ md: OpaquePointer!, _ label: UnsafePointer<CChar>!, _ label_len: Int,
    _ blob: UnsafeRawPointer!, _ blob_len: Int, _ opts: UnsafePointer<nixl_md_opts_t>!,
    _ op: UnsafeMutablePointer<UInt64>!
) -> Int32 {
    statusOf { () throws(Refusal) in
        let handle = try Handle.of(md)
        let label = try TextArgument("label", label, label_len).label()
        let options = try Options(opts)
        try handle.checkIsAgent()
        let blob = try copyBlob(blob, blob_len)
        return try handle.start(
            .publish, .publish(label: label, blob: blob), options, bytes: blob.count, op)
    }
}

@implementation @_cdecl("nixl_md_unpublish")
public func nixl_md_unpublish(
    _ md: OpaquePointer!, _ label: UnsafePointer<CChar>!, _ label_len: Int,
    _ opts: UnsafePointer<nixl_md_opts_t>!, _ op: UnsafeMutablePointer<UInt64>!
) -> Int32 {
    statusOf { () throws(Refusal) in
        let handle = try Handle.of(md)
        let label = try TextArgument("label", label, label_len).label()
        let options = try Options(opts)
        try handle.checkIsAgent()
        return try handle.start(.unpublish, .unpublish(label: label), options, op)
    }
}

@implementation @_cdecl("nixl_md_start_heartbeat")
public func nixl_md_start_heartbeat(
    _ md: OpaquePointer!, _ interval_ms: UInt64, _ ttl_ms: UInt64,
    _ opts: UnsafePointer<nixl_md_opts_t>!, _ op: UnsafeMutablePointer<UInt64>!
) -> Int32 {
    statusOf { () throws(Refusal) in
        let handle = try Handle.of(md)
        let (interval, ttl) = try heartbeatTimes(interval: interval_ms, ttl: ttl_ms)
        let options = try Options(opts)
        try handle.checkIsAgent()
        return try handle.start(
            .startHeartbeat, .startHeartbeat(interval: interval, ttlSeconds: ttl), options, op)
    }
}

@implementation @_cdecl("nixl_md_stop_heartbeat")
public func nixl_md_stop_heartbeat(
    _ md: OpaquePointer!, _ mode: Int32, _ opts: UnsafePointer<nixl_md_opts_t>!,
    _ op: UnsafeMutablePointer<UInt64>!
) -> Int32 {
    statusOf { () throws(Refusal) in
        let handle = try Handle.of(md)
        let asked = nixl_md_heartbeat_mode(UInt32(bitPattern: mode))
        guard asked == NIXL_MD_HEARTBEAT_KEEP || asked == NIXL_MD_HEARTBEAT_WITHDRAW else {
            throw .invalid(
                "mode is \(mode): pass NIXL_MD_HEARTBEAT_KEEP or NIXL_MD_HEARTBEAT_WITHDRAW")
        }
        let options = try Options(opts)
        try handle.checkIsAgent()
        return try handle.start(
            .stopHeartbeat, .stopHeartbeat(keep: asked == NIXL_MD_HEARTBEAT_KEEP), options, op)
    }
}

@implementation @_cdecl("nixl_md_fetch")
public func nixl_md_fetch(
    _ md: OpaquePointer!, _ agent: UnsafePointer<CChar>!, _ agent_len: Int,
    _ label: UnsafePointer<CChar>!, _ label_len: Int, _ opts: UnsafePointer<nixl_md_opts_t>!,
    _ op: UnsafeMutablePointer<UInt64>!
) -> Int32 {
    statusOf { () throws(Refusal) in
        let handle = try Handle.of(md)
        let agent = try TextArgument("agent", agent, agent_len).agent()
        let label = try TextArgument("label", label, label_len).label()
        let options = try Options(opts, allowed: NIXL_MD_FETCH_NO_WAIT.rawValue)
        let wait = options.flags & NIXL_MD_FETCH_NO_WAIT.rawValue == 0
        return try handle.start(
            .fetch, .fetch(agent: agent, label: label, wait: wait), options, op)
    }
}

@implementation @_cdecl("nixl_md_watch")
public func nixl_md_watch(
    _ md: OpaquePointer!, _ agent: UnsafePointer<CChar>!, _ agent_len: Int,
    _ on_event: nixl_md_event_cb!, _ opts: UnsafePointer<nixl_md_watch_opts_t>!,
    _ watch: UnsafeMutablePointer<UInt64>!
) -> Int32 {
    statusOf { () throws(Refusal) in
        let handle = try Handle.of(md)
        let agent = try agent == nil ? nil : TextArgument("agent", agent, agent_len).agent()
        guard let onEvent = on_event else {
            throw .invalid("on_event is NULL: a watch needs a callback for its events")
        }
        let options = try Options(watch: opts, onEvent: onEvent)
        // A watch of the namespace that carries blobs moves every agent's to every agent.
        let isPresenceOnly =
            options.flags == 0
            ? agent == nil : options.flags == NIXL_MD_WATCH_PRESENCE_ONLY.rawValue
        return try handle.start(
            .watch, .watch(agent: agent, presenceOnly: isPresenceOnly), options, watch)
    }
}

@implementation @_cdecl("nixl_md_invalidate")
public func nixl_md_invalidate(
    _ md: OpaquePointer!, _ opts: UnsafePointer<nixl_md_opts_t>!,
    _ op: UnsafeMutablePointer<UInt64>!
) -> Int32 {
    statusOf { () throws(Refusal) in
        let handle = try Handle.of(md)
        let options = try Options(opts)
        try handle.checkIsAgent()
        return try handle.start(.invalidate, .invalidate, options, op)
    }
}

@implementation @_cdecl("nixl_md_list")
public func nixl_md_list(
    _ md: OpaquePointer!, _ opts: UnsafePointer<nixl_md_opts_t>!,
    _ op: UnsafeMutablePointer<UInt64>!
) -> Int32 {
    statusOf { () throws(Refusal) in
        let handle = try Handle.of(md)
        let options = try Options(opts)
        guard options.onDone != nil else {
            throw .invalid("opts.on_done is NULL: it receives the list")
        }
        return try handle.start(.list, .list, options, op)
    }
}

// MARK: - Ends of operations

@implementation @_cdecl("nixl_md_cancel")
public func nixl_md_cancel(_ md: OpaquePointer!, _ op: UInt64) -> Int32 {
    statusOf { () throws(Refusal) in
        let handle = try Handle.of(md)
        guard op != 0 else { throw .invalid("op is 0: pass the id from the starting call") }
        guard handle.shared.cancel(op) else {
            throw Refusal(
                StatusCode.notFound,
                "no open operation or watch has the id \(op); it may have ended")
        }
        return StatusCode.success
    }
}
