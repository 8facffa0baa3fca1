//! Bugs on purpose: what the tests must catch, so that a green run means something.
//!
//! They exist only in a build with the variable `MILLSTREAM_PLANTED` set (see `build.rs`); everywhere else
//! [`is_planted`] is the constant `false`. In such a build the variable `MILLSTREAM_PLANTED_BUG` names the one that is
//! active; without it, or with an empty value, there is none. `docs/reliability.md` has the table of who catches which.

/// A bug that can be planted. Its name in the environment is that of the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A sync says that it succeeded without asking the disk: acknowledgements are ahead of durability.
    AckBeforeSync,
    /// The directory is not synced after a new segment file.
    NoDirectorySync,
    /// Appends are acknowledged first and written then.
    AckBeforeWrite,
    /// Commits, and all else that is asked of groups, are answered before the journal has them.
    CommitAckedBeforeDurable,
    /// A sync of the active segment that failed is tried again at once; the second one succeeds and means nothing.
    RetryFailedSync,
    /// A small append whose sender did not wait for it is written by nobody.
    UnwaitedAppendForgotten,
    /// Readers are shown records before they are synced.
    WatermarkBeforeSync,
    /// After a sync that failed, the next append shows the records that were not synced.
    FailedSyncIsShownLater,
    /// A sync vouches for what was written while it ran.
    SyncCountsLaterWrites,
    /// A partition with more in its inbox is not handed to the storage threads again.
    LostWakeUp,
    /// A segment file that is deleted is emptied first: readers that hold it lose its bytes.
    DeletionCutsTheFile,
    /// Readers believe a frame without its checksum.
    ReaderSkipsChecksum,
    /// The checksum of a frame says nothing of the segment it stands in.
    SeedIgnored,
    /// An index file that does not end where its segment does is believed.
    StaleIndexTrusted,
    /// A sync of a sealed segment that failed is tried again, and succeeds.
    RetriesFailedSync,
    /// The checkpoint moves behind a sealed segment that was not synced.
    CheckpointBeforeSync,
    /// A segment counts as synced when it is sealed, although the cut of its end is not on disk.
    SealCountsAsSynced,
    /// A write that ended early, because the disk is full, passes for a whole one.
    ShortWriteIgnored,
    /// What a failed write left behind the end of a segment stays there.
    FailedWriteLeftBehind,
    /// Append times follow a clock that goes back.
    AppendTimeGoesBack,
    /// Recovery believes a frame without its checksum.
    ChecksumSkipped,
    /// Recovery cuts at the first invalid frame, although a durable mark says that what it should be was synced.
    TruncatesInTheMiddle,
    /// Recovery leaves what lies behind the last valid frame in place.
    TornTailNotCut,
    /// Recovery reads through the page cache, which after a failed sync holds what the disk does not.
    RecoveryTrustsPageCache,
    /// A read steps over damage as if nothing had been there.
    DamageSkippedSilently,
    /// What a log knows of its producers is not rebuilt when it is opened: a repeat after a restart is appended again.
    DedupNotRebuilt,
    /// Segments are compacted or deleted although what they say of producers is nowhere else.
    FramesGoUnsaved,
    /// A batch that leaves a gap in the sequence of its producer is appended.
    SequenceGapAccepted,
    /// A batch of an epoch older than the producer's present one is appended.
    OldEpochAccepted,
    /// A repeat is acknowledged as synced although the original is not.
    DuplicateAckedBeforeSync,
    /// A restarted broker gives producer ids again that it gave before.
    ProducerIdReused,
    /// Compaction keeps the first record of a key instead of the last.
    CompactionKeepsFirst,
    /// Compaction drops tombstones before their grace time is over.
    TombstoneDroppedEarly,
    /// Neither a cleaned file nor the directory is synced when it takes the place of its segments.
    SwapNotSynced,
    /// Compaction looks at, and replaces, segments that a power cut can still take away.
    CompactionTouchesUnsynced,
    /// A segment file with bytes that are not on disk is closed to make room: a failed write-back goes unnoticed.
    DirtySegmentEvicted,
    /// The checkpoint vouches for the end of the active segment, whether or not it was synced.
    CheckpointAheadOfSync,
    /// Retention removes files before the new log start is durable.
    RetentionUnlinksFirst,
    /// A clock that jumped is believed: retention by time goes on.
    ClockJumpIgnored,
    /// Records that retention deleted before a group had read them are not counted.
    ExpiredUnreadNotCounted,
    /// What workers say about messages is not written to the journal of queues.
    SettlementUnwritten,
    /// Deliveries are not written to the journal of queues: a message that kills its broker comes for ever.
    DeliveryUnwritten,
    /// A settlement is confirmed before the journal of queues has it.
    SettlementConfirmedEarly,
    /// A message is handed out although one of its key stands in front of it.
    KeyOrderIgnored,
    /// A verb is carried out although the lease it speaks of is over.
    OldLeaseAccepted,
    /// A message counts as done although its dead letter was not written.
    DeadLetterUnwritten,
    /// The scrub of sealed segments looks at headers and not at checksums.
    ScrubSkipsChecksum,
    /// What is due within a second is delivered now.
    ScheduleEarly,
    /// A schedule whose end the log has refused is over all the same.
    ScheduleEndsUnnoted,
    /// A reply is handed to another call that waits, if there is one.
    ReplyToAnotherCall,
    /// Behind records that do not match, a queue that reads on passes over those that do.
    FilterPassesOverAMatch,
    /// Dead letters are resolved first and sent back then.
    LettersResolvedFirst,
}

/// Whether `bug` is active.
#[cfg(not(planted))]
#[inline]
pub const fn is_planted(_: Bug) -> bool {
    false
}

/// Whether `bug` is active.
#[cfg(planted)]
pub fn is_planted(bug: Bug) -> bool {
    static ACTIVE: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("MILLSTREAM_PLANTED_BUG").ok().filter(|name| !name.is_empty()));
    ACTIVE.as_ref().is_some_and(|name| *name == format!("{bug:?}"))
}
