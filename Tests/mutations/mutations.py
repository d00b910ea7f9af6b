# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Mistakes that somebody could make in the core, one at a time: each must be found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """`old`, which stands once in the file of the core, in whatever folder, becomes `new`.

    MUTANT in `new` is true when the mistake is made: one build holds them all.
    """

    file: str
    old: str
    new: str


class Mutation:
    """`rule`: of the registration's protocol, which it breaks."""

    def __init__(self, name: str, *edits: Edit, rule: str = "") -> None:
        self.name = name
        self.edits = edits
        self.rule = rule


PLAN, LEASES, PUBLISHED = "Plan.swift", "Leases.swift", "Published.swift"
LABEL, HANGING, FENCE = "PublishedLabel.swift", "Hanging.swift", "Fence.swift"
NEXT, ANSWERS = "NameKeeper+Next.swift", "NameKeeper+Answers.swift"
REFUSALS, TRANSACTIONS = "NameKeeper+Refusals.swift", "Transactions.swift"

# The registration: each rule of its protocol.
PROTOCOL = [
    Mutation(
        "a lease whose grant came to nothing is granted again under its id",
        Edit(
            LEASES,
            "if id == target { replaceTarget(keeping: kept) }",
            (
                "if id == target { if MUTANT { change(id) { $0.state = .wanted } } else { "
                "replaceTarget(keeping: kept) } }"
            ),
        ),
        rule="grantonce",
    ),
    Mutation(
        "a key is put on a lease whose grant was not answered",
        Edit(
            PLAN,
            "case .inDoubt: .ask(target.id)",
            "case .inDoubt: MUTANT ? nil : .ask(target.id)",
        ),
        rule="grantonce",
    ),
    Mutation(
        "a generation is used again",
        Edit(
            LEASES,
            "        if target == id { target = 0 }\n",
            (
                "        if target == id {\n"
                "            target = 0\n"
                "            if MUTANT { top = top > 2 ? top - 2 : 0 }\n"
                "        }\n"
            ),
        ),
        rule="topgen",
    ),
    Mutation(
        "any reading ends a doubt",
        Edit(
            FENCE,
            "standing.isAnswered && isFull",
            "(MUTANT || standing.isAnswered) && isFull",
        ),
        rule="doubtrev",
    ),
    Mutation(
        "nothing is fenced",
        Edit(
            PLAN,
            "case .ours(let lease, doubt.revision) = seen.presence {",
            (
                "case .ours(let lease, doubt.revision) = seen.presence,\n"
                "            !MUTANT || doubt.isAnswered\n"
                "        {"
            ),
        ),
        Edit(
            NEXT,
            "let fence = departure.isUnderWay ? nil",
            "let fence = departure.isUnderWay || MUTANT ? nil",
        ),
        rule="fence",
    ),
    Mutation(
        "'no space' is a refusal",
        Edit(
            REFUSALS,
            (
                "            published.areUnanswered(call.labels, on: call.lease)\n"
                "            mayBeCarriedOut(call, isAnswered: true)"
            ),
            (
                "            if MUTANT {\n"
                "                published.areNotWritten(call.labels, on: call.lease, &out)\n"
                "                return\n"
                "            }\n"
                "            published.areUnanswered(call.labels, on: call.lease)\n"
                "            mayBeCarriedOut(call, isAnswered: true)"
            ),
        ),
        rule="nospacedoubt",
    ),
    Mutation(
        "an older lease is revoked though a label hangs on it",
        Edit(
            NEXT,
            "!published.mayHang(on: lease)",
            "(MUTANT || !published.mayHang(on: lease))",
        ),
        rule="keepold",
    ),
    Mutation(
        "the old lease is not renewed",
        Edit(
            LEASES,
            "leases[at].sentAt == nil && now >= leases[at].renewAt {",
            (
                "leases[at].sentAt == nil && now >= leases[at].renewAt\n"
                "            && (!MUTANT || leases[at].id == target)\n"
                "        {"
            ),
        ),
        rule="renewold",
    ),
    Mutation(
        "a lease that we have asked to go counts as lost",
        Edit(
            HANGING,
            "absence = wasAskedToGo ? .removed",
            "absence = !MUTANT && wasAskedToGo ? .removed",
        ),
        rule="revdoubt",
    ),
    Mutation(
        "the leases on which the key may hang are narrowed while a doubt stands",
        Edit(
            HANGING,
            "if !isInDoubt { leases = [] }",
            "if MUTANT || !isInDoubt { leases = [] }",
        ),
        rule="hungdoubt",
    ),
    Mutation(
        "a rehang that is not answered has not moved the key",
        Edit(
            NEXT,
            ".fence(_, let lease): hanging.mayBe(on: lease)",
            ".fence(_, let lease): if !MUTANT { hanging.mayBe(on: lease) }",
        ),
        rule="hungdoubt",
    ),
    Mutation(
        "the first look of a connection changes nothing",
        Edit(
            ANSWERS,
            "        } else if let found = looking.answered(response, keys) {\n",
            (
                "        } else if let found = looking.answered(response, keys) {\n"
                "            if MUTANT, hasPresence {\n"
                "                looking.wrote(at: found.revision)\n"
                "                looking.claimed()\n"
                "                return\n"
                "            }\n"
            ),
        ),
        rule="look",
    ),
    Mutation(
        "no lease is asked whether it lives",
        Edit(
            HANGING,
            "absence = gone.map {",
            "absence = MUTANT ? .leaseIsGone(gone ?? leases[0]) : gone.map {",
        ),
        rule="ask",
    ),
    Mutation(
        "a key that is gone was removed by somebody",
        Edit(
            HANGING,
            "?? .asking(leases)",
            "?? (MUTANT ? .removed : .asking(leases))",
        ),
        rule="ask",
    ),
    Mutation(
        "an eviction leaves its mark on no lease",
        Edit(
            TRANSACTIONS,
            ".put(PutRequest(key: mark, value: [], lease: lease)),",
            ".put(PutRequest(key: mark, value: [], lease: MUTANT ? 0 : lease)),",
        ),
        rule="evictlease",
    ),
    Mutation(
        "who has left a mark is not waited for",
        Edit(
            HANGING,
            "(isMarked ? Timing.newcomer",
            "(isMarked && !MUTANT ? Timing.newcomer",
        ),
        rule="evictlease",
    ),
    Mutation(
        "a label that has gone back is no sign of another store",
        Edit(
            PUBLISHED,
            "here.revision < label.seen.revision { hasGoneBack",
            "!MUTANT, here.revision < label.seen.revision { hasGoneBack",
        ),
        rule="backward",
    ),
    Mutation(
        "a presence key that has moved is no sign of another store",
        Edit(
            ANSWERS,
            "if isOfAnotherStore(found) {",
            "if !MUTANT, isOfAnotherStore(found) {",
        ),
        rule="backward",
    ),
    Mutation(
        "restores are not paced",
        Edit(
            "Pacing.swift",
            "pause = isRecent ?",
            "pause = isRecent && !MUTANT ?",
        ),
        rule="pacing",
    ),
    Mutation(
        "who owned the name evicts its successor",
        Edit(
            PLAN,
            "seen.hasOwned && !seen.isKnownDead:",
            "seen.hasOwned && !seen.isKnownDead && !MUTANT:",
        ),
        rule="owned",
    ),
    Mutation(
        "who was told WITHDRAWN forgets that it owned the name",
        Edit(
            NEXT,
            "            out.log(.warn, withdrawnText)\n",
            (
                "            if MUTANT { standing = .stranger }\n"
                "            out.log(.warn, withdrawnText)\n"
            ),
        ),
        rule="owned",
    ),
    Mutation(
        "who left by its own will remembers that it owned the name",
        Edit(
            NEXT,
            "if standing != .superseded { standing = .stranger }",
            "if standing != .superseded, !MUTANT { standing = .stranger }",
        ),
        rule="owned",
    ),
    Mutation(
        "evictions have no bound",
        Edit(
            PLAN,
            "seen.evictions >= Limits.evictions",
            "seen.evictions >= (MUTANT ? 1000 : Limits.evictions)",
        ),
        rule="evict bound",
    ),
    Mutation(
        "a name that must not be taken over is taken over",
        Edit(
            PLAN,
            "wanted.name && wanted.refusesTakeover:",
            "wanted.name && wanted.refusesTakeover && !MUTANT:",
        ),
        rule="refuse",
    ),
    Mutation(
        "a label is written whoever has the name",
        Edit(
            TRANSACTIONS,
            "compare: isAt(revision), success: puts(labels, lease)",
            "compare: MUTANT ? [] : isAt(revision), success: puts(labels, lease)",
        ),
        rule="bound to P",
    ),
    Mutation(
        "a rehang is not bound to the presence key",
        Edit(
            TRANSACTIONS,
            "compare: isAt(revision), success: [putPresence(lease)] + puts",
            "compare: MUTANT ? [] : isAt(revision), success: [putPresence(lease)] + puts",
        ),
        rule="bound to P",
    ),
    Mutation(
        "the presence key is claimed over another's",
        Edit(
            TRANSACTIONS,
            "compare: [isFree], success",
            "compare: MUTANT ? [] : [isFree], success",
        ),
        rule="bound to P",
    ),
    Mutation(
        "an eviction removes whoever has the name",
        Edit(
            TRANSACTIONS,
            ("            compare: isAt(revision),\n            success: [\n"),
            ("            compare: MUTANT ? [] : isAt(revision),\n            success: [\n"),
        ),
        rule="bound to P",
    ),
    Mutation(
        "a claim leaves what others left",
        Edit(
            TRANSACTIONS,
            "success: [behind, putPresence(lease)]",
            "success: (MUTANT ? [] : [behind]) + [putPresence(lease)]",
        ),
        rule="claim",
    ),
    Mutation(
        "a label in doubt that moved is not read",
        Edit(
            LABEL,
            "                seen = .unread(",
            (
                "                if MUTANT { return isWritten(found.revision, &out) }\n"
                "                seen = .unread("
            ),
        ),
        rule="foreign",
    ),
    Mutation(
        "a label in doubt holds what was written, whatever is read",
        Edit(
            PUBLISHED,
            "kv.value == blob {",
            "MUTANT || kv.value == blob {",
        ),
        rule="foreign",
    ),
    Mutation(
        "a label in doubt that has not moved was written",
        Edit(
            LABEL,
            "        if isOver { isNotWritten(name, &out) }\n",
            (
                "        if isOver, MUTANT { return isWritten(revision, &out) }\n"
                "        if isOver { isNotWritten(name, &out) }\n"
            ),
        ),
        rule="doubt",
    ),
    Mutation(
        "who leaves revokes the lease of the presence key only",
        Edit(
            NEXT,
            "{ ids.contains($0) } ?? ids.first\n",
            "{ ids.contains($0) } ?? (MUTANT ? nil : ids.first)\n",
        ),
        rule="revoke",
    ),
    Mutation(
        "RESTORED is told before the labels are back",
        Edit(
            NEXT,
            "lease == leases.target && published.isSettled()",
            "lease == leases.target && (MUTANT || published.isSettled())",
        ),
    ),
    Mutation(
        "labels that went with the lease are not put back",
        Edit(
            NEXT,
            (
                "        nothingIsOurs()\n"
                "        published.nothingIsThere(&out)\n"
                "        if standing != .lost"
            ),
            (
                "        nothingIsOurs()\n"
                "        if !MUTANT { published.nothingIsThere(&out) }\n"
                "        if standing != .lost"
            ),
        ),
    ),
    Mutation(
        "a new lease is that of another process",
        Edit(
            LEASES,
            "if top > UInt64(UInt16.max) {",
            "if top > (MUTANT ? 2 : UInt64(UInt16.max)) {",
        ),
    ),
    Mutation(
        "the lease is renewed late",
        Edit(
            LEASES,
            "min(interval, ttl / 3)",
            "(MUTANT ? ttl &- 200 : min(interval, ttl / 3))",
        ),
    ),
    Mutation(
        "a lease without heartbeat ends",
        Edit(
            LEASES,
            "case .neverEnding: Limits.neverEndingSeconds",
            "case .neverEnding: MUTANT ? 60 : Limits.neverEndingSeconds",
        ),
        rule="lease",
    ),
    Mutation(
        "what the self-watch tells asks for no look",
        Edit(
            "Looking.swift",
            "isWanted || watchedAt > revision",
            "isWanted || !MUTANT && watchedAt > revision",
        ),
        rule="look",
    ),
    Mutation(
        "a shutdown does not give the lease back",
        Edit(
            "MetadataCore+Registration.swift",
            "registration.shutDown(&effects)",
            "if !MUTANT { registration.shutDown(&effects) }",
        ),
    ),
    Mutation(
        "a watch takes the labels of a ghost for an agent",
        Edit(
            "AgentView.swift",
            "case .never where kv.lease != 0, .departed(0) where kv.lease != 0:",
            (
                "case .never where kv.lease != 0 && !MUTANT, .departed(0) where kv.lease != 0 && "
                "!MUTANT:"
            ),
        ),
        rule="observers",
    ),
    Mutation(
        "a list takes the labels of a ghost for an agent",
        Edit(
            "HeldPage.swift",
            "} else if kv.lease != 0 {",
            "} else if kv.lease != 0, !MUTANT {",
        ),
        rule="observers",
    ),
    Mutation(
        "a list takes a lease that is not shown for none",
        Edit(
            "HeldPage.swift",
            "if !showsLeases { ask(.key, at) }",
            "if !showsLeases, !MUTANT { ask(.key, at) }",
        ),
        rule="observers",
    ),
    Mutation(
        "labels whose leases are not shown count as an agent",
        Edit(
            "HeldPage.swift",
            "ask(.areLeased, at)",
            "if !MUTANT { ask(.areLeased, at) }",
        ),
        rule="observers",
    ),
]

