// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// Every time constant of the library and why it has its value. Milliseconds.
enum Timing {
    /// Something is owed and not a byte comes: a probe after this. While probes are acknowledged the next after twice this, then
    /// four times, up to the maximum.
    static let probePause: Milliseconds = 500
    static let probePauseMax: Milliseconds = 4000
    /// Streams are open and nothing is received: a probe. TCP keepalive does not see a stopped process.
    static let silence: Milliseconds = 5000
    /// The same where a lease is renewed: up to a TTL of 30 s renewals are all that is needed.
    static let silenceOfAgent: Milliseconds = 10_000
    /// Silence is a verdict after this where a request is owed: round trips are far below it, and with TTL 5 s there must be time
    /// for a second member.
    static let requestSilence: Milliseconds = 1000
    /// ... after TTL/6 within these bounds where a renewal is, and after this where only a probe is.
    static let renewalSilenceMin: Milliseconds = 250
    static let renewalSilenceMax: Milliseconds = 5000
    static let probeSilence: Milliseconds = 2000
    /// ... and not before so many times the slowest acknowledgement of late, which waits in the same queue as requests do.
    static let slowestAcknowledgements: Milliseconds = 3
    /// After each such time that value is halved: one stall must not make a handle patient for ever.
    static let slowestAge: Milliseconds = 30_000
    /// A request of a living endpoint is slow after this: another one is asked, if there is one.
    static let slowRequest: Milliseconds = 2000
    /// Added for what is on its way: the slowest path that is not a failure, 1 MiB/s.
    static let bytesPerMillisecond = 1048
    /// A large answer that is still arriving prolongs its request up to this in all.
    static let slowRequestMax: Milliseconds = 30_000
    /// The second connection is made 0 to this after a verdict; after silence 0 to the pause, doubled for each attempt in a row,
    /// up to TTL/6 and the maximum.
    static let lookoutFirst: Milliseconds = 250
    static let lookoutPause: Milliseconds = 500
    static let lookoutPauseMax: Milliseconds = 5000
    /// The second connection is replaced after this, doubled for each that was silent, up to TTL/6 and at least the maximum,
    /// if nobody acknowledges its packets; else after TTL/2, doubled likewise.
    static let life: Milliseconds = 1000
    static let lifeMax: Milliseconds = 2000
    /// Between two looks at TCP_INFO.
    static let examinePause: Milliseconds = 1000
    /// A member that was silent is not tried again for so long while there are others: they may be without a leader for
    /// the moment, because it was the one that hangs, and an election takes 1 to 2 s.
    static let silentPause: Milliseconds = 2000
    /// First and last wait after all endpoints failed. The last one keeps recovery within a second of a
    /// server's being healthy again; a refused connection costs the host some 50 microseconds.
    static let backoffMin: Milliseconds = 25
    static let backoffFirst: Milliseconds = 50
    static let backoffMax: Milliseconds = 500
    /// A connection that lasts this long counts as good: after its loss the back-off starts again. A shorter one counts
    /// as a failed attempt, so that a server which accepts and drops is not hammered.
    static let stable: Milliseconds = 1000
    /// A name is not resolved more often than this: each time costs a short-lived thread.
    static let resolvePause: Milliseconds = 2000
    /// Wrong credentials are asked for again at this pace: each attempt costs the server a bcrypt.
    static let credentialsBackoff: Milliseconds = 1000
    /// A token that is refused right after it was given is asked for again after this, doubled up to a third of the TTL.
    static let tokenPause: Milliseconds = 500
    /// After 'request timed out' and similar answers of a slow server, the next attempt waits 0 to this, doubled for
    /// each such answer in a row up to the maximum.
    static let busyPause: Milliseconds = 100
    static let busyPauseMax: Milliseconds = 5000
    /// The TTL by which a handle without a heartbeat measures its patience.
    static let ttlWithoutLease: Milliseconds = 15_000
    /// The server may cause only a few restarts of one operation within this time.
    static let restarts: Milliseconds = 1000
    /// Watches get CONTACT_LOST when no endpoint answered for this long; shorter interruptions are ordinary failovers.
    static let contactLost: Milliseconds = 1000
    /// A watch gets CONTACT_LOST when it has not begun, or not finished its list, for this long. It is also the deadline of a
    /// watch's creation; each failure doubles that.
    static let watchSilence: Milliseconds = 5000
    static let creationMax: Milliseconds = 20_000
    /// The longest pause before a failed Watch stream is opened again.
    static let watchPauseMax: Milliseconds = 5000
    /// The least time between two looks for silent watches; each look visits all of them.
    static let silencePause: Milliseconds = 500
    /// A proxy may lose events: behind one everything is listed again after this.
    static let relist: Milliseconds = 300_000
    /// Largest part of the renewal interval that jitter takes away, in per mille; and the first time on a new connection, so that
    /// a fleet that has reconnected does not renew at once.
    static let renewalJitter: UInt64 = 200
    static let renewalJitterFirst: UInt64 = 800
    /// Our presence key is gone and our lease is not: whoever removed it may be about to put his own.
    static let absence: Milliseconds = 1000
    /// The same where a newcomer has left his mark.
    static let newcomer: Milliseconds = 10_000
    /// The pause after a refusal doubles up to this.
    static let refusalPause: Milliseconds = 2000
    /// The second loss of everything within this time is put back after a pause, which doubles: something may revoke our
    /// lease whenever it sees it.
    static let restoreMemory: Milliseconds = 60_000
    static let restorePause: Milliseconds = 1000
    static let restorePauseMax: Milliseconds = 30_000
    /// A self-watch that etcd's roles refuse is asked for again at this pace: each time costs a read and, where only the watch
    /// is refused, a connection.
    static let selfWatchPause: Milliseconds = 5000
    /// An empty answer that says 'try again' (a contended claim, a refused creation) is tried again after this.
    static let retryPause: Milliseconds = 100
    /// Between two attempts with another lease after etcd refused a write: each moves all labels.
    static let trialPause: Milliseconds = 60_000
}

