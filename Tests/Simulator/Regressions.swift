// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// A seed that once failed, or that fails when the mistake is made again, and what it shows. A change of the
/// simulator makes another world of it; `make mutations` finds new ones.
struct Regression {
    let seed: UInt64
    let shows: String

    static let all = [
        Regression(
            seed: 199,
            shows: "a move to a permanent key whose answer was lost ended as superseded by oneself"),
        Regression(
            seed: 213,
            shows: "a list left out an agent whose presence key came after the list was made"),
        Regression(seed: 1349, shows: "a late write brought back a label that was removed"),
        Regression(
            seed: 1371, shows: "a late write brought back a label that was written, then removed"),
        Regression(
            seed: 293, shows: "a claim whose answer was lost ended as superseded by oneself"),
        Regression(
            seed: 517, shows: "a restore whose answer was lost ended as withdrawn by oneself"),
        Regression(
            seed: 1198, shows: "a move whose answer was lost ended as superseded by oneself"),
        Regression(
            seed: 68, shows: "a move that had been given up was carried out onto a lease given back"
        ),
        Regression(
            seed: 5155, shows: "a first Put of a restore passed for another's after its removal"),
        Regression(
            seed: 2567,
            shows: "a permanent key stayed where the look after a lost answer was refused"),
        Regression(
            seed: 5258, shows: "a lease in its last second passed for one that had ended"),
        Regression(seed: 45, shows: "a blob that is too large ended the start of the heartbeat"),
        Regression(
            seed: 155, shows: "a restore that began while everything was withdrawn told RESTORED"),
        Regression(
            seed: 784, shows: "what was told late of a key that was removed passed for a takeover"),
        Regression(
            seed: 1181, shows: "a change that a refused one had displaced stayed on no lease"),
        Regression(
            seed: 1712, shows: "a key whose lease ended before the answer passed for another's"),
        Regression(
            seed: 4131, shows: "a write that was refused after an answer was lost was forgotten"),
        Regression(
            seed: 4293,
            shows: "a lease that had ended was asked for again and again, the living one given up"),
        Regression(seed: 5031, shows: "labels put before the presence key were never told"),
        Regression(
            seed: 158, shows: "a fence refused for its token told UNAUTHENTICATED to who waited"),
        Regression(
            seed: 353, shows: "a list that began again took an answer to an earlier question"),
        Regression(
            seed: 236, shows: "a fetch found a label whose agent has no presence key"),
        Regression(
            seed: 124,
            shows: "a list was of a store before a snapshot was restored, and of that behind it"),
        Regression(
            seed: 168, shows: "a watch told of an agent of a store that was wiped meanwhile"),
        Regression(
            seed: 322,
            shows: "a host was to notice one empty store behind another while away"),
        Regression(
            seed: 44,
            shows: "a second lease on which somebody hung a key soon ended a publish: renewals"),
        Regression(seed: 623, shows: "the same, by writes; and a claim on such a lease"),
        Regression(seed: 584, shows: "its own removal, carried out late, was told WITHDRAWN"),
        Regression(
            seed: 1169, shows: "a time-out told of a full database, long after there was space"),
        Regression(seed: 2083, shows: "labels beside a stock agent's key were taken for gone"),
        Regression(seed: 2259, shows: "a successor revokes the lease that it has emptied: LOST"),
        Regression(
            seed: 1319, shows: "who left for long watched its key from a compacted revision"),
        Regression(
            seed: 5218,
            shows: "a start of the heartbeat failed for a fence that a leaving agent was refused"),
        Regression(
            seed: 469, shows: "a member froze, and nobody had the addresses of the others: LOST"),
        Regression(seed: 809, shows: "the same, with a longer TTL"),
    ]
}
