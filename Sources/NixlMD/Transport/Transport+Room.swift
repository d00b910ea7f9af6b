// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CCurl

/// Who may send how much, so that the socket's buffer is never full (see `SendRoom`).
extension Transport {
    /// Divides the room among the transfers that have something to send, and wakes those that waited for it. What was
    /// given before and not used is divided anew. Large requests are sent one after the other, since the core gives each
    /// as much time as those before it take, and itself; they share one connection, and would not be faster side by side.
    /// Not to be called inside a callback of libcurl.
    func divideRoom() {
        mustDivideRoom = false
        hasMoreToSend = false
        guard let multi = connection?.multi else { return }
        for transfer in active { room.giveBack(transfer.takeAllowance()) }
        var isMeasured = false
        var isAlone = false
        var isLacking = lacksRoomToStart
        var isBehind = false
        for transfer in active {
            let isBulk = transfer.isBulk
            guard transfer.takesMore, !isBulk || !isBehind else {
                isBehind = isBehind || isBulk
                continue
            }
            if !isMeasured, !room.covers(SendRoom.wish(transfer.unhanded)) {
                isAlone = measureRoom() == 0
                isMeasured = true
            }
            let given = room.take(transfer.unhanded, isBulk: isBulk, isAlone: isAlone)
            if isBulk, given < transfer.unhanded { isBehind = true }
            if given == 0 {
                isLacking = true
            } else {
                isAlone = false
                if transfer.allow(given) { hasMoreToSend = true }
            }
        }
        if isLacking, !isMeasured { _ = measureRoom() }
        multi.awaitsRoom = isLacking && room.isAnnounced
    }

    /// Room for the headers of one more request; false: it has to wait.
    func takeRoomToStart(_ request: Request) -> Bool {
        if room.takeStart(request.headerCost) { return true }
        let isAlone = measureRoom() == 0
        return room.takeStart(request.headerCost, isAlone: isAlone)
    }

    /// Looks at the socket; the result is what is promised already.
    private func measureRoom() -> Int {
        var promised = 0
        for transfer in active { promised += transfer.promised }
        room.measure(connection?.multi.socket, promised: promised)
        return promised
    }
}
