// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// A host that is ordinary Swift, with Swift's own runtime in the process: the library, which is Embedded
// Swift, must not mix with it.
import Glibc

typealias Version = @convention(c) () -> UInt32
typealias Open = @convention(c) (UnsafeRawPointer?, UnsafeMutablePointer<OpaquePointer?>?) -> Int32
typealias Handle = @convention(c) (OpaquePointer?) -> Int32
typealias Publish =
    @convention(c) (
        OpaquePointer?, UnsafePointer<CChar>?, Int, UnsafeRawPointer?, Int, UnsafeRawPointer?,
        UnsafeMutablePointer<UInt64>?
    ) -> Int32

final class Counter {
    var counts: [String: Int] = [:]
    deinit { print("released") }
}

/// Uses what both runtimes have of their own: classes, strings, dictionaries, casts.
func ordinary() -> Int {
    let counter = Counter()
    for word in ["a", "e\u{301}", "\u{e9}", "a"] { counter.counts[word, default: 0] += 1 }
    let values: [Any] = [counter.counts.count, "text", 2.5]
    return values.compactMap { $0 as? Int }.reduce(0, +)
}

func function<T>(_ library: UnsafeMutableRawPointer, _ name: String, as type: T.Type) -> T {
    guard let symbol = dlsym(library, name) else { fatalError("\(name) is missing") }
    return unsafeBitCast(symbol, to: type)
}

guard let library = dlopen(CommandLine.arguments[1], RTLD_NOW) else {
    fatalError(String(cString: dlerror()))
}
let tick = function(library, "nixl_md_tick", as: Handle.self)
// nixl_md_config_t as bytes: size, flags, then pointers; `endpoints` and `agent` are set.
let configSize = Int(CommandLine.arguments[2])!
let config = UnsafeMutableRawPointer.allocate(byteCount: configSize, alignment: 8)
memset(config, 0, configSize)
config.storeBytes(of: UInt32(configSize), as: UInt32.self)
config.storeBytes(of: strdup("127.0.0.1:1"), toByteOffset: 8, as: UnsafeMutablePointer<CChar>?.self)
config.storeBytes(of: strdup("swift"), toByteOffset: 24, as: UnsafeMutablePointer<CChar>?.self)
config.storeBytes(of: -1, toByteOffset: 32, as: Int.self)

var md: OpaquePointer?
guard function(library, "nixl_md_open", as: Open.self)(config, &md) == 0 else { fatalError("open") }
let publish = function(library, "nixl_md_publish", as: Publish.self)
guard publish(md, "metadata", -1, "blob", 4, nil, nil) == 0 else { fatalError("publish") }
for _ in 0..<50 {
    guard tick(md) >= 0, ordinary() == 2 else { fatalError("tick") }
    usleep(2000)
}
guard function(library, "nixl_md_close", as: Handle.self)(md) == 0 else { fatalError("close") }
print("version", function(library, "nixl_md_version", as: Version.self)(), ordinary())
