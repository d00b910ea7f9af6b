// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// The state of the one connection.
enum Link {
    case idle
    /// All targets have failed: wait.
    case backoff(until: Milliseconds)
    case opening(Opening)
    case ready(ConnectionID, since: Milliseconds)

    struct Opening {
        enum Phase { case authenticating, hello }
        let connection: ConnectionID
        var phase: Phase
        var deadline: Milliseconds
    }

    var connection: ConnectionID? {
        switch self {
        case .idle, .backoff: nil
        case .opening(let opening): opening.connection
        case .ready(let connection, _): connection
        }
    }
}

extension MetadataCore {
    var isReady: Bool {
        if case .ready = link { true } else { false }
    }

    /// Whether anything needs etcd. Without need nothing is connected.
    private var isLinkWanted: Bool {
        !operations.isEmpty || heartbeat.isOn || !leasesToRevoke.isEmpty || ownership.needsLink
    }

    func driveLink() {
        switch link {
        case .backoff(let until):
            guard now >= until else { return }
            endpoints.newRound()
            link = .idle
            openLink()
        case .idle:
            openLink()
        case .opening(let opening):
            guard mayJudge, now >= opening.deadline else { return }
            hadSilence = true
            endpoints.wasSilent(now: now)
            failConnection(
                "no answer within \(connectDeadline) ms after connecting to \(currentTarget)")
            driveLink()
        case .ready:
            probeIfSilent()
        }
    }

    private func openLink() {
        guard isLinkWanted, !isShutDownComplete else { return }
        if unreachableSince == nil { unreachableSince = now }
        resolveNames(onlyUnknown: true)
        guard let target = endpoints.next(now: now) else {
            if endpoints.isEmpty {
                link = .backoff(until: now &+ Timing.backoffMax)
            } else {
                backOff()
            }
            return
        }
        let connection = newID()
        currentTarget = describe(target)
        currentEndpoint = target.endpoint
        token = []
        connectionCluster = 0
        connectionRevision = 0
        log(.debug, "connecting to \(currentTarget)")
        act(.connect(connection, endpoint: target.endpoint, address: target.address))
        let phase: Link.Opening.Phase = configuration.user.isEmpty ? .hello : .authenticating
        link = .opening(
            Link.Opening(connection: connection, phase: phase, deadline: now &+ connectDeadline))
        switch phase {
        case .authenticating:
            send(
                .authenticate(
                    AuthenticateRequest(
                        name: configuration.user, password: configuration.password)),
                .authenticate)
        case .hello:
            sendHello()
        }
    }

    private func describe(_ target: EndpointPool.Target) -> Text {
        let name = configuration.endpoints[target.endpoint].name
        return name.hasPrefix(target.address) ? "\(name)" : "\(name) [\(target.address)]"
    }

    func resolveNames(onlyUnknown: Bool) {
        for name in endpoints.namesToResolve(onlyUnknown: onlyUnknown, now: now) {
            log(.debug, "resolving \(configuration.endpoints[name].name)")
            act(.resolve(endpoint: name))
        }
    }

    /// One linearizable read before anything else: does a member with a leader answer, and is it the
    /// store that we know? (A store that was wiped and restarted keeps its cluster id, and a watch from a
    /// revision of its future would be silent for ever.)
    private func sendHello() {
        var request = RangeRequest(key: ownPresenceKey ?? keyspace.root)
        request.limit = 1
        request.keysOnly = true
        send(.range(request), .hello)
    }

    func authenticated(_ answer: Answer) {
        guard case .opening(var opening) = link else { return }
        switch answer {
        case .message(let bytes):
            guard let response = decoded(bytes, AuthenticateResponse.decode) else { return }
            guard response.token.count <= Limits.tokenBytes else {
                isMalformed("a token of \(response.token.count) bytes")
                return
            }
            token = response.token
        case .refused(.authenticationNotEnabled, _):
            token = []
        case .refused(let failure, let text):
            openingRefused(failure, text)
            return
        case .oversized:
            failConnection("\(currentTarget) answered Authenticate with an oversized message")
            return
        }
        opening.phase = .hello
        opening.deadline = now &+ connectDeadline
        link = .opening(opening)
        sendHello()
    }

