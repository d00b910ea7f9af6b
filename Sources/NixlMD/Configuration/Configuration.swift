// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import CSystem
import EtcdProtocol
import MetadataCore

/// `nixl_md_config_t` and the environment, checked and copied.
struct Configuration {
    var endpoints: [Endpoint]
    var namespace: Bytes
    /// nil: an observer.
    var agent: Bytes?
    var tls: TLSOptions
    /// Empty: no authentication.
    var user: Bytes
    var password: Bytes
    var refuseTakeover: Bool
    var resolveInOpen: Bool
    var logger: Logger
    var owner: OwnerListener

    private static let knownFlags =
        NIXL_MD_CONFIG_REFUSE_TAKEOVER.rawValue | NIXL_MD_CONFIG_RESOLVE_IN_OPEN.rawValue
        | NIXL_MD_CONFIG_IGNORE_ENVIRONMENT.rawValue | NIXL_MD_CONFIG_TLS_NO_VERIFY.rawValue

    init(_ pointer: UnsafePointer<nixl_md_config_t>?) throws(Refusal) {
        guard let pointer else { throw .invalid("config is NULL: pass a nixl_md_config_t") }
        try checkStruct("config", pointer, known: MemoryLayout<nixl_md_config_t>.size)
        let config = pointer.pointee
        guard config.flags & ~Self.knownFlags == 0 else {
            throw .invalid(
                "config.flags has 0x\(hex: UInt64(config.flags & ~Self.knownFlags)), which is not a NIXL_MD_CONFIG_ flag"
            )
        }
        guard config.reserved == 0 else {
            throw .invalid("config.reserved is \(config.reserved): zero the struct first")
        }
        let environment = Environment(
            isIgnored: config.flags & NIXL_MD_CONFIG_IGNORE_ENVIRONMENT.rawValue != 0)
        endpoints = try Self.endpoints(config, environment)
        namespace = try Self.namespace(config, environment)
        agent =
            try config.agent == nil
            ? nil
            : TextArgument("config.agent", config.agent, config.agent_len)
                .agent(overLimit: StatusCode.invalidParameter)
        tls = try Self.tls(config)
        (user, password) = try Self.credentials(config)
        refuseTakeover = config.flags & NIXL_MD_CONFIG_REFUSE_TAKEOVER.rawValue != 0
        resolveInOpen = config.flags & NIXL_MD_CONFIG_RESOLVE_IN_OPEN.rawValue != 0
        logger = try Self.logger(config, environment)
        owner = OwnerListener(
            agent: agent ?? [], onEvent: config.on_event, user: config.on_event_user)
    }

    // MARK: Where and under which names

    private static func endpoints(
        _ config: nixl_md_config_t, _ environment: Environment
    ) throws(Refusal) -> [Endpoint] {
        if let text = try text("config.endpoints", config.endpoints) {
            return try EndpointList(source: "config.endpoints").parse(text)
        }
        if let text = try environment.value("NIXL_ETCD_ENDPOINTS") {
            return try EndpointList(source: "NIXL_ETCD_ENDPOINTS").parse(text)
        }
        throw .invalid(
            environment.isIgnored
                ? "config.endpoints is NULL and the environment is ignored: give endpoints, like 127.0.0.1:2379"
                : "config.endpoints is NULL and NIXL_ETCD_ENDPOINTS is not set: set one, like 127.0.0.1:2379"
        )
    }

    /// Used byte for byte, as stock NIXL does; even an empty one.
    private static func namespace(
        _ config: nixl_md_config_t, _ environment: Environment
    ) throws(Refusal) -> Bytes {
        let source: StaticString
        let namespace: Bytes
        if let given = config.name_space {
            source = "config.name_space"
            namespace = try text("config.name_space", given) ?? []
        } else if let found = try environment.value("NIXL_ETCD_NAMESPACE") {
            source = "NIXL_ETCD_NAMESPACE"
            namespace = found
        } else {
            return Bytes(cString: cnixlmd_default_namespace())
        }
        guard namespace.count <= NIXL_MD_MAX_NAMESPACE else {
            throw .invalid(
                """
                \(source) '\(namespace, limit: 40)' has \(namespace.count) bytes; the limit \
                NIXL_MD_MAX_NAMESPACE is \(NIXL_MD_MAX_NAMESPACE)
                """)
        }
        return namespace
    }

    // MARK: How

    private static func tls(_ config: nixl_md_config_t) throws(Refusal) -> TLSOptions {
        let options = TLSOptions(
            caFile: try nonEmpty("config.ca_file", config.ca_file),
            certFile: try nonEmpty("config.cert_file", config.cert_file),
            keyFile: try nonEmpty("config.key_file", config.key_file),
            serverName: try nonEmpty("config.server_name", config.server_name),
            verify: config.flags & NIXL_MD_CONFIG_TLS_NO_VERIFY.rawValue == 0)
        if let certFile = options.certFile, options.keyFile == nil {
            throw .invalid(
                "config.cert_file is '\(certFile)' but config.key_file is NULL: give both or neither"
            )
        }
        if let keyFile = options.keyFile, options.certFile == nil {
            throw .invalid(
                "config.key_file is '\(keyFile)' but config.cert_file is NULL: give both or neither"
            )
        }
        if let name = options.serverName, !EndpointList.isHost(name) {
            throw .invalid(
                "config.server_name '\(name)' is neither a host name nor an address: give the name in the certificate"
            )
        }
        return options
    }

