# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""python -m nixl_md.cli"""

from nixl_md.cli import main

main()
