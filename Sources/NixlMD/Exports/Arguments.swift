// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import CSystem
import EtcdProtocol
import MetadataCore

// Arguments of the host's calls: checked here, copied, and turned into what the core understands.

/// A pointer and a length from the host. The length may say that the text ends in NUL.
struct TextArgument {
    let name: StaticString
    let pointer: UnsafePointer<CChar>?
    let length: Int

    init(_ name: StaticString, _ pointer: UnsafePointer<CChar>?, _ length: Int) {
        self.name = name
        self.pointer = pointer
        self.length = length
    }

    /// 1 to `limit` bytes without NUL. `overLimit`: the status where there are more.
    func bytes(
        limit: Int32, limitName: StaticString, overLimit: Int32 = StatusCode.tooLarge
    ) throws(Refusal) -> Bytes {
        guard let pointer else { throw .invalid("\(name) is NULL: pass 1 to \(limit) bytes") }
        let endsInNUL = length == cnixlmd_nul_terminated
        // A length over the limit, whatever it claims, is not believed and not read.
        guard endsInNUL || (0...Int(limit)).contains(length) else {
            throw Refusal(
                overLimit,
                "\(name) has \(UInt(bitPattern: length)) bytes; the limit \(limitName) is \(limit)")
        }
        let bytes =
            endsInNUL
            ? Bytes(cString: pointer, limit: Int(limit) + 1)
            : Bytes(UnsafeRawBufferPointer(start: pointer, count: length))
        guard bytes.count <= limit else {
            throw Refusal(
                overLimit,
                "\(name) has more than \(limit) bytes, the limit \(limitName): '\(bytes, limit: 40)'"
            )
        }
        guard !bytes.isEmpty else { throw .invalid("\(name) is empty: pass 1 to \(limit) bytes") }
        guard let nul = bytes.firstIndex(of: 0) else { return bytes }
        throw .invalid("\(name) '\(bytes)' holds a NUL at byte \(nul): leave it out")
    }

    /// NULL: the default.
    func label() throws(Refusal) -> Bytes {
        guard pointer != nil else { return Bytes(cString: cnixlmd_default_label()) }
        return try bytes(limit: NIXL_MD_MAX_LABEL, limitName: "NIXL_MD_MAX_LABEL")
    }

    func agent(overLimit: Int32 = StatusCode.tooLarge) throws(Refusal) -> Bytes {
        let bytes = try bytes(
            limit: NIXL_MD_MAX_AGENT, limitName: "NIXL_MD_MAX_AGENT", overLimit: overLimit)
        guard !bytes.contains(UInt8(ascii: "/")) else {
            throw .invalid(
                "\(name) '\(bytes)' holds a '/', which ends an agent's name in etcd: rename it")
        }
        return bytes
    }
}

/// A blob to publish.
func copyBlob(_ blob: UnsafeRawPointer?, _ length: Int) throws(Refusal) -> Bytes {
    guard let blob else { throw .invalid("blob is NULL: pass 1 to \(cnixlmd_max_blob) bytes") }
    guard length != 0 else {
        throw .invalid("blob_len is 0: an empty value counts as absent, use nixl_md_unpublish()")
    }
    guard (1...cnixlmd_max_blob).contains(length) else {
        throw Refusal(
            StatusCode.tooLarge,
            "blob_len is \(UInt(bitPattern: length)); the limit NIXL_MD_MAX_BLOB is \(cnixlmd_max_blob)"
        )
    }
    // Where an allocation of Swift's fails, the process ends. Twice, since the request that carries it is a copy too.
    guard csystem_has_memory(2 * length) else {
        throw Refusal(
            StatusCode.backend,
            "the system has no memory left for a blob of \(length) bytes and its request")
    }
    return Bytes(copying: UnsafeRawBufferPointer(start: blob, count: length))
}

/// Any time-out, interval or TTL.
func checkTime(_ name: StaticString, _ milliseconds: UInt64) throws(Refusal) -> Milliseconds {
    guard milliseconds <= UInt64(NIXL_MD_MAX_TIMEOUT_MS) else {
        throw .invalid(
            "\(name) is \(milliseconds) ms; the limit NIXL_MD_MAX_TIMEOUT_MS is \(NIXL_MD_MAX_TIMEOUT_MS)"
        )
    }
    return milliseconds
}