    private static func credentials(
        _ config: nixl_md_config_t
    ) throws(Refusal) -> (user: Bytes, password: Bytes) {
        let user = try nonEmpty("config.user", config.user)
        let password = try nonEmpty("config.password", config.password)
        guard (user == nil) == (password == nil) else {
            throw .invalid(
                user == nil
                    ? "config.password is given but config.user is NULL: give both or neither"
                    : "config.user is '\(user ?? [])' but config.password is NULL: give both or neither"
            )
        }
        return (user ?? [], password ?? [])
    }

    private static func logger(
        _ config: nixl_md_config_t, _ environment: Environment
    ) throws(Refusal) -> Logger {
        let isDefault = config.log_level == Int32(bitPattern: NIXL_MD_LOG_DEFAULT.rawValue)
        let given = LogLevel(rawValue: config.log_level)
        guard isDefault || given != nil else {
            throw .invalid(
                "config.log_level is \(config.log_level): pass NIXL_MD_LOG_DEFAULT (0) to NIXL_MD_LOG_OFF (7)"
            )
        }
        // Only read where it decides something.
        var asked: LogLevel?
        if isDefault || config.on_log == nil, let name = try environment.value("NIXL_LOG_LEVEL") {
            asked = Logger.level(named: name)
            guard asked != nil else {
                throw .invalid(
                    "NIXL_LOG_LEVEL is '\(name)': set it to TRACE, DEBUG, INFO, WARN, ERROR, FATAL or OFF"
                )
            }
        }
        if let onLog = config.on_log {
            return Logger(
                sink: .callback(onLog, user: config.on_log_user), level: given ?? asked ?? .warn)
        }
        // Without a callback only the environment makes the library speak.
        guard let asked, asked != .off else { return .silent }
        return Logger(sink: .standardError, level: given ?? asked)
    }

    // MARK: Texts

    private static let textLimit = 65_536

    /// A C string; nil: NULL.
    fileprivate static func text(
        _ name: StaticString, _ pointer: UnsafePointer<CChar>?
    ) throws(Refusal) -> Bytes? {
        guard let pointer else { return nil }
        let text = Bytes(cString: pointer, limit: textLimit + 1)
        guard text.count <= textLimit else {
            throw .invalid("\(name) has more than \(textLimit) bytes: give a shorter one")
        }
        return text
    }

    private static func nonEmpty(
        _ name: StaticString, _ pointer: UnsafePointer<CChar>?
    ) throws(Refusal) -> Bytes? {
        let text = try text(name, pointer)
        guard text?.isEmpty != true else {
            throw .invalid("\(name) is empty: give a value, or NULL for none")
        }
        return text
    }

    // MARK: For people

    func logSummary() {
        let who: Text = agent.map { "agent '\($0)'" } ?? "an observer"
        logger.log(
            .info,
            "opened for \(who) in the namespace '\(namespace)' with \(endpoints.count) endpoints, the first \(endpoints[0].name)"
        )
        if !endpoints[0].tls, tls.caFile != nil || tls.certFile != nil || tls.serverName != nil {
            logger.log(
                .warn,
                "config has files or a name for TLS, but the endpoints are not https://: not used")
        }
        if !password.isEmpty, endpoints.contains(where: { !$0.tls }) {
            logger.log(
                .warn,
                "the password goes over http://, where anybody on the network can read it: use https://"
            )
        }
        if !tls.verify, endpoints.contains(where: { $0.tls }) {
            logger.log(
                .warn,
                "NIXL_MD_CONFIG_TLS_NO_VERIFY: any server is accepted as etcd, whatever its certificate"
            )
        }
    }

    // MARK: For the core

    /// Resolves names first, where that is asked for: then it blocks.
    func forCore() throws(Refusal) -> CoreConfiguration {
        var coreEndpoints: [CoreConfiguration.Endpoint] = []
        for i in endpoints.indices { coreEndpoints.append(try coreEndpoint(endpoints[i])) }
        var seed: (UInt64, UInt64) = (0, 0)
        let isRandom = withUnsafeMutableBytes(of: &seed) {
            csystem_random($0.baseAddress, $0.count)
        }
        guard isRandom else {
            throw Refusal(StatusCode.backend, "getrandom failed: the kernel gives no random bytes")
        }
        return CoreConfiguration(
            namespace: namespace, agent: agent, endpoints: coreEndpoints, user: user,
            password: password, refuseTakeover: refuseTakeover, logLevel: logger.effectiveLevel,
            seed: seed)
    }

    private func coreEndpoint(
        _ endpoint: Endpoint
    ) throws(Refusal) -> CoreConfiguration.Endpoint {
        let isToResolve = !endpoint.isAddress && resolveInOpen
        let known = endpoint.isAddress ? [endpoint.host] : []
        return CoreConfiguration.Endpoint(
            name: endpoint.name,
            addresses: try isToResolve ? Resolver.resolveNow(endpoint.host) : known,
            canResolve: !endpoint.isAddress && !resolveInOpen)
    }
}

/// The environment; empty if it must not be read.
struct Environment {
    let isIgnored: Bool

    /// The value of a variable, copied; nil: not set.
    func value(_ name: StaticString) throws(Refusal) -> Bytes? {
        guard !isIgnored else { return nil }
        return try Configuration.text(name, csystem_environment(name.cString))
    }
}
