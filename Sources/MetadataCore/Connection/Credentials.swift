// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// The user, and the token that etcd gave it. The token outlives connections: an Authenticate costs etcd a bcrypt, 59 ms of
/// CPU, and a fleet that reconnects would pay it for each agent.
struct Credentials {
    private enum State {
        /// Requests carry no token: there is no user, or etcd knows none.
        case notNeeded
        case wanted
        case asked
        case held
    }
    private let user: Bytes
    private var password: Bytes
    private var state: State
    private(set) var token = Bytes()
    /// Counts tokens, so that a late refusal of an older one does not cost the new one.
    private(set) var serial = 0
    private var refusals: UInt64 = 0
    private var refusedAt: Milliseconds = 0
    private var askAfter: Milliseconds = 0

    init(user: Bytes, password: Bytes) {
        self.user = user
        self.password = password
        state = user.isEmpty ? .notNeeded : .wanted
    }

    var hasUser: Bool { !user.isEmpty }

    /// Requests may be sent, with `token`.
    var isReady: Bool {
        switch state {
        case .notNeeded, .held: true
        case .wanted, .asked: false
        }
    }

    /// Overwrites the password and the token. Nothing can be authenticated afterwards.
    mutating func forget() {
        password.wipe()
        token.wipe()
    }

    /// Another server may want a token where the last one did not.
    mutating func connectionIsNew() {
        if state != .held, hasUser { state = .wanted }
    }

    /// The request to send now, counted as sent; nil: none.
    mutating func request(now: Milliseconds) -> AuthenticateRequest? {
        guard state == .wanted, now >= askAfter else { return nil }
        state = .asked
        return AuthenticateRequest(name: user, password: password)
    }

    mutating func isUnanswered() {
        if state == .asked { state = .wanted }
    }

    mutating func isNotNeeded() {
        token.wipe()
        state = .notNeeded
    }

    mutating func given(_ token: Bytes) {
        self.token = token
        serial += 1
        state = .held
    }

    /// The server does not take the token, or wants one. The next is asked for at once; after further refusals in a row with
    /// a pause that doubles, up to `pauseMax`. False: it was an older token.
    mutating func refused(_ refused: Int, now: Milliseconds, pauseMax: Milliseconds) -> Bool {
        guard hasUser, refused == serial, isReady else { return false }
        token.wipe()
        serial += 1
        state = .wanted
        let isInARow = refusals > 0 && now &- refusedAt < pauseMax
        refusals = isInARow ? min(refusals + 1, 10) : 1
        refusedAt = now
        let pause = min(Timing.tokenPause << (refusals - 1), pauseMax)
        askAfter = refusals > 1 ? now &+ pause : now
        return true
    }

    /// When a token may be asked for; nil: none is wanted.
    var deadline: Milliseconds? { state == .wanted ? askAfter : nil }
}
