// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CSystem
import EtcdProtocol

/// Who may be inside a handle: the lock, the turn and the fork check of CSystem.
struct Gate {
    private let pointer: OpaquePointer

    init() throws(Refusal) {
        var error: Int32 = 0
        guard let pointer = csystem_guard_new(&error) else {
            throw .system("calloc", error)
        }
        self.pointer = pointer
    }

    func free() { csystem_guard_free(pointer) }

    /// Whether the handle belongs to a parent of this process.
    var isForked: Bool { csystem_guard_is_forked(pointer) }
    /// In a forked child: whether no thread was inside the handle at the fork.
    var wasAtRest: Bool { csystem_guard_was_at_rest(pointer) }
    /// Whether the calling thread is inside tick or close, so in a callback.
    var isInside: Bool { csystem_guard_is_inside(pointer) }

    /// Takes the turn for `function`, which ends with `leave()`.
    func enter(_ function: StaticString) throws(Refusal) {
        switch Int(csystem_guard_enter(pointer)) {
        case CSYSTEM_TURN_TAKEN: return
        case CSYSTEM_TURN_IS_OURS:
            throw Refusal(
                StatusCode.inCallback,
                "\(function)() was called from inside a callback: call it after nixl_md_tick() has returned"
            )
        default:
            throw Refusal(
                StatusCode.busy,
                "\(function)() was called while another thread is inside tick or close: one at a time"
            )
        }
    }

    func leave() { csystem_guard_leave(pointer) }

    func locked<Result>(_ body: () -> Result) -> Result {
        csystem_guard_lock(pointer)
        defer { csystem_guard_unlock(pointer) }
        return body()
    }

    func locked<Result>(_ body: () throws(Refusal) -> Result) throws(Refusal) -> Result {
        csystem_guard_lock(pointer)
        defer { csystem_guard_unlock(pointer) }
        return try body()
    }
}
