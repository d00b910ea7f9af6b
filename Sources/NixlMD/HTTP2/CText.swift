// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import EtcdProtocol

extension Text.Interpolation {
    /// A text of libcurl's or nghttp2's; escaped, since parts of it may come from the server.
    mutating func appendInterpolation(_ text: UnsafePointer<CChar>?) {
        if let text { appendInterpolation(Bytes(cString: text)) }
    }
}

extension [UInt8] {
    /// The bytes before the NUL.
    init(cString: UnsafePointer<CChar>) {
        self = []
        var i = 0
        while cString[i] != 0 {
            append(UInt8(bitPattern: cString[i]))
            i += 1
        }
    }
}
