// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import CSystem
import EtcdProtocol
import MetadataCore

/// The host's callback for LOST, RESTORED, SUPERSEDED and WITHDRAWN.
struct OwnerListener {
    let agent: Bytes
    let onEvent: nixl_md_event_cb?
    let user: UnsafeMutableRawPointer?
}

extension Engine {
    /// Runs the host's callbacks for the core's notices, within the budget. Returns their number.
    func runCallbacks() -> Int32 {
        var run = 0
        var bytes = 0
        let start = csystem_monotonic()
        while run < TickBudget.callbacks, bytes < TickBudget.blobBytes, fillBatch() {
            var isOverTime = false
            meter.excluding {
                while batchTold < batch.count, run < TickBudget.callbacks,
                    bytes < TickBudget.blobBytes, !isOverTime, !gate.isForked
                {
                    bytes += Self.blobBytes(batch[batchTold])
                    if tellNext() { run += 1 }
                    isOverTime = csystem_monotonic() &- start > TickBudget.callbackTime
                }
            }
            if isOverTime || gate.isForked { break }
        }
        counted.callbacks &+= UInt64(run)
        return Int32(run)
    }

    /// Whether there is a notice to tell.
    private func fillBatch() -> Bool {
        guard batchTold == batch.count else { return true }
        batch.empty(keepingRoom: true)
        batchTold = 0
        while batch.count < TickBudget.batch, let notice = core.nextNotice() {
            batch.append(notice)
        }
        return !batch.isEmpty
    }

    private static func blobBytes(_ notice: Notice) -> Int {
        switch notice {
        case .completed(let completion): completion.blob?.count ?? 0
        case .event(let event):
            if case .put(_, _, let blob) = event.kind { blob.count } else { 0 }
        case .ownership: 0
        }
    }

    /// Delivers the next notice of the batch. Returns whether a callback ran.
    private func tellNext() -> Bool {
        let notice = batch[batchTold]
        batchTold += 1
        return tell(notice)
    }

    private func tell(_ notice: Notice) -> Bool {
        switch notice {
        case .completed(let completion):
            guard let operation = shared.complete(completion.operation) else { return false }
            Delivery.deliver(completion, to: operation)
            return operation.onDone != nil
        case .event(let event):
            var isEnded = false
            if case .ended = event.kind { isEnded = true }
            guard let operation = shared.listener(of: event.watch, isEnded: isEnded) else {
                return false
            }
            counted.events &+= 1
            if case .resync = event.kind { counted.resyncs &+= 1 }
            Delivery.deliver(event, to: operation)
            return operation.onEvent != nil
        case .ownership(let event):
            guard let onEvent = owner.onEvent else { return false }
            Delivery.deliver(event, to: onEvent, user: owner.user, agent: owner.agent)
            return true
        }
    }

    /// Ends every open operation, for close: with what the core has found already, else as CANCELED.
    func endOperations() {
        while fillBatch() {
            while batchTold < batch.count {
                let notice = batch[batchTold]
                batchTold += 1
                if Self.isEnd(notice) { _ = tell(notice) }
                if gate.isForked { return }
            }
        }
        for id in shared.openOperations {
            _ = tell(canceledByClose(id))
            if gate.isForked { return }
        }
    }

    private static func isEnd(_ notice: Notice) -> Bool {
        switch notice {
        case .completed: true
        case .event(let event):
            if case .ended = event.kind { true } else { false }
        case .ownership: false
        }
    }

    private func canceledByClose(_ id: OperationID) -> Notice {
        let text: Text = "the handle was closed before the end of the operation"
        return shared.isWatch(id)
            ? .event(WatchEvent(watch: id, kind: .ended(.canceled, text)))
            : .completed(Completion(operation: id, status: .canceled, text: text))
    }
}
