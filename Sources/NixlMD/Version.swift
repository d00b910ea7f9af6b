// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD

@implementation @_cdecl("nixl_md_version")
public func nixl_md_version() -> UInt32 {
    UInt32(NIXL_MD_VERSION_MAJOR * 1_000_000 + NIXL_MD_VERSION_MINOR * 1000 + NIXL_MD_VERSION_PATCH)
}
