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

    func label() throws(Refusal) -> Bytes {
        try bytes(limit: NIXL_MD_MAX_LABEL, limitName: "NIXL_MD_MAX_LABEL")
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
    init(
        _ pointer: UnsafePointer<nixl_md_opts_t>?, allowed: Int = 0, isWatch: Bool = false
    ) throws(Refusal) {
        guard let pointer else { return }
        try checkSize("opts", pointer.pointee.size, MemoryLayout<nixl_md_opts_t>.size)
        let options = pointer.pointee
        flags = options.flags
        let unknown = flags & ~UInt32(allowed)
        guard unknown == 0 else {
            throw .invalid(
                "opts.flags has 0x\(hex: UInt64(unknown)), which this function does not know: leave it out"
            )
        }
        guard !isWatch || options.on_done == nil else {
            throw .invalid("opts.on_done is not NULL: a watch ends with its ENDED event instead")
        }
        if isWatch || options.timeout_ms == cnixlmd_never {
            timeout = nil
        } else if options.timeout_ms != 0 {
            timeout = try checkTime("opts.timeout_ms", options.timeout_ms)
        }
        onDone = options.on_done
        user = options.user
    }
}

/// A struct's own size: only the first version of each exists.
func checkSize(_ name: StaticString, _ size: UInt32, _ known: Int) throws(Refusal) {
    guard Int(size) == known else {
        throw .invalid(
            "\(name).size is \(size), not \(known): zero the struct and set size to its sizeof")
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