    func greeted(_ answer: Answer) {
        guard case .opening(let opening) = link else { return }
        var wasReplaced = false
        switch answer {
        case .message(let bytes):
            guard let response = decoded(bytes, RangeResponse.decode) else { return }
            let cluster = response.header.clusterID
            wasReplaced =
                (clusterID != 0 && cluster != clusterID)
                || response.header.revision < counters.revision
            clusterID = cluster
            if wasReplaced { counters.revision = response.header.revision }
            seen(response.header)
        case .refused(.permission, _):
            break  // The role does not reach this key; the operations tell what they may not do.
        case .refused(let failure, let text):
            openingRefused(failure, text)
            return
        case .oversized:
            failConnection("\(currentTarget) answered Range with an oversized message")
            return
        }
        link = .ready(opening.connection, since: now)
        counters.connects &+= 1
        counters.isConnected = true
        connectDeadline = Timing.connectDeadline
        hadSilence = false
        unreachableSince = nil
        isContactLost = false
        troubled.removeAll()
        log(.info, "connected to \(currentTarget)")
        linkIsReady()
        if wasReplaced {
            storeWasReplaced()
        } else if isStoreInDoubt {
            sweep(
                .replaceStore("the store may have been replaced: it did not know a lease of ours"))
        }
        isStoreInDoubt = false
    }

    /// Wrong credentials end what cannot succeed with them; then it is tried again, slowly: they may be put
    /// right in etcd. A token that was too old once more is an ordinary failure.
    private func openingRefused(_ failure: Failure, _ text: Text) {
        failConnection("\(currentTarget) refused: \(text)")
        switch failure {
        case .unauthenticated: break
        case .tokenRefused, .permission:
            guard configuration.user.isEmpty || token.isEmpty else { return }
        case .transient, .authenticationNotEnabled, .tooLarge, .noSpace, .leaseNotFound,
            .leaseExists, .compacted, .other:
            return
        }
        link = .backoff(until: now &+ Timing.credentialsBackoff)
        sweep(
            .endAll(
                .unauthenticated,
                "\(text): check user and password, in the configuration and in etcd"))
    }

    /// What etcd says about itself with each answer.
    func seen(_ header: ResponseHeader) {
        counters.revision = max(counters.revision, header.revision)
        connectionRevision = max(connectionRevision, header.revision)
    }

    /// The connection is of no use any more: everything on it is dropped and asked again on the next.
    func failConnection(_ reason: Text) {
        guard let connection = link.connection else { return }
        trouble(currentEndpoint, reason)
        counters.connectsFailed &+= 1
        counters.isConnected = false
        act(.disconnect(connection))
        if case .ready(_, let since) = link, now &- since >= Timing.stable {
            endpoints.newRound()
            backoff = Timing.backoffFirst
        }
        if unreachableSince == nil { unreachableSince = now }
        link = .idle
        dropCalls()
        streamsAreLost()
        if endpoints.left == 0 { backOff() }
    }

    /// The first of an endpoint is told; each further attempt in vain is no news.
    private func trouble(_ endpoint: Int, _ reason: Text) {
        lastTrouble = reason
        let isNews = !troubled.contains(endpoint)
        if isNews { troubled.append(endpoint) }
        log(isNews ? .warn : .debug, reason)
    }

    private func backOff() {
        link = .backoff(until: now &+ backoff &- random.below(backoff / 2))
        backoff = min(backoff &* 2, Timing.backoffMax)
        if hadSilence { connectDeadline = min(connectDeadline &* 2, Timing.connectDeadlineMax) }
        hadSilence = false
        resolveNames(onlyUnknown: false)
    }

    func addressesResolved(endpoint: Int, addresses: [Bytes], reason: Text) {
        let wasEmpty = endpoints.isEmpty
        endpoints.resolved(endpoint, addresses: addresses)
        if addresses.isEmpty, configuration.endpoints.indices.contains(endpoint) {
            let name = configuration.endpoints[endpoint].name
            trouble(endpoint, "\(name) cannot be resolved: \(reason)")
        }
        if wasEmpty, !endpoints.isEmpty, case .backoff = link { link = .idle }
    }

    private func probeIfSilent() {
        guard isSilenceWatched, now >= lastReceived &+ Timing.silence else { return }
        var request = RangeRequest(key: ownPresenceKey ?? keyspace.root)
        request.limit = 1
        request.keysOnly = true
        request.serializable = true
        send(.range(request), .probe)
    }

    /// A request in flight has its own deadline; without one, open streams must hear something.
    var isSilenceWatched: Bool {
        isReady && calls.isEmpty && (watchStream.id != nil || keepAliveStream != nil)
    }

    /// When `driveLink` has something to do.
    var linkDeadline: Milliseconds? {
        switch link {
        case .idle: nil
        case .backoff(let until): isLinkWanted ? until : nil
        case .opening(let opening): opening.deadline
        case .ready: isSilenceWatched ? lastReceived &+ Timing.silence : nil
        }
    }
}
