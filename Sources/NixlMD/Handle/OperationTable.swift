// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import EtcdProtocol
import MetadataCore

/// An open operation of the host.
struct Operation {
    enum Kind {
        case publish, unpublish, startHeartbeat, stopHeartbeat, fetch, watch, invalidate, list

        /// NIXL_MD_OP_...; a watch has none, for it has no result.
        var code: Int32 {
            let code: nixl_md_op_kind =
                switch self {
                case .publish: NIXL_MD_OP_PUBLISH
                case .unpublish: NIXL_MD_OP_UNPUBLISH
                case .startHeartbeat: NIXL_MD_OP_START_HEARTBEAT
                case .stopHeartbeat: NIXL_MD_OP_STOP_HEARTBEAT
                case .fetch: NIXL_MD_OP_FETCH
                case .invalidate: NIXL_MD_OP_INVALIDATE
                case .list: NIXL_MD_OP_LIST
                case .watch: nixl_md_op_kind(0)
                }
            return Int32(bitPattern: code.rawValue)
        }
    }

    let id: OperationID
    let kind: Kind
    let onDone: nixl_md_done_cb?
    let onEvent: nixl_md_event_cb?
    let user: UnsafeMutableRawPointer?
    /// Bytes of its blob.
    let bytes: Int
    /// A canceled watch delivers only ENDED.
    var isCanceled = false
}

/// The open operations. An id is a running number times 2^16 plus a place in the table, so it is found at once, ids
/// ascend, and none comes twice before 2^48 operations.
struct OperationTable {
    private static let placeBits: UInt64 = 16
    static let capacity = 1 << placeBits

    private var places: [Operation?] = []
    private var free: [Int] = []
    private var runningNumber: UInt64 = 0
    private(set) var count = 0
    private(set) var watches = 0
    /// Bytes of all blobs that operations hold.
    private(set) var bytes = 0

    /// The id of a new operation; nil: the table is full.
    mutating func add(_ kind: Operation.Kind, _ options: Options, bytes size: Int) -> OperationID? {
        let place: Int
        if let known = free.popLast() {
            place = known
        } else {
            guard places.count < Self.capacity else { return nil }
            place = places.count
            places.append(nil)
        }
        runningNumber += 1
        let id = runningNumber << Self.placeBits | UInt64(place)
        places[place] = Operation(
            id: id, kind: kind, onDone: options.onDone, onEvent: options.onEvent,
            user: options.user, bytes: size)
        count += 1
        bytes += size
        if kind == .watch { watches += 1 }
        return id
    }

    subscript(id: OperationID) -> Operation? {
        let place = Int(id & UInt64(Self.capacity - 1))
        guard place < places.count, let operation = places[place], operation.id == id else {
            return nil
        }
        return operation
    }

    mutating func remove(_ id: OperationID) -> Operation? {
        guard let operation = self[id] else { return nil }
        let place = Int(id & UInt64(Self.capacity - 1))
        places[place] = nil
        free.append(place)
        count -= 1
        bytes -= operation.bytes
        if operation.kind == .watch { watches -= 1 }
        return operation
    }

    mutating func markCanceled(_ id: OperationID) {
        guard self[id] != nil else { return }
        places[Int(id & UInt64(Self.capacity - 1))]?.isCanceled = true
    }

    /// Those still open, the oldest first.
    var ids: [OperationID] {
        var ids = places.compactMap { $0?.id }
        ids.heapSort(<)
        return ids
    }
}
