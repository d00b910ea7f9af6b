// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

extension MetadataCore {
    /// Overwrites the password and the token. Nothing can be authenticated afterwards.
    public func forgetSecrets() {
        configuration.password.wipe()
        connection.forgetSecrets()
    }
}
