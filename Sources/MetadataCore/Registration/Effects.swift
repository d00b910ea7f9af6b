// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Results of the registration, in order: values that the core carries out.
package struct Effects {
    package enum Item {
        case completed(OperationID, Status, Text, revision: Int64, ttl: Milliseconds)
        case event(OwnershipEvent)
        case log(LogLevel, Text)
        /// The reading cannot be of the known store.
        case storeIsAnother(Text)
        /// The server contradicts itself.
        case isNotPlausible(Text)
    }
    package private(set) var items: [Item] = []

    package init() {}

    mutating func complete(
        _ operation: OperationID?, _ status: Status, _ text: Text = "", revision: Int64 = 0,
        ttl: Milliseconds = 0
    ) {
        guard let operation else { return }
        items.append(.completed(operation, status, text, revision: revision, ttl: ttl))
    }

    mutating func tell(_ event: OwnershipEvent) { items.append(.event(event)) }
    mutating func log(_ level: LogLevel, _ text: Text) { items.append(.log(level, text)) }
    mutating func storeIsAnother(_ text: Text) { items.append(.storeIsAnother(text)) }
    mutating func isNotPlausible(_ text: Text) { items.append(.isNotPlausible(text)) }
}
