// swift-tools-version: 6.2
// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

// The shipped library is built with `--traits Embedded`; without the trait the same sources are
// ordinary Swift, for `swift test`.
let embedded = BuildSettingCondition.when(traits: ["Embedded"])

let swiftSettings: [SwiftSetting] = [
    .enableExperimentalFeature("Lifetimes"),
    .treatAllWarnings(as: .error),
    // A section per function, so that the linker drops the copies that each module brings of the same
    // generic code: with both the stripped library has less than half the size.
    // Repeated instructions become functions: 2 % less, at 7 % more instructions for a publish.
    // Exclusive access is checked in the ordinary build, by every test and the simulator.
    .unsafeFlags(
        [
            "-Osize", "-enforce-exclusivity=unchecked", "-Xfrontend", "-function-sections",
            "-Xllvm", "-inline-threshold=-20",
            "-Xllvm", "-enable-machine-outliner=always", "-Xllvm", "-machine-outliner-reruns=4",
        ], embedded),
    // Not .enableExperimentalFeature: SwiftPM 6.3 gives that to the linking of the ordinary build too, whatever the
    // trait, and then the tests are linked without Swift's runtime and none is found.
    .unsafeFlags(["-enable-experimental-feature", "Embedded"], embedded),
]

// The C modules are small parts at the edge of everything: size counts there, too.
let cSettings: [CSetting] = [.unsafeFlags(["-Os"], embedded)]

let package = Package(
    name: "nixl_md",
    products: [
        .library(name: "nixl_md", type: .dynamic, targets: ["NixlMD"])
    ],
    traits: [
        .trait(
            name: "Embedded",
            description: "Embedded Swift: the small shared library that needs no Swift runtime")
    ],
    targets: [
        .target(name: "CNixlMD"),
        .target(name: "CCurl", cSettings: cSettings, linkerSettings: [.linkedLibrary("curl")]),
        .target(
            name: "CNghttp2", cSettings: cSettings, linkerSettings: [.linkedLibrary("nghttp2")]),
        .target(name: "CSystem", cSettings: cSettings),
        .target(name: "EtcdProtocol", swiftSettings: swiftSettings),
        .target(
            name: "MetadataCore", dependencies: ["EtcdProtocol"], swiftSettings: swiftSettings),
        .target(
            name: "NixlMD",
            dependencies: [
                "CNixlMD", "CCurl", "CNghttp2", "CSystem", "EtcdProtocol", "MetadataCore",
            ],
            exclude: ["nixl_md.map", "sections.ld"],
            swiftSettings: swiftSettings,
            linkerSettings: [
                .unsafeFlags(
                    [
                        // No Swift runtime.
                        "-enable-experimental-feature", "Embedded",
                        // Nothing but nixl_md_* may be seen: objects export weak swift_* symbols.
                        "-Xlinker", "--version-script=Sources/NixlMD/nixl_md.map",
                        "-Xlinker", "--script=Sources/NixlMD/sections.ld",
                        "-Xlinker", "--gc-sections", "-Xlinker", "--icf=all", "-Xlinker",
                        "--no-undefined",
                        // Swift asks for all memory by this, at twice the cost of malloc (CSystem/Memory.c).
                        "-Xlinker", "--wrap=posix_memalign",
                        // The resolver's thread may still run our code after a dlclose.
                        "-Xlinker", "-z", "-Xlinker", "nodelete",
                        "-Xlinker", "-z", "-Xlinker", "relro", "-Xlinker", "-z", "-Xlinker", "now",
                        "-Xlinker", "-soname=libnixl_md.so.0",
                        "-lc", "-lm",
                    ], embedded)
            ]),
        // A model of etcd, and a world of agents around it.
        .target(
            name: "EtcdModel", dependencies: ["EtcdProtocol"], path: "Tests/EtcdModel",
            swiftSettings: swiftSettings),
        .target(
            name: "Simulation", dependencies: ["EtcdModel", "MetadataCore", "EtcdProtocol"],
            path: "Tests/Simulation", swiftSettings: swiftSettings),
        .executableTarget(
            name: "simulate", dependencies: ["Simulation"], path: "Tests/Simulator",
            swiftSettings: swiftSettings),
        .executableTarget(
            name: "explore", dependencies: ["MetadataCore", "EtcdProtocol"],
            path: "Tests/Exploration",
            swiftSettings: swiftSettings),
        .testTarget(
            name: "EtcdProtocolTests", dependencies: ["EtcdProtocol"], swiftSettings: swiftSettings),
        .testTarget(
            name: "MetadataCoreTests", dependencies: ["EtcdModel", "MetadataCore", "EtcdProtocol"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "EtcdModelTests", dependencies: ["EtcdModel", "EtcdProtocol"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "SimulationTests", dependencies: ["Simulation"], swiftSettings: swiftSettings),
        .testTarget(
            name: "NixlMDTests",
            dependencies: ["NixlMD", "CNixlMD", "MetadataCore", "EtcdProtocol"],
            swiftSettings: swiftSettings),
    ],
    swiftLanguageModes: [.v6]
)
