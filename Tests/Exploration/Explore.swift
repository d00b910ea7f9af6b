// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Foundation
import MetadataCore

/// Explores every interleaving of the registration within bounds, breadth first.
struct Exploration {
    private struct Origin {
        let parent: Int32
        let happening: Happening
    }
    private var origins: [Origin] = []
    private var known: Set<Int> = []
    private var frontier: [(state: Explored, id: Int32)] = []
    private(set) var failures: [(text: String, path: [Happening])] = []
    private(set) var isComplete = false
    private(set) var steps = 0
    var states: Int { known.count }

    init(_ bounds: Bounds) {
        let start = Explored(bounds)
        known.insert(start.hashValue)
        frontier = [(start, -1)]
    }

    mutating func run(atMost limit: Int) {
        while !frontier.isEmpty {
            let level = frontier
            frontier = []
            for (state, id) in level {
                guard known.count < limit else { return }
                expand(state, id)
            }
        }
        isComplete = true
    }

    private mutating func expand(_ state: Explored, _ id: Int32) {
        if let text = state.wrong() {
            fail(text, id)
            return
        }
        var isMoving = false
        for happening in state.happenings() {
            var next = state
            next.happen(happening)
            steps += 1
            if happening.isOrdinary, next != state { isMoving = true }
            guard known.insert(next.hashValue).inserted else { continue }
            origins.append(Origin(parent: id, happening: happening))
            frontier.append((next, Int32(origins.count - 1)))
        }
        if !isMoving, let text = state.wrongAtRest() { fail(text, id) }
    }

    private mutating func fail(_ text: String, _ id: Int32) {
        guard !failures.contains(where: { $0.text == text }) else { return }
        var path: [Happening] = []
        var at = id
        while at >= 0 {
            path.append(origins[Int(at)].happening)
            at = origins[Int(at)].parent
        }
        failures.append((text, path.reversed()))
    }
}

/// The bound sets of ../shared's model, as they fit into a minute; all of them with `all`.
let sets: [(name: String, bounds: String)] = [
    ("lost answers", "losses=2 op=1 republish=1"),
    ("more lost answers", "losses=3 op=0 republish=1 change=0"),
    ("refusals", "refusals=1 losses=1 move=1"),
    ("refusals, an ending lease", "refusals=1 losses=1 move=1 republish=1 expire=1 op=0"),
    ("refused withdrawals", "refusals=2 losses=2 op=0 change=0"),
    ("late refusals", "timeouts=2 refusals=1 losses=1 op=0 change=0"),
    ("labels that stay", "labels=2 refusals=3 move=1 losses=0 op=0 change=0"),
    ("no space, given up", "nospace=1 abandon=1 losses=1 op=0"),
    ("late refusals, a missed event", "timeouts=2 missed=1 losses=0 op=0"),
    ("no space", "nospace=1 refusals=1 losses=1 move=1 republish=1 op=0"),
    ("a stock agent", "stock=1 move=1 losses=1"),
    ("an older store", "snapshot=1 move=1 losses=0 op=0"),
    ("two labels", "labels=2 move=1 losses=1 expire=1"),
    ("two labels, refusals", "labels=2 refusals=2 losses=0 op=0"),
    ("withdrawn twice", "op=1 expire=1 leave=1 losses=0 change=0"),
    ("two processes, an older store", "procs=2 snapshot=1 losses=0 op=0 change=0"),
    ("two processes", "procs=2 losses=2 op=0 change=0"),
    ("two processes, an ending lease", "procs=2 losses=1 op=0 expire=1 change=0 leave=0"),
    ("one that takes no name over", "procs=2 refuse=2 losses=1 op=0 leave=0"),
]

func parse(_ text: Substring) -> Bounds? {
    var bounds = Bounds()
    for item in text.split(separator: " ") {
        let parts = item.split(separator: "=")
        guard parts.count == 2, let value = Int(parts[1]), bounds.set(String(parts[0]), value)
        else {
            return nil
        }
    }
    return bounds
}

func explore(_ name: String, _ bounds: Bounds, atMost limit: Int) -> Bool {
    let clock = ContinuousClock()
    var exploration = Exploration(bounds)
    let time = clock.measure { exploration.run(atMost: limit) }
    let end = exploration.isComplete ? "complete" : "cut off"
    print("\(name): \(exploration.states) states, \(exploration.steps) steps, \(end), \(time)")
    for (text, path) in exploration.failures {
        print("  FAILED: \(text)")
        // What is under way says what was sent, refused, answered.
        var state = Explored(bounds)
        for happening in path {
            state.happen(happening)
            print("      \(happening): \(state.underWay)")
        }
    }
    return exploration.failures.isEmpty
}

@main
enum Explore {
    /// usage: explore [--until-failure] [--limit STATES] [BOUNDS...]; without bounds every set.
    static func main() {
        var limit = Int.max
        var given: [String] = []
        var isAllWanted = true
        var arguments = CommandLine.arguments.dropFirst()
        while let argument = arguments.popFirst() {
            if argument == "--limit" {
                limit = arguments.popFirst().flatMap { Int($0) } ?? limit
            } else if argument == "--until-failure" {
                isAllWanted = false
            } else {
                given.append(argument)
            }
        }
        var passed = 0
        var failed = 0
        let chosen = given.isEmpty ? sets : [("as given", given.joined(separator: " "))]
        for (name, text) in chosen where isAllWanted || failed == 0 {
            guard let bounds = parse(text[...]) else {
                print("cannot understand the bounds '\(text)'")
                failed += 1
                continue
            }
            if explore("\(name) (\(text))", bounds, atMost: limit) {
                passed += 1
            } else {
                failed += 1
            }
        }
        print("\(passed) passed, \(failed) failed")
        if failed > 0 { exit(1) }
    }
}
