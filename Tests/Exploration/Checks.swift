// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import MetadataCore

extension Explored {
    /// A violated invariant; nil: none.
    func wrong() -> String? {
        if causes.contains(.evictedLate) {
            return "an eviction was carried out after its process had left"
        }
        for index in processes.indices {
            if let text = wrong(processes[index], index) { return text }
        }
        return nil
    }

    private func wrong(_ process: Process, _ index: Int) -> String? {
        let others = processes.indices.filter { $0 != index }
        let told = process.told
        let hasSomebody =
            causes.contains(.stock) || others.contains { processes[$0].isStarted }
        if told.contains(.superseded), !hasSomebody { return "SUPERSEDED by nobody" }
        let isRemoved =
            causes.contains(.operators) || causes.contains(.snapshot)
            || causes.contains(.removedUnseen(index))
            || others.contains { causes.contains(.evicted(by: $0)) }
        if told.contains(.withdrawn), !isRemoved { return "WITHDRAWN by nobody" }
        if told.contains(.lost), !causes.contains(.ended(index)), !causes.contains(.snapshot) {
            return "LOST though no lease has ended"
        }
        if told.contains(.another), causes.intersection([.snapshot, .operators]).isEmpty,
            !causes.contains(.ended(index))
        {
            return "another store, by nothing"
        }
        if told.contains(.implausible) { return "the server is not believed" }
        if process.evictions > 3 + Int8(left.losses) * 0 + 3 { return "evicts again and again" }
        if process.registration.leasesKnown.count > 6 { return "takes generation after generation" }
        if !causes.contains(.snapshot), let presence = store[Self.presence],
            isLease(presence.lease, of: index)
        {
            for label in process.confirmed.indices where process.confirmed[label] == 2 {
                if store[Self.presence + Self.labels[label]]?.value == [1] {
                    return "an older value came back"
                }
            }
        }
        return nil
    }

    /// A violated invariant of a state in which nothing is left to do or on its way; nil: none.
    func wrongAtRest() -> String? {
        guard late.isEmpty else { return nil }
        let owner = store[Self.presence].map { $0.lease }
        var owners = 0
        for (index, process) in processes.enumerated() where process.isStarted {
            if process.isShut, process.isConnected, !process.registration.hasLeft {
                return "a shutdown never ends"
            }
            if !process.open.isEmpty { return "an operation never ends" }
            if process.registration.isOver || process.isGone || process.isShut {
                if let text = leftovers(process, index) { return text }
                continue
            }
            guard process.asked.contains(where: { $0 != 0 }) else { continue }
            let isRefused = left.refusing >> index & 1 == 1
            guard let owner, isLease(owner, of: index) else {
                if isRefused || causes.contains(.stock) || processes.count > 1 { continue }
                if process.confirmed.contains(where: { $0 != 0 }) { return "nobody has the name" }
                continue
            }
            if process.isRemoved, !process.hasWithdrawn {
                return "an operator's removal was undone, and nothing told"
            }
            owners += 1
            // Where labels cannot be read, nobody sees that an older store has none of them.
            if causes.isSuperset(of: [.readingRefused, .snapshot]) { continue }
            for label in process.asked.indices
            where process.confirmed[label] == process.asked[label]
                && process.refusedLabels >> UInt8(label) & 1 == 0
            {
                let found = store[Self.presence + Self.labels[label]]
                if (found?.value.first ?? 0) != process.asked[label] {
                    return "nothing to do, but a label is wrong"
                }
            }
        }
        if owners > 1 { return "two believe to have the name" }
        return nil
    }

    /// A process that has left has nothing in the store.
    private func leftovers(_ process: Process, _ index: Int) -> String? {
        guard process.requests.isEmpty, process.registration.hasLeft || process.registration.isOver
        else {
            return nil
        }
        guard !causes.contains(.leaseIsLeft) else { return nil }
        for record in store.records where isLease(record.lease, of: index) {
            return record.key == Self.presence
                ? "has left, but its presence key is there" : "has left, but its label is there"
        }
        return nil
    }
}
