// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// The writes, as transactions (docs/registration.md has a table).
extension RegistrationKeys {
    typealias Content = (label: Bytes, blob: Bytes?)

    private func isAt(_ revision: Int64) -> [Compare] {
        [Compare(key: presence, target: .modRevision(revision))]
    }

    private func putPresence(_ lease: Int64) -> RequestOp {
        .put(PutRequest(key: presence, value: [], lease: lease))
    }

    private func puts(_ labels: [Content], _ lease: Int64) -> [RequestOp] {
        labels.map { name, blob in
            let key = label(name)
            if let blob { return .put(PutRequest(key: key, value: blob, lease: lease)) }
            return .deleteRange(DeleteRangeRequest(key: key))
        }
    }

    /// The presence key with its value, the rest without.
    private func look(readsLabels: Bool) -> [RequestOp] {
        let presence = RequestOp.range(read(self.presence))
        return readsLabels ? [presence, .range(everything(from: mark))] : [presence]
    }

    func claim(_ lease: Int64) -> TxnRequest {
        let isFree = Compare(key: presence, target: .createRevision(0))
        let behind = RequestOp.deleteRange(DeleteRangeRequest(key: mark, rangeEnd: end))
        return TxnRequest(
            compare: [isFree], success: [behind, putPresence(lease)],
            failure: [.range(read(presence))])
    }

    /// With a mark on our own lease, so that an eviction that comes late dies with us. Two steps, not one Put over the
    /// other's key, because stock peers notice nothing but its end.
    func evict(_ revision: Int64, _ lease: Int64) -> TxnRequest {
        TxnRequest(
            compare: isAt(revision),
            success: [
                .deleteRange(DeleteRangeRequest(key: presence)),
                .deleteRange(DeleteRangeRequest(key: mark + [0], rangeEnd: end)),
                .put(PutRequest(key: mark, value: [], lease: lease)),
            ], failure: [.range(read(presence))])
    }

    func write(_ revision: Int64, _ lease: Int64, _ labels: [Content]) -> TxnRequest {
        TxnRequest(
            compare: isAt(revision), success: puts(labels, lease),
            failure: [.range(read(presence))])
    }

    func rehang(
        _ revision: Int64, _ lease: Int64, _ labels: [Content], readsLabels: Bool
    ) -> TxnRequest {
        TxnRequest(
            compare: isAt(revision), success: [putPresence(lease)] + puts(labels, lease),
            failure: look(readsLabels: readsLabels))
    }

    func fence(_ revision: Int64, _ lease: Int64, readsLabels: Bool) -> TxnRequest {
        let look = look(readsLabels: readsLabels)
        return TxnRequest(
            compare: isAt(revision), success: [putPresence(lease)] + look.dropFirst(),
            failure: look)
    }

    /// 0: while there is no presence key.
    func remove(_ revision: Int64) -> TxnRequest {
        let all = DeleteRangeRequest(key: revision == 0 ? mark : presence, rangeEnd: end)
        return TxnRequest(compare: isAt(revision), success: [.deleteRange(all)])
    }
}
