// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import EtcdProtocol
import MetadataCore

// The life of a handle, and queries.

@implementation @_cdecl("nixl_md_open")
public func nixl_md_open(
    _ config: UnsafePointer<nixl_md_config_t>!, _ md: UnsafeMutablePointer<OpaquePointer?>!
) -> Int32 {
    statusOf { () throws(Refusal) in
        guard let md else { throw .invalid("md is NULL: pass where to write the handle") }
        let handle = try Handle.open(Configuration(config))
        md.pointee = OpaquePointer(Unmanaged.passRetained(handle).toOpaque())
        return StatusCode.success
    }
}

@implementation @_cdecl("nixl_md_shutdown")
public func nixl_md_shutdown(_ md: OpaquePointer!, _ drain_ms: UInt64) -> Int32 {
    statusOf { () throws(Refusal) in
        let handle = try Handle.of(md)
        try handle.shared.shutdown(drain: checkTime("drain_ms", drain_ms))
        return StatusCode.success
    }
}

@implementation @_cdecl("nixl_md_close")
public func nixl_md_close(_ md: OpaquePointer!) -> Int32 {
    statusOf { () throws(Refusal) in
        let handle = try Handle.unchecked(md)
        try handle.close()
        Unmanaged.passUnretained(handle).release()
        return StatusCode.success
    }
}

@implementation @_cdecl("nixl_md_tick")
public func nixl_md_tick(_ md: OpaquePointer!) -> Int32 {
    statusOf { () throws(Refusal) in try Handle.of(md).tick() }
}

@implementation @_cdecl("nixl_md_efd")
public func nixl_md_efd(_ md: OpaquePointer!) -> Int32 {
    statusOf { () throws(Refusal) in try Handle.of(md).efd }
}

@implementation @_cdecl("nixl_md_deadline_ms")
public func nixl_md_deadline_ms(_ md: OpaquePointer!, _ ms: UnsafeMutablePointer<UInt64>!) -> Int32
{
    statusOf { () throws(Refusal) in
        let handle = try Handle.of(md)
        guard let ms else { throw .invalid("ms is NULL: pass where to write the time") }
        guard let due = handle.shared.nextDue else {
            ms.pointee = cnixlmd_never
            return StatusCode.success
        }
        let now = due == 0 ? 0 : Engine.clock()
        ms.pointee = due > now ? due - now : 0
        return StatusCode.success
    }
}

@implementation @_cdecl("nixl_md_get_stats")
public func nixl_md_get_stats(
    _ md: OpaquePointer!, _ stats: UnsafeMutablePointer<nixl_md_stats_t>!
) -> Int32 {
    statusOf { () throws(Refusal) in
        let handle = try Handle.of(md)
        guard let stats else { throw .invalid("stats is NULL: pass where to write the counters") }
        let known = MemoryLayout<nixl_md_stats_t>.size
        // A caller of a later version has a longer struct; `size` says how much this version fills.
        guard Int(stats.pointee.size) >= known else {
            throw .invalid(
                "stats.size is \(stats.pointee.size), less than \(known): set it to sizeof(nixl_md_stats_t)"
            )
        }
        var copy = handle.shared.statsOfLastTick
        copy.size = UInt32(known)
        stats.pointee = copy
        return StatusCode.success
    }
}
