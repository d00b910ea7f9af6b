// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol

@testable import MetadataCore

/// Steps that the suites about one world share.
protocol WorldSuite {
    var world: World { get }
}

extension WorldSuite {
    var a: StaticString { "/nixl/agents//alpha/a" }
    /// The presence key of the agent that most of it is about.
    var presence: StaticString { "/nixl/agents//alpha/" }
    var permission: GRPCStatus {
        GRPCStatus(code: 7, message: Bytes("etcdserver: permission denied"))
    }

    var noSpace: GRPCStatus {
        GRPCStatus(code: 8, message: Bytes("etcdserver: mvcc: database space exceeded"))
    }

    /// The n-th of the following requests of this kind has this fate.
    func befall(_ fate: World.Fate, _ method: EtcdMethod = .txn, nth: Int = 1) {
        for _ in 1..<nth { world.fates.append((method, .ordinary)) }
        world.fates.append((method, fate))
    }

    /// Everything that writes keys or removes them.
    func refuseWrites(_ status: GRPCStatus?) {
        for method: EtcdMethod in [.txn, .leaseRevoke] { world.refusals[method] = status }
    }

    /// Somebody else removes the agent: all its keys, or its presence key alone.
    func operatorRemoves(all: Bool = true) {
        let end = all ? Keyspace.end(of: Bytes(presence)) : []
        world.etcd.apply([.delete(key: Bytes(presence), rangeEnd: end)])
        world.settle()
    }

    /// Nothing reaches etcd from here on.
    func disconnect(_ node: World.Node) {
        world.isDown = true
        world.cut(node)
    }

    func status(_ node: World.Node, _ operation: OperationID) -> Status? {
        node.completions[operation]?.status
    }

    /// Everything in the store hangs on this lease, and there is no other lease.
    func hangsEverything(on lease: Int64) -> Bool {
        lease != 0 && !world.etcd.store.isEmpty && Array(world.etcd.leases.keys) == [lease]
            && world.etcd.store.allSatisfy { $0.lease == lease }
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

    func stored(_ key: StaticString) -> Record? { world.etcd.value(Bytes(key)) }
}