/// The options of a starting call, checked.
struct Options {
    var flags: UInt32 = 0
    /// nil: never.
    var timeout: Milliseconds? = Milliseconds(NIXL_MD_DEFAULT_TIMEOUT_MS)
    var onDone: nixl_md_done_cb?
    /// Only of a watch, from its own argument.
    var onEvent: nixl_md_event_cb?
    var user: UnsafeMutableRawPointer?

    /// `allowed`: the flags that the function names.
    init(_ pointer: UnsafePointer<nixl_md_opts_t>?, allowed: UInt32 = 0) throws(Refusal) {
        guard let pointer else { return }
        try checkStruct("opts", pointer, known: MemoryLayout<nixl_md_opts_t>.size)
        let options = pointer.pointee
        flags = try Self.flags(options.flags, allowed: allowed)
        if options.timeout_ms == cnixlmd_never {
            timeout = nil
        } else if options.timeout_ms != 0 {
            timeout = try checkTime("opts.timeout_ms", options.timeout_ms)
        }
        onDone = options.on_done
        user = options.user
    }

    /// Those of a watch, which has no time-out.
    init(
        watch pointer: UnsafePointer<nixl_md_watch_opts_t>?, onEvent: @escaping nixl_md_event_cb
    ) throws(Refusal) {
        timeout = nil
        self.onEvent = onEvent
        guard let pointer else { return }
        try checkStruct("opts", pointer, known: MemoryLayout<nixl_md_watch_opts_t>.size)
        let options = pointer.pointee
        let either = NIXL_MD_WATCH_PRESENCE_ONLY.rawValue | NIXL_MD_WATCH_BLOBS.rawValue
        flags = try Self.flags(options.flags, allowed: either)
        guard flags != either else {
            throw .invalid(
                "opts.flags has both NIXL_MD_WATCH_PRESENCE_ONLY and NIXL_MD_WATCH_BLOBS: choose one"
            )
        }
        user = options.user
    }

    private static func flags(_ flags: UInt32, allowed: UInt32) throws(Refusal) -> UInt32 {
        let unknown = flags & ~allowed
        guard unknown == 0 else {
            throw .invalid(
                "opts.flags has 0x\(hex: UInt64(unknown)), which this function does not know: leave it out"
            )
        }
        return flags
    }
}

/// No struct of the interface will be longer; a size above it was never set.
private let structLimit = 1024

/// A struct that the host filled, maybe with a newer header: all that this version does not know must be zero. Its first
/// field is its size; `known` is that of this version.
func checkStruct(
    _ name: StaticString, _ given: UnsafeRawPointer, known: Int
) throws(Refusal) {
    let size = Int(given.load(as: UInt32.self))
    guard (known...structLimit).contains(size), size % MemoryLayout<UInt64>.alignment == 0 else {
        throw .invalid(
            "\(name).size is \(size), not \(known): zero the struct and set size to its sizeof")
    }
    for offset in known..<size where given.load(fromByteOffset: offset, as: UInt8.self) != 0 {
        throw Refusal(
            StatusCode.notSupported,
            "\(name).size is \(size), of which this library knows \(known), and the byte at offset \(offset) is not 0: leave the newer field at 0, or use a newer library"
        )
    }
}

/// Interval and TTL of a heartbeat with the defaults that nixl_md_start_heartbeat() states.
func heartbeatTimes(interval: UInt64, ttl: UInt64) throws(Refusal) -> (Milliseconds, seconds: Int64)
{
    let givenInterval = try checkTime("interval_ms", interval)
    let givenTTL = try checkTime("ttl_ms", ttl)
    var interval = givenInterval
    let least = Milliseconds(NIXL_MD_MIN_INTERVAL_MS)
    if interval == 0 {
        interval =
            givenTTL == 0 ? Milliseconds(NIXL_MD_DEFAULT_INTERVAL_MS) : max(givenTTL / 3, least)
    }
    guard interval >= least else {
        throw .invalid(
            "interval_ms is \(interval) ms; the least, NIXL_MD_MIN_INTERVAL_MS, is \(least)")
    }
    let ttl = try givenTTL == 0 ? checkTime("ttl_ms, 3 x interval_ms,", 3 * interval) : givenTTL
    guard ttl > interval else {
        throw .invalid(
            "ttl_ms \(ttl) is not greater than interval_ms \(interval): take 3 x the interval, or 0"
        )
    }
    return (interval, Int64((ttl + 999) / 1000))
}
