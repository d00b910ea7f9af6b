// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import CSystem
import EtcdProtocol
import MetadataCore

/// Where log lines go.
struct Logger {
    enum Sink {
        case nowhere
        case standardError
        case callback(nixl_md_log_cb, user: UnsafeMutableRawPointer?)
    }

    let sink: Sink
    /// The lowest level to log.
    let level: LogLevel

    static var silent: Logger { Logger(sink: .nowhere, level: .off) }

    /// The core does not format lines below this level.
    var effectiveLevel: LogLevel {
        if case .nowhere = sink { return .off }
        return level
    }

    func tells(_ level: LogLevel) -> Bool { level >= effectiveLevel && level != .off }

    func log(_ level: LogLevel, _ text: Text) {
        guard tells(level) else { return }
        switch sink {
        case .nowhere: break
        case .standardError:
            let line: Text = "nixl_md \(Self.name(level)): \(text)\n"
            line.bytes.withUnsafeBytes { csystem_standard_error($0.baseAddress, $0.count) }
        case .callback(let callback, let user):
            text.bytes.asCString { callback(level.rawValue, $0, user) }
        }
    }

    private static func name(_ level: LogLevel) -> StaticString {
        switch level {
        case .trace: "TRACE"
        case .debug: "DEBUG"
        case .info: "INFO"
        case .warn: "WARN"
        case .error: "ERROR"
        case .fatal: "FATAL"
        case .off: "OFF"
        }
    }

    /// A value of NIXL_LOG_LEVEL; nil: none that exists.
    static func level(named name: Bytes) -> LogLevel? {
        let upper = name.map { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) ? $0 - 32 : $0 }
        for raw in LogLevel.trace.rawValue...LogLevel.off.rawValue {
            if let level = LogLevel(rawValue: raw), upper == Bytes(Self.name(level)) {
                return level
            }
        }
        return nil
    }
}
