// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Something that concerns many operations at once, done to a portion of them at a time: with tens of thousands open, all
/// in one tick would be long.
struct Sweep {
    enum Kind {
        /// A shutdown ends all reading operations.
        case endReaders(Text)
        case endAll(Status, Text)
        /// Observations of the old store are void.
        case replaceStore(Text)
        /// Events may be lost: list again.
        case lookAgain(Text)
    }
    let kind: Kind
    /// Those up to here are done.
    var done: OperationID = 0
    /// Those behind it were begun later and are not concerned.
    let last: OperationID
}

extension MetadataCore {
    func sweep(_ kind: Sweep.Kind) {
        sweeps.append(Sweep(kind: kind, last: operations.lastKey))
    }

    /// Until every watch knows that its revisions are of another store, none may go on from them.
    var isReplacingStore: Bool {
        for sweep in sweeps {
            if case .replaceStore = sweep.kind { return true }
        }
        return false
    }

    func sweepOn() {
        var left = Limits.operationsAtOnce
        while left > 0, var sweep = sweeps.first {
            guard let (id, operation) = operations.next(after: sweep.done), id <= sweep.last else {
                sweeps.removeFirst()
                continue
            }
            left -= 1
            sweep.done = id
            sweeps[0] = sweep
            switch sweep.kind {
            case .endReaders(let text): endReader(operation, text)
            case .endAll(let status, let text): end(id, operation, status, text)
            case .replaceStore(let text): startAnew(operation, text)
            case .lookAgain(let text): lookAgain(operation, text)
            }
        }
    }

    private func endReader(_ operation: Operation, _ text: Text) {
        switch operation {
        case .fetch(let fetch): fail(fetch, .canceled, text)
        case .watch(let watch): end(watch, .canceled, text)
        case .list(let job):
            end(job, .canceled, text)
        case .starting, .change, .registration: break
        }
    }

    private func lookAgain(_ operation: Operation, _ text: Text) {
        switch operation {
        case .watch(let watch) where watch.isFollowing: resync(watch, text, forgetRevisions: false)
        case .fetch(let fetch) where fetch.isWaiting: fetchAgain(fetch)
        case .watch, .fetch, .list, .starting, .change, .registration: break
        }
    }

    private func startAnew(_ operation: Operation, _ text: Text) {
        switch operation {
        case .watch(let watch): resync(watch, text, forgetRevisions: true)
        case .fetch(let fetch): fetchAgain(fetch)
        case .list(let job): listAgain(job)
        case .starting, .change, .registration: break
        }
    }
}
