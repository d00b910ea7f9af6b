// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Microseconds of the world's clock.
package typealias Instant = UInt64

/// A client's packet on a connection, in the order of sending.
package enum ClientPacket {
    /// The beginning of HTTP/2, with the first SETTINGS.
    case preface
    /// A SETTINGS frame to be acknowledged.
    case probe
    case call(UInt64, EtcdMethod, frame: [UInt8], token: [UInt8])
    case openStream(UInt64, EtcdMethod, token: [UInt8])
    case send(UInt64, frame: [UInt8])
    case closeStream(UInt64)
    /// The client has closed the connection.
    case goodbye
}

/// A server's packet on a connection.
package enum ServerPacket {
    /// The server's first SETTINGS.
    case settings
    case acknowledgement
    case reply(UInt64, Outcome)
    case message(UInt64, [UInt8])
    case streamEnded(UInt64, Outcome)
    /// The server is gone, or has closed the connection.
    case reset
}

package enum Outcome {
    case ok([UInt8])
    case failed(code: Int32, StaticString)

    // etcd api/v3rpc/rpctypes/error.go.
    static let noLeader = Outcome.failed(code: 14, "etcdserver: no leader")
    static let timedOut = Outcome.failed(code: 14, "etcdserver: request timed out")
    static let compacted = Outcome.failed(
        code: 11, "etcdserver: mvcc: required revision has been compacted")
    static let futureRevision = Outcome.failed(
        code: 11, "etcdserver: mvcc: required revision is a future revision")
    static let leaseNotFound = Outcome.failed(code: 5, "etcdserver: requested lease not found")
    static let leaseExists = Outcome.failed(code: 9, "etcdserver: lease already exists")
    static let leaseTooLong = Outcome.failed(code: 11, "etcdserver: too large lease TTL")
    static let invalidToken = Outcome.failed(code: 16, "etcdserver: invalid auth token")
    static let oldAuthStore = Outcome.failed(
        code: 3, "etcdserver: revision of auth store is old")
    static let invalidCredentials = Outcome.failed(
        code: 3, "etcdserver: authentication failed, invalid user ID or password")
    static let noAuthentication = Outcome.failed(
        code: 9, "etcdserver: authentication is not enabled")
    static let tooLarge = Outcome.failed(code: 3, "etcdserver: request is too large")
    static let tooManyOperations = Outcome.failed(
        code: 3, "etcdserver: too many operations in txn request")
    static let duplicateKey = Outcome.failed(
        code: 3, "etcdserver: duplicate key given in txn request")
    static let noSpace = Outcome.failed(
        code: 8, "etcdserver: mvcc: database space exceeded")
    static let forbidden = Outcome.failed(code: 7, "etcdserver: permission denied")
    static let damaged = Outcome.failed(code: 13, "grpc: error while unmarshaling the request")
}

/// A connection as its server sees it.
final class ServerConnection {
    let id: Int
    let author: Int
    var streams: [ServerStream] = []
    /// The client has said goodbye, or the connection was cut: nobody hears an answer.
    var isOpen = true

    init(id: Int, author: Int) {
        self.id = id
        self.author = author
    }
}

/// The connections of a member, in the order in which they came.
struct ServerConnections: Sequence {
    private var inOrder: [ServerConnection] = []
    private var byID: [Int: ServerConnection] = [:]

    subscript(id: Int) -> ServerConnection? { byID[id] }

    mutating func append(_ connection: ServerConnection) {
        inOrder.append(connection)
        byID[connection.id] = connection
    }

    mutating func remove(id: Int) {
        guard let connection = byID.removeValue(forKey: id) else { return }
        inOrder.removeAll { $0 === connection }
    }

    func makeIterator() -> IndexingIterator<[ServerConnection]> { inOrder.makeIterator() }
}

/// A stream of watches or of lease renewals.
final class ServerStream {
    let id: UInt64
    let method: EtcdMethod
    let token: [UInt8]
    /// When it was opened.
    let tokenIsGood: Bool
    var watchers: [ServerWatcher] = []
    var isOpen = true

    init(id: UInt64, method: EtcdMethod, token: [UInt8], tokenIsGood: Bool) {
        self.id = id
        self.method = method
        self.token = token
        self.tokenIsGood = tokenIsGood
    }
}

struct ServerWatcher {
    let id: Int64
    let key: [UInt8]
    let rangeEnd: [UInt8]
    let fragments: Bool
    /// Where it begins.
    let first: Int64
    /// The next revision to tell.
    var next: Int64
    /// The watcher has sent everything that its member knows.
    var isSynced: Bool
}
