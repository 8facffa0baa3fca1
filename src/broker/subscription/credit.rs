//! What a client allows to be sent: an additive balance of records and bytes.

/// A balance. Sending goes on while both parts are above zero; the last record may overdraw the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// Records that may still be sent.
    pub records: u64,
    /// Bytes of record sets that may still be sent; below zero after an overdraft.
    pub bytes: i64,
}

impl Credit {
    /// A grant as a client gives it.
    pub fn new(records: u64, bytes: u64) -> Self {
        Self { records, bytes: i64::try_from(bytes).unwrap_or(i64::MAX) }
    }

    /// Adds a grant.
    pub(super) fn add(&mut self, more: Self) {
        self.records = self.records.saturating_add(more.records);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.records == 0 || self.bytes <= 0
    }

    /// The bytes that may be sent now, but not more than `most`.
    pub(super) fn bytes_at_most(&self, most: usize) -> usize {
        usize::try_from(self.bytes).unwrap_or(0).min(most)
    }

    pub(super) fn spend(&mut self, records: u64, bytes: u64) {
        self.records = self.records.saturating_sub(records);
        self.bytes = self.bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
