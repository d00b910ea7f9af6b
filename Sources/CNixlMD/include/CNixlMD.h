// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
// The public header as a Swift module: the exports are checked against it.
#include "../../../include/nixl_md.h"
