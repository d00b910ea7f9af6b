// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
#include "CNixlMD.h"

#define TEXT_OF(value) #value
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

const char *cnixlmd_version_text(void) {
    return VERSION_TEXT(NIXL_MD_VERSION_MAJOR, NIXL_MD_VERSION_MINOR, NIXL_MD_VERSION_PATCH);
}

const char *cnixlmd_default_namespace(void) {
    return NIXL_MD_DEFAULT_NAMESPACE;
}

const char *cnixlmd_default_label(void) {
    return NIXL_MD_DEFAULT_LABEL;
}
