// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Which store it is, as the headers of its answers tell.
struct StoreSeen {
    /// The meaning of a greeting.
    enum Verdict {
        case same
        /// It lacks what the one known before must have had: the revisions we know mean nothing in it.
        case replaced
    }
    private var clusterID: UInt64 = 0
    /// The newest revision of any answer.
    private(set) var revision: Int64 = 0
    /// The cluster id of this connection; 0: no answer yet.
    private var connectionCluster: UInt64 = 0
    private(set) var connectionRevision: Int64 = 0

    mutating func connectionIsNew() {
        connectionCluster = 0
        connectionRevision = 0
    }

    /// A store that was wiped and restarted keeps its cluster id, and a watch from a revision of its future would stay
    /// silent.
    mutating func greeted(_ header: ResponseHeader?) -> Verdict {
        var verdict = Verdict.same
        guard let header else { return verdict }
        if (clusterID != 0 && header.clusterID != clusterID) || header.revision < revision {
            verdict = .replaced
            revision = header.revision
        }
        clusterID = header.clusterID
        seen(header)
        return verdict
    }

    mutating func seen(_ header: ResponseHeader) {
        revision = max(revision, header.revision)
        connectionRevision = max(connectionRevision, header.revision)
    }

    /// Whether a header can be true: a store begins with revision 1 and never goes back, and whoever answers on one
    /// connection is of one cluster. (etcd's gRPC proxy leaves the cluster out of some answers.)
    mutating func isPlausible(_ header: ResponseHeader, _ leastRevision: Int64) -> Bool {
        guard header.revision >= leastRevision, header.revision >= 0,
            header.revision < Int64.max
        else { return false }
        if header.clusterID == 0 { return true }
        if connectionCluster == 0 { connectionCluster = header.clusterID }
        return header.clusterID == connectionCluster
    }
}
