// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

extension MetadataCore {
    /// Begins the drain: what reads is ended, what is queued to be written is written, then everything is
    /// withdrawn and the lease given back.
    public func shutdown(drain: Milliseconds, now: Milliseconds) {
        self.now = now
        guard drainDeadline == nil, !isShutDownComplete else { return }
        drainDeadline = now &+ drain
        isWithdrawalRefused = false
        isRevocationRefused = false
        sweep(.endReaders("the handle is being shut down"))
        hasNews = true
    }

    /// The steps of the drain, each when the one before is done.
    func driveDrain() {
        guard let deadline = drainDeadline, !isShutDownComplete else { return }
        guard now < deadline else {
            if operations.isEmpty {
                finishDrain()
            } else if sweeps.isEmpty {
                sweep(.endAll(.canceled, "the drain of the shutdown has taken its time"))
            }
            return
        }
        guard operations.isEmpty, !hasChanges, labelsInFlight == 0 else { return }
        switch ownership {
        case .none, .withdrawn, .superseded:
            break
        case .claiming where isWithdrawalRefused:
            break
        case .owned(let hold) where isWithdrawalRefused && hold.lease != 0:
            leaveToLease(hold)
        case .checking where isWithdrawalRefused:
            return
        case .owned, .withdrawing, .claiming, .moving, .checking, .restoring:
            if !isWithdrawalWanted {
                wantWithdrawal("the handle is shut down")
                driveOwnership()
            }
            return
        }
        if heartbeat.isOn {
            if heartbeat.stop == nil { beginStop(keep: true, operation: nil) }
            driveHeartbeat()
            return
        }
        guard leasesToRevoke.isEmpty, calls.isEmpty, !isRevocationRefused else { return }
        finishDrain()
    }

    /// etcd takes no transaction from us, but takes the keys away with their lease.
    func leaveToLease(_ hold: Hold) {
        heartbeatIsOff()
        leasesToRevoke.append(hold.lease)
        nothingIsOurs()
        driveHeartbeat()
    }

    private func finishDrain() {
        isShutDownComplete = true
        heartbeatIsOff()
        cancel(&selfWatcher)
        labels.removeAll()
        labelQueue.removeAll()
        if let connection = link.connection { act(.disconnect(connection)) }
        link = .idle
        calls.removeAll()
        counters.isConnected = false
    }
}
