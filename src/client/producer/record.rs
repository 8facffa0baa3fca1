//! A record to be sent, borrowed from whoever has its bytes.

use crate::types::TimestampMs;

/// One record on its way to a producer. Nothing is copied before the record is encoded into its batch.
///
/// ```
/// use millstream::client::NewRecord;
///
/// let headers = [("trace", b"abc".as_slice())];
/// let record = NewRecord::value(b"two coffees").with_key(b"table-7").with_headers(&headers);
/// assert_eq!(record.key, Some(b"table-7".as_slice()));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct NewRecord<'a> {
    /// Chooses the partition, and what compaction keeps the last value of. Absent and empty are different.
    pub key: Option<&'a [u8]>,
    /// The payload. Absent (a tombstone) and empty are different.
    pub value: Option<&'a [u8]>,
    /// Kept in order; the same name may appear more than once.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// When the event happened; `None` = when the broker appends it.
    pub timestamp: Option<TimestampMs>,
    /// To this partition, whatever the key and the producer's options say.
    pub partition: Option<u32>,
    /// Names the message for good: a topic with a `dedup_window_ms` appends it once within that time. 1 to 128 bytes.
    pub message_id: Option<&'a str>,
}

impl<'a> NewRecord<'a> {
    /// A record with a value and nothing else.
    pub fn value(value: &'a [u8]) -> Self {
        Self { value: Some(value), ..Self::default() }
    }

    /// A record that says its key has no value any more.
    pub fn tombstone(key: &'a [u8]) -> Self {
        Self { key: Some(key), ..Self::default() }
    }

    /// The same with a key.
    #[must_use]
    pub fn with_key(self, key: &'a [u8]) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The same with headers.
    #[must_use]
    pub fn with_headers(self, headers: &'a [(&'a str, &'a [u8])]) -> Self {
        Self { headers, ..self }
    }

    /// The same with a time of its own.
    #[must_use]
    pub fn with_timestamp(self, timestamp: TimestampMs) -> Self {
        Self { timestamp: Some(timestamp), ..self }
    }

    /// The same with a name of its own, by which the broker knows it when it is sent again.
    #[must_use]
    pub fn with_message_id(self, message_id: &'a str) -> Self {
        Self { message_id: Some(message_id), ..self }
    }

    /// What chooses its partition: the key, or else the message id, so that a repeat meets the original.
    pub(super) fn routing_key(&self) -> Option<&'a [u8]> {
        self.key.or(self.message_id.map(str::as_bytes))
    }

    /// No encoding of this record is longer: every length and tag counted at its longest.
    pub(super) fn encoded_bytes_bound(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 18).sum();
        let id = self.message_id.map_or(0, |id| id.len() + 3);
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers + id + 32
    }
}
