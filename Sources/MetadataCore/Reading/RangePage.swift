// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

extension RangePage {
    /// The next keys of a page, which becomes nil behind the last. nil: they are not of this range, in order.
    static func next(
        of page: inout RangePage?, _ most: Int, from start: Bytes, to end: Bytes
    ) -> RangeResponse? {
        guard var left = page else { return nil }
        page = nil
        guard let response = try? left.next(most) else { return nil }
        guard response.isInOrder(from: start, to: end) else { return nil }
        if left.keysLeft > 0 { page = left }
        return response
    }
}

extension Text {
    static let notThePage: Text = "not the requested page of keys"
}
