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
    /// The origin of each state except the first; the index is the state's number less one.
    private var origins: [Origin] = []
    private var known: [Int: Int32] = [:]
    private var frontier: [(state: Explored, id: Int32)] = []
    /// From state to state, by what needs nobody but the processes and the server.
    private var ordinary: [(from: Int32, to: Int32)] = []
    /// States that nothing ordinary leaves, or that were not explored.
    private var ends: [Int32] = []
    private(set) var failures: [(text: String, path: [Happening])] = []
    private(set) var isComplete = false
    private(set) var steps = 0
    var states: Int { known.count }

    init(_ bounds: Bounds) {
        let start = Explored(bounds)
        known[start.hashValue] = 0
        frontier = [(start, 0)]
    }

    mutating func run(atMost limit: Int) {
        isComplete = true
        while !frontier.isEmpty {
            let level = frontier
            frontier = []
            for (state, id) in level {
                if known.count < limit {
                    expand(state, id)
                } else {
                    isComplete = false
                    ends.append(id)
                }
            }
        }
        findSpinning()
    }

    /// From every state, one must be reachable in which nothing is left to do.
    private mutating func findSpinning() {
        var starts = [Int](repeating: 0, count: known.count + 1)
        for edge in ordinary { starts[Int(edge.to) + 1] += 1 }
        for at in 0..<known.count { starts[at + 1] += starts[at] }
        var places = starts
        var sources = [Int32](repeating: 0, count: ordinary.count)
        for edge in ordinary {
            sources[places[Int(edge.to)]] = edge.from
            places[Int(edge.to)] += 1
        }
        var comesToRest = [Bool](repeating: false, count: known.count)
        for id in ends { comesToRest[Int(id)] = true }
        var open = ends
        while let id = open.popLast() {
            for at in starts[Int(id)]..<starts[Int(id) + 1] where !comesToRest[Int(sources[at])] {
                comesToRest[Int(sources[at])] = true
                open.append(sources[at])
            }
        }
        if let id = comesToRest.firstIndex(of: false) {
            fail("it goes round and round", Int32(id))
        }
    }

    private mutating func expand(_ state: Explored, _ id: Int32) {
        if let text = state.wrong() {
            fail(text, id)
            ends.append(id)
            return
        }
        var isMoving = false
        for happening in state.happenings() {
            var next = state
            next.happen(happening)
            steps += 1
            let isOrdinary = happening.isOrdinary && next != state
            if isOrdinary { isMoving = true }
            let hash = next.hashValue
            let place = known[hash] ?? Int32(known.count)
            if isOrdinary { ordinary.append((id, place)) }
            guard place == known.count else { continue }
            known[hash] = place
            origins.append(Origin(parent: id, happening: happening))
            frontier.append((next, place))
        }
        guard !isMoving else { return }
        ends.append(id)
        if let text = state.wrongAtRest() { fail(text, id) }
    }

    private mutating func fail(_ text: String, _ id: Int32) {
        guard !failures.contains(where: { $0.text == text }) else { return }
        var path: [Happening] = []
        var at = id
        while at > 0 {
            path.append(origins[Int(at) - 1].happening)
            at = origins[Int(at) - 1].parent
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
    ("two labels, no space", "labels=2 nospace=2 losses=0 op=0"),
    (
        "a look amid a doubt",
        "timeouts=1 missed=1 expire=1 move=1 losses=0 op=0 change=0 leave=0"
    ),
    ("a stock agent", "stock=1 move=1 losses=1"),
    ("an older store", "snapshot=1 move=1 losses=0 op=0"),
    ("two labels", "labels=2 move=1 losses=1 expire=1"),
    ("two labels, refusals", "labels=2 refusals=2 losses=0 op=0"),
    ("shutdowns", "shut=1 refusals=2 losses=1 op=0 change=0 leave=0"),
    ("calls meanwhile", "later=1 shut=1 op=1 change=0 losses=0"),
    ("refused grants", "grants=1 losses=1 op=0"),
    ("refused readings", "reads=1 refusals=1 losses=0 op=0 change=0 move=1"),
    ("refused renewals", "renewals=1 move=1 refusals=1 losses=0 op=0 change=0"),
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
        // Operations under way show what was sent, refused and answered.
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
