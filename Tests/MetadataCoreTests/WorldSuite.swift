// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

@testable import MetadataCore

/// What suites about one world ask of it again and again.
protocol WorldSuite {
    var world: World { get }
}

extension WorldSuite {
    /// The presence key of the agent that most of it is about.
    var presence: StaticString { "/nixl/agents//alpha/" }
    var permission: GRPCStatus {
        GRPCStatus(code: 7, message: Bytes("etcdserver: permission denied"))
    }

    @discardableResult
    func publish(
        _ node: World.Node, _ label: StaticString = "a", _ blob: StaticString = "1"
    ) -> OperationID {
        world.submit(node, .publish(label: Bytes(label), blob: Bytes(blob)))
    }

    /// More than one transaction takes.
    func publishMany(_ node: World.Node) {
        for index in 0..<250 {
            world.submit(
                node, .publish(label: [1, UInt8(index)], blob: Bytes(repeating: 7, count: 10)))
        }
    }

    @discardableResult
    func heartbeat(_ node: World.Node) -> OperationID {
        world.submit(node, .startHeartbeat(interval: 1000, ttlSeconds: 5))
    }

    func stored(_ key: StaticString) -> KeyValue? { world.etcd.value(Bytes(key)) }
}