# Watches, fetches, lists, operations, and the connection below them.
OTHERS = [
    Mutation(
        "a list goes on with another connection",
        Edit(
            "ListJob.swift",
            "return self.connection == connection",
            "return MUTANT || self.connection == connection",
        ),
        Edit(
            "WatchListing.swift",
            "return self.connection == connection",
            "return MUTANT || self.connection == connection",
        ),
    ),
    Mutation(
        "a watch resumes at the newest revision, not where it stopped",
        Edit(
            "WatchStream.swift",
            "newest >= watcher.next ?",
            "MUTANT ? newest &+ 1 : newest >= watcher.next ?",
        ),
    ),
    Mutation(
        "a watch resumes exactly where it stopped (etcd's issue 18089)",
        Edit(
            "WatchStream.swift",
            "max(1, watcher.next &- 1) : watcher.next",
            "(MUTANT ? watcher.next : max(1, watcher.next &- 1)) : watcher.next",
        ),
    ),
    Mutation(
        "events older than asked for are told",
        Edit(
            "WatchStream.swift",
            "let events = fresh ? events",
            "let events = fresh || MUTANT ? events",
        ),
    ),
    Mutation(
        "a fragment is taken for a whole message",
        Edit(
            "WatchStream.swift",
            "guard !response.fragment else { return .nothing }",
            "guard !response.fragment || MUTANT else { return .nothing }",
        ),
    ),
    Mutation(
        "a store that was wiped is not noticed",
        Edit(
            "MetadataCore+Connection.swift",
            "case .replaced: storeWasReplaced()",
            "case .replaced: if !MUTANT { storeWasReplaced() }",
        ),
    ),
    Mutation(
        "an overflow is silence",
        Edit(
            "MetadataCore+Watching.swift",
            "        case .stalled(let ending):\n",
            "        case .stalled where MUTANT: break\n        case .stalled(let ending):\n",
        ),
    ),
    Mutation(
        "time-outs are forgotten",
        Edit(
            "Operations.swift",
            "guard first.at <= now else { return }",
            "guard first.at &+ (MUTANT ? 3000 : 0) <= now else { return }",
        ),
    ),
    Mutation(
        "an operation completes twice",
        Edit(
            "Operations.swift",
            ("        operations[completion.operation] = nil\n        tell(.completed(completion)"),
            (
                "        if !MUTANT { operations[completion.operation] = nil }\n"
                "        tell(.completed(completion)"
            ),
        ),
    ),
    Mutation(
        "the end of an agent is not told",
        Edit(
            "AgentView.swift",
            (
                "guard case .present(let known) = view.presence else { return }\n"
                "        depart(known, revision)"
            ),
            (
                "guard case .present(let known) = view.presence else { return }\n"
                "        if MUTANT, known % 8 == 0 { return }\n"
                "        depart(known, revision)"
            ),
        ),
    ),
    Mutation(
        "a dead endpoint is tried again and again, no other",
        Edit(
            "Endpoints.swift",
            "position = at + 1\n",
            "position = MUTANT ? at : at + 1\n",
        ),
    ),
    Mutation(
        "a time-out does not wake its host",
        Edit(
            "MetadataCore.swift",
            "        consider(deadlines.first?.at)\n",
            "        if !MUTANT { consider(deadlines.first?.at) }\n",
        ),
    ),
    Mutation(
        "the pages of a watch's list are not of one revision",
        Edit(
            "WatchListing.swift",
            "limit: limit, revision: revision, keysOnly",
            "limit: limit, revision: MUTANT ? 0 : revision, keysOnly",
        ),
    ),
    Mutation(
        "the pages of a list are not of one revision",
        Edit(
            "ListJob.swift",
            "            revision: revision, keysOnly: true)",
            "            revision: MUTANT ? 0 : revision, keysOnly: true)",
        ),
    ),
    Mutation(
        "a member is asked what it knows, not what the cluster does",
        Edit(
            "Fetch.swift",
            "return RangeRequest(key: key(keyspace))",
            "return RangeRequest(key: key(keyspace), serializable: MUTANT)",
        ),
    ),
    Mutation(
        "after RESYNC everything is told again",
        Edit(
            "AgentView.swift",
            "if view.labels[label] != kv.put { labelPut(label, kv) }",
            "if MUTANT || view.labels[label] != kv.put { labelPut(label, kv) }",
        ),
    ),
    Mutation(
        "CONTACT_LOST is told at once",
        Edit(
            "Contact.swift",
            "missingSince &+ Timing.contactLost",
            "missingSince &+ (MUTANT ? 100 : Timing.contactLost)",
        ),
    ),
    Mutation(
        "a peer that is silent is not asked whether it lives",
        Edit(
            "Patience.swift",
            "return owed.silence == .max ?",
            "return owed.silence == .max || MUTANT ?",
        ),
    ),
    Mutation(
        "blobs that were taken are counted as if they waited",
        Edit(
            "Outputs.swift",
            "        bytes -= noticeBytes\n",
            "        if !MUTANT { bytes -= noticeBytes }\n",
        ),
    ),
]

MUTATIONS = PROTOCOL + OTHERS