/// Every other number that bounds what the core holds or sends.
enum Limits {
    /// Unary requests in flight. etcd serves 250 streams per connection by default
    /// (golang.org/x/net/http2 defaultMaxStreams); more in flight only queue there.
    static let callsInFlight = 32
    /// Bytes of unary requests in flight, the one that passes it included. All of them may be encoded in one tick, at
    /// about half a millisecond for each MiB; and more would not be faster on one connection.
    static let bytesInFlight = 4 << 20
    /// Operations in one transaction; etcd refuses more than 128 (--max-txn-ops).
    static let batchOperations = 100
    /// Bytes in one transaction of several blobs; etcd refuses 1.5 MiB (--max-request-bytes).
    static let batchBytes = 1 << 20
    /// Overhead of one operation of a transaction, without key and value, rounded up.
    static let operationBytes = 64
    /// Keys in the first page of a list without values, and in the largest: etcd counts all keys behind the start of each
    /// page, so 100 pages of 1,000 keys cost it 5 million steps, and 15 growing ones 700,000.
    static let pageKeys: Int64 = 1000
    static let pageKeysMax: Int64 = 16_000
    /// Keys of a page that are decoded and delivered in one tick.
    static let keysAtOnce = 1000
    /// Keys in the first page of a list with values; adapted to their size after that. A page is decoded in
    /// one tick: with 8 values of 1 MB that took up to 22 ms of a busy machine.
    static let pageValues: Int64 = 2
    static let pageValuesMax: Int64 = 512
    /// A page with values is as large as wanted at this many bytes.
    static let pageBytes = 1 << 20
    /// Keys in a list, and in the view of a watch.
    static let listKeys = 1 << 20
    /// Bytes of one watch message, all fragments together, and of all watches whose fragments are not complete.
    static let watchBytes = 16 << 20
    /// Callbacks that wait for the host, and the blobs they hold, before watches are resynchronised.
    static let notices = 65_536
    static let noticeBytes = 32 << 20
    /// Departed agents that a watch of the namespace remembers, to tell RETURNED from RESTARTED.
    static let departedAgents = 4096
    /// As many more are kept until they are forgotten together.
    static let departedSlack = 1024
    /// A TTL that a server may grant: ten years, far from any overflow of milliseconds.
    static let ttlSeconds: Int64 = 315_360_000
    /// Entries of ended operations that queues may keep beside as many as there are open ones, twice.
    static let endedEntries = 1024
    /// Operations that one tick ends or restarts: some 2 microseconds each.
    static let operationsAtOnce = 1024
    /// Leases of one process: the wanted one, and older ones on which something hangs that could not be moved.
    static let leases = 16
    /// The TTL of a lease that never ends: the greatest that etcd grants (server/lease/lessor.go, MaxLeaseTTL).
    static let neverEndingSeconds: Int64 = 9_000_000_000
    /// Evictions that were carried out, or contradicted by another's key, before a claim is given up.
    static let evictions = 3
    /// Keys of our own in one reading: the presence key, a mark, and as many labels as there may be.
    static let ownKeys: Int64 = 4098
    /// Bytes in names that the host receives: NIXL_MD_MAX_AGENT and NIXL_MD_MAX_LABEL. Hosts have buffers of these
    /// sizes.
    static let agentBytes = 1024
    static let labelBytes = 1024
    /// Labels of one agent.
    static let labels = 4096
    /// Keys that are looked at for agents under the other spelling of the namespace.
    static let otherSpellingKeys: Int64 = 64
    /// Watch creations sent and not yet answered.
    static let creationsInFlight = 256
    /// Restarts of one operation per second that the server causes (compaction, a message that is too large). Beyond
    /// that, drop the connection, whose back-off slows it down.
    static let restarts = 3
    /// So many answers in a row that tell of a slow server, and another endpoint is asked.
    static let busyAnswers = 3
    /// One in so many failures of the Watch stream changes the connection, and perhaps the member. The others cost only the
    /// stream: other requests go on.
    static let failuresPerConnection: UInt64 = 4
    /// Bytes of a token from etcd. A JWT signed with 4,096 bits has less than 2 KiB, and it goes with every request.
    static let tokenBytes = 16 << 10
}
