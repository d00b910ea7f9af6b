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
        "compare: guardOf(hold) + [isUnchanged(record)], success: [request]",
        "compare: [], success: [request]",
    ),
    Mutation(
        "a write that comes late undoes a newer one",
        "Labels.swift",
        "compare: guardOf(hold) + [isUnchanged(record)], success: [request]",
        "compare: guardOf(hold), success: [request]",
    ),
    Mutation(
        "everything is withdrawn, whosever it is",
        "OwnershipRestore.swift",
        "compare: guardOf(hold),",
        "compare: [],",
    ),
    Mutation(
        "a claim that was never answered may bring the presence key back",
        "Heartbeat.swift",
        "guard let lease = heartbeat.lease, lease.id == tainted,",
        "guard let lease = heartbeat.lease, lease.id == 0,",
    ),
    Mutation(
        "a store that was wiped is not noticed",
        "Link.swift",
        "if wasReplaced { storeWasReplaced() }",
        'if wasReplaced { log(.debug, "another store") }',
    ),
    Mutation(
        "a restore does not ask who came and went",
        "OwnershipRestore.swift",
        "foreignPresence(after: restore.lost.modRevision, but: hold.modRevision) != nil",
        "foreignPresence(after: Int64.max) != nil",
    ),
    Mutation(
        "another's presence key is taken for one's own",
        "OwnershipClaim.swift",
        "guard isOurs else {\n            supersede(supersededText)",
        "guard isOurs || presence.lease != 0 else {\n            supersede(supersededText)",
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
]
