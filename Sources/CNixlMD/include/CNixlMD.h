// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
// The public header as a Swift module: the exports are checked against it.
#ifndef CNIXLMD_H
#define CNIXLMD_H

#include "../../../include/nixl_md.h"

// Macros that Swift does not import.
static const ptrdiff_t cnixlmd_nul_terminated = (ptrdiff_t)NIXL_MD_NUL_TERMINATED;
static const uint64_t cnixlmd_never = NIXL_MD_NEVER;
static const size_t cnixlmd_max_blob = NIXL_MD_MAX_BLOB;
static const size_t cnixlmd_max_queued_bytes = NIXL_MD_MAX_QUEUED_BYTES;

// Its texts, without Swift's String.
const char *cnixlmd_version_text(void);
const char *cnixlmd_default_namespace(void);
const char *cnixlmd_default_label(void);

#endif
