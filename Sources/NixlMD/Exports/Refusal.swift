// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CSystem
import EtcdProtocol

/// Why a call of the host is refused. Nothing has changed then.
struct Refusal: Error {
    /// One of NIXL_MD_ERR_...
    var status: Int32
    /// Names the value at fault and what to do about it.
    var text: Text

    init(_ status: Int32, _ text: Text) {
        self.status = status
        self.text = text
    }

    static func invalid(_ text: Text) -> Refusal {
        Refusal(StatusCode.invalidParameter, text)
    }

    /// The system refused; `error` is an errno.
    static func system(_ what: StaticString, _ error: Int32) -> Refusal {
        Refusal(
            StatusCode.backend,
            "\(what) failed with errno \(error): \(Bytes(cString: csystem_error_text(error)))")
    }
}

/// Turns a refusal into a status, and keeps its text as the calling thread's last error.
func statusOf(_ body: () throws(Refusal) -> Int32) -> Int32 {
    do throws(Refusal) {
        return try body()
    } catch {
        let text = error.text.bytes
        text.withUnsafeBytes { csystem_set_last_error($0.baseAddress, $0.count) }
        return error.status
    }
}

extension StaticString {
    /// A literal is followed by a NUL.
    var cString: UnsafePointer<CChar> {
        UnsafeRawPointer(utf8Start).assumingMemoryBound(to: CChar.self)
    }
}

extension [UInt8] {
    /// The bytes of a C string; those beyond `limit` are left out.
    init(cString text: UnsafePointer<CChar>, limit: Int = 65_536) {
        self.init(UnsafeRawBufferPointer(start: text, count: csystem_length(text, limit)))
    }

    /// Calls `body` with these bytes as a C string; they hold no NUL.
    func asCString<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
        var text = self
        text.append(0)
        return text.withUnsafeBytes { bytes in
            body(bytes.assumingMemoryBound(to: CChar.self).baseAddress.unsafelyUnwrapped)
        }
    }
}
