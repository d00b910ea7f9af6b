# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The rules by which a fleet comes back (docs/patience.md), each left out: fleets must find it."""

from __future__ import annotations

from mutations import Edit, Mutation

PATIENCE, LOOKOUT, CONNECTION = "Patience.swift", "Lookout.swift", "Connection.swift"
CREDENTIALS = "Credentials.swift"

FLEETS = [
    Mutation(
        "silence is judged although nobody asked for a sign of life",
        Edit(
            PATIENCE,
            "if isProbing || !hasHeard { return .max }",
            "if MUTANT || isProbing || !hasHeard { return .max }",
        ),
        Edit(
            PATIENCE,
            "guard hasHeard else { return due }",
            "guard hasHeard, !MUTANT else { return due }",
        ),
        rule="1",
    ),
    Mutation(
        "silence is judged at a fixed time, however slow acknowledgements are",
        Edit(
            PATIENCE,
            "min(slowest &* Timing.slowestAcknowledgements, owed.ttl / 3)",
            "MUTANT ? 0 : min(slowest &* Timing.slowestAcknowledgements, owed.ttl / 3)",
        ),
        rule="2",
    ),
    Mutation(
        "a stopped member is waited for although there are others",
        Edit(
            LOOKOUT,
            "if owed.hasOthers || isPathDead { return due }",
            "if (owed.hasOthers && !MUTANT) || isPathDead { return due }",
        ),
        rule="3",
    ),
    Mutation(
        "the same endpoint gets a second connection at once",
        Edit(
            LOOKOUT,
            "let patience = (wasGood ? owed.ttl / 3 : owed.ttl) << min(silences, 3)",
            "let patience = MUTANT ? 0 : (wasGood ? owed.ttl / 3 : owed.ttl) << min(silences, 3)",
        ),
        rule="4",
    ),
    Mutation(
        "the silent connection is closed before another has answered",
        Edit(
            CONNECTION,
            "        case .open:\n",
            "        case .open:\n            if MUTANT { return Self.verdict(target) }\n",
        ),
        rule="5",
    ),
    Mutation(
        "a living connection is left when a request takes 2 s",
        Edit(
            PATIENCE,
            "var due = oldest == .max ? .max : oldest &+ 2 &* owed.ttl",
            "var due = oldest == .max ? .max : oldest &+ (MUTANT ? 2000 : 2 &* owed.ttl)",
        ),
        Edit(
            LOOKOUT,
            "return max(due, silentSince",
            "return MUTANT ? due : max(due, silentSince",
        ),
        rule="6, 8",
    ),
    Mutation(
        "a living member that does not renew is never left",
        Edit(
            PATIENCE,
            "guard owed.hasOthers else { return due }",
            "guard owed.hasOthers, !MUTANT else { return due }",
        ),
        rule="6",
    ),
    Mutation(
        "no pause between attempts that were left unanswered",
        Edit(
            LOOKOUT,
            "min(Timing.lookoutPause << min(silences, 8), "
            "min(owed.ttl / 6, Timing.lookoutPauseMax))",
            "MUTANT ? 1 : min(Timing.lookoutPause << min(silences, 8), "
            "min(owed.ttl / 6, Timing.lookoutPauseMax))",
        ),
        Edit(
            LOOKOUT,
            "? max(Timing.life, owed.ttl / 2)",
            "? max(Timing.life, MUTANT ? 0 : owed.ttl / 2)",
        ),
        rule="7",
    ),
    Mutation(
        "each connection asks for a token of its own",
        Edit(
            CREDENTIALS,
            "if state != .held, hasUser { state = .wanted }",
            "if state != .held || MUTANT, hasUser { state = .wanted }",
        ),
        rule="9",
    ),
]
