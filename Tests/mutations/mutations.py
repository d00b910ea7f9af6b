# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Mistakes that somebody could make in the core, one at a time. The simulator must find each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """`old`, which stands once in the file of the core, becomes `new`."""

    name: str
    file: str
    old: str
    new: str


MUTATIONS = [
    Mutation(
        "a watch resumes at the newest revision, not where it stopped",
        "WatchStream.swift",
        "counters.revision >= watcher.next ? max(1, watcher.next &- 1) : watcher.next",
        "counters.revision &+ 1",
    ),
    Mutation(
        "a watch resumes exactly where it stopped (etcd's issue 18089)",
        "WatchStream.swift",
        "counters.revision >= watcher.next ? max(1, watcher.next &- 1) : watcher.next",
        "watcher.next",
    ),
    Mutation(
        "events older than asked for are told",
        "WatchStream.swift",
        "let events = fresh ? events : events.filter { $0.kv.modRevision >= from }",
        "_ = fresh",
    ),
    Mutation(
        "a fragment is taken for a whole message",
        "WatchStream.swift",
        "guard !response.fragment else { return }\n            let events = watcher.pieces",
        "let events = watcher.pieces",
    ),
    Mutation(
        "the lease is renewed late",
        "Heartbeat.swift",
        "min(plan.interval, ttl / 3)",
        "ttl &- 200",
    ),
    Mutation(
        "a label is written whoever has the name",
        "Labels.swift",
        "compare: guardOf(hold) + [isUnchanged(record)],",
        "compare: [],",
    ),
    Mutation(
        "a write that comes late undoes a newer one",
        "Labels.swift",
        "compare: guardOf(hold) + [isUnchanged(record)],",
        "compare: guardOf(hold),",
    ),
    Mutation(
        "everything is withdrawn, whosever it is",
        "OwnershipRestore.swift",
        "compare: guardOf(hold),",
        "compare: [],",
    ),
    Mutation(
        "a store that was wiped is not noticed",
        "Link.swift",
        "if wasReplaced {\n            storeWasReplaced()",
        'if wasReplaced {\n            log(.debug, "another store")',
    ),
    Mutation(
        "another's presence key is taken for one's own",
        "OwnershipClaim.swift",
        "presence, created: check.hold.createRevision, known: check.hold.modRevision)",
        "presence, created: check.hold.createRevision, known: check.hold.modRevision)\n"
        "                || presence.modRevision > 0",
    ),
    Mutation(
        "an overflow is silence",
        "HostWatch.swift",
        "                stalledWatches.append(watch)\n                return\n            }\n"
        "            if apply",
        "                return\n            }\n            if apply",
    ),
    Mutation(
        "time-outs are forgotten",
        "Operations.swift",
        "guard first.at <= now else { return }",
        "guard first.at &+ 3_000 <= now else { return }",
    ),
    Mutation(
        "an operation completes twice",
        "Operations.swift",
        "        operations[completion.operation] = nil\n        tell(.completed(completion)",
        "        tell(.completed(completion)",
    ),
    Mutation(
        "the end of an agent is not told",
        "AgentView.swift",
        "guard case .present(let known) = view.presence else { return }\n"
        "        depart(known, revision)",
        "guard case .present(let known) = view.presence else { return }\n"
        "        if known % 8 != 0 { depart(known, revision) }",
    ),
    Mutation(
        "a dead endpoint is tried again and again, no other",
        "Endpoints.swift",
        "position = (current + 1) % targets.count",
        "position = current",
    ),
    Mutation(
        "the lease is not asked before WITHDRAWN is told",
        "OwnershipClaim.swift",
        "if secondsLeft > 0 {",
        "if secondsLeft >= -1 {",
    ),
    Mutation(
        "a move from one lease to another is not guarded",
        "OwnershipClaim.swift",
        "var transaction = batchTransaction(batch, hold, onto: move.target)",
        "var transaction = batchTransaction(batch, hold, onto: move.target)\n"
        "            transaction.compare = []",
    ),
    Mutation(
        "a move forgets the labels of the last transaction",
        "OwnershipClaim.swift",
        "guard !batch.isEmpty else {",
        "guard batch.count > 1 else {",
    ),
    Mutation(
        "the presence key is claimed over another's",
        "OwnershipClaim.swift",
        ".txn(putPresence(lease, if: .createRevision(0))), .claimPut(lease: lease))",
        ".txn(TxnRequest(compare: [], success: putPresence(lease, if: "
        ".createRevision(0)).success)),\n"
        "                .claimPut(lease: lease))",
    ),
    Mutation(
        "a name that must not be taken over is taken over",
        "OwnershipClaim.swift",
        "guard !configuration.refuseTakeover else {",
        "guard !configuration.refuseTakeover || now > 0 else {",
    ),
    Mutation(
        "RESTORED is told after the first transaction",
        "OwnershipClaim.swift",
        "guard !batch.isEmpty else {",
        "guard !batch.isEmpty, last == nil else {",
    ),
    Mutation(
        "a new lease is that of another process",
        "Heartbeat.swift",
        "        generation += 1\n",
        "        generation += 1\n        incarnation = Incarnation.choose(&random)\n",
    ),
    Mutation(
        "a shutdown does not give the lease back",
        "Shutdown.swift",
        "if heartbeat.stop == nil { beginStop(keep: true, operation: nil) }",
        "heartbeatIsOff()",
    ),
    Mutation(
        "a time-out does not wake its host",
        "MetadataCore.swift",
        "        consider(deadlines.first?.at)\n",
        "",
    ),
    Mutation(
        "the pages of a watch's list are not of one revision",
        "WatchListing.swift",
        "limit: listing.limit, revision: listing.revision,",
        "limit: listing.limit, revision: 0,",
    ),
    Mutation(
        "the pages of a list are not of one revision",
        "ListJob.swift",
        "revision: job.revision, keysOnly: true)",
        "revision: 0, keysOnly: true)",
    ),
    Mutation(
        "a member is asked what it knows, not what the cluster does",
        "Fetch.swift",
        "RangeRequest(key: keyspace.key(agent: fetch.agent, label: fetch.label))",
        "RangeRequest(\n            key: keyspace.key(agent: fetch.agent, "
        "label: fetch.label), serializable: true)",
    ),
    Mutation(
        "after RESYNC everything is told again",
        "AgentView.swift",
        "if view.labels[label] != kv.modRevision { labelPut(label, kv) }",
        "labelPut(label, kv)",
    ),
    Mutation(
        "CONTACT_LOST is told at once",
        "Limits.swift",
        "static let contactLost: Milliseconds = 1000",
        "static let contactLost: Milliseconds = 100",
    ),
    Mutation(
        "a peer that is silent is not asked whether it lives",
        "Limits.swift",
        "static let silence: Milliseconds = 5000",
        "static let silence: Milliseconds = 60_000",
    ),
    Mutation(
        "blobs that were taken are counted as if they waited",
        "MetadataCore.swift",
        "        noticeBytes -= bytes\n",
        "        _ = bytes\n",
    ),
    Mutation(
        "one's own withdrawal is taken for somebody else's",
        "OwnershipClaim.swift",
        "if isWithdrawalWanted || check.mayHaveWithdrawn {\n            withdrawWhatIsLeft",
        "if isWithdrawalWanted {\n            withdrawWhatIsLeft",
    ),
    Mutation(
        "a permanent key that somebody has put anew passes for one's own",
        "Ownership.swift",
        "&& (isUnchanged || latePermanent != nil)",
        "&& (isUnchanged || known >= 0)",
    ),
]
