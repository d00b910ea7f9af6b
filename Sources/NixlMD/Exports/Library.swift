// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import CSystem
import EtcdProtocol

@implementation @_cdecl("nixl_md_version")
public func nixl_md_version() -> UInt32 {
    UInt32(NIXL_MD_VERSION_MAJOR * 1_000_000 + NIXL_MD_VERSION_MINOR * 1000 + NIXL_MD_VERSION_PATCH)
}

@implementation @_cdecl("nixl_md_version_string")
public func nixl_md_version_string() -> UnsafePointer<CChar>! {
    cnixlmd_version_text()
}

@implementation @_cdecl("nixl_md_status_string")
public func nixl_md_status_string(_ status: Int32) -> UnsafePointer<CChar>! {
    StatusCode.name(status).cString
}

@implementation @_cdecl("nixl_md_event_string")
public func nixl_md_event_string(_ type: Int32) -> UnsafePointer<CChar>! {
    EventName.of(nixl_md_event_type(UInt32(bitPattern: type))).cString
}

@implementation @_cdecl("nixl_md_status_fold")
public func nixl_md_status_fold(_ status: Int32) -> Int32 {
    StatusCode.fold(status)
}

@implementation @_cdecl("nixl_md_last_error")
public func nixl_md_last_error(_ md: OpaquePointer!) -> UnsafePointer<CChar>! {
    csystem_last_error()
}
