//! Records that say which they are, and whose bytes follow from that: what is read is what was sent, or nobody's.

use super::RecordId;
use millstream::client::ConsumedRecord;

/// The header that carries the record's number.
const NUMBER: &str = "number";

/// Headers that the broker puts behind those of a record that it delivers by a schedule or sends back.
const ADDED: [&str; 4] = [SCHEDULE_ID, SCHEDULE_DUE, "redriven-count", REDRIVEN_FROM];
pub(crate) const SCHEDULE_ID: &str = "schedule-id";
pub(crate) const SCHEDULE_DUE: &str = "schedule-due-ms";
pub(crate) const REDRIVEN_FROM: &str = "redriven-from";

/// A small generator (xorshift) for everything that is random here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Random(u64);

impl Random {
    /// The same seed gives the same numbers; none is special.
    pub(crate) fn new(seed: u64) -> Self {
        // Seeds that differ in one bit must not begin alike.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The number of a record's key. Neighbours share a key, so that a request has several records for each partition.
pub(crate) fn key_of(id: RecordId) -> u32 {
    id / 4 % KEYS
}

const KEYS: u32 = 23;

fn key_text(key: u32) -> String {
    format!("key-{key}")
}

/// The numbers of the keys that begin like this.
pub(crate) fn keys_with_prefix(prefix: &str) -> Vec<u32> {
    (0..KEYS).filter(|key| key_text(*key).starts_with(prefix)).collect()
}

/// What the broker says about a record in a header of its own.
pub(crate) fn added<'a>(record: &'a ConsumedRecord, name: &str) -> Option<&'a str> {
    let (_, value) = record.headers.iter().find(|(found, _)| found == name)?;
    std::str::from_utf8(value).ok()
}

/// The records of one history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payload {
    pub(crate) seed: u64,
    /// Every so many records there is a large one; 0 = never.
    pub(crate) large_each: u32,
}

/// One record, ready to be sent.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    number: String,
}

impl Content {
    pub(crate) fn headers(&self) -> [(&str, &[u8]); 1] {
        [(NUMBER, self.number.as_bytes())]
    }
}

impl Payload {
    /// What record `id` consists of.
    pub(crate) fn of(self, id: RecordId) -> Content {
        let mut random = Random::new(self.seed ^ u64::from(id) << 20);
        let is_large = self.large_each > 0 && id.is_multiple_of(self.large_each);
        let most = if is_large { 60_000 } else { 1_200 };
        let len = usize::try_from(random.below(most)).expect("small");
        let words = std::iter::repeat_with(|| random.below(u64::MAX).to_le_bytes());
        let mut value: Vec<u8> = words.take(len.div_ceil(8)).flatten().collect();
        value.truncate(len);
        let key = key_text(key_of(id)).into_bytes();
        Content { key, value, number: id.to_string() }
    }

    /// Which record this is; `None` if any of its bytes is not as it was sent.
    pub(crate) fn recognize(self, record: &ConsumedRecord) -> Option<RecordId> {
        let [(name, number), added @ ..] = &record.headers[..] else { return None };
        let id = std::str::from_utf8(number).ok()?.parse().ok()?;
        let content = self.of(id);
        let is_whole = name == NUMBER
            && added.iter().all(|(name, _)| ADDED.contains(&name.as_str()))
            && record.key.as_deref() == Some(&content.key[..])
            && record.value.as_deref() == Some(&content.value[..]);
        is_whole.then_some(id)
    }
}
