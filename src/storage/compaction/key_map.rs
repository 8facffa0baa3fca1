//! The last offset of each key, in bounded memory.
//!
//! A key is known by 128 bits: two values of `SipHash` under keys drawn anew for each pass, so that nobody can make two
//! record keys meet on purpose. Two of `n` keys meet by chance with a probability of n^2 / 2^129: for the largest map there is
//! (1.8 million keys) 5e-27 a pass, which is far below that of a disk that returns wrong data with a right checksum.

use crate::planted::{Bug, is_planted};
use crate::types::Offset;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher, RandomState};

/// The last offset of each key seen, up to a number of keys.
#[derive(Debug)]
pub(super) struct KeyMap {
    /// 24 bytes an entry, in a table of at most twice as many places.
    offsets: HashMap<Digest, Offset, BuildHasherDefault<FirstWord>>,
    hashes: [RandomState; 2],
    keys_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digest([u64; 2]);

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// A digest is random already: its first word is its hash.
#[derive(Debug, Default)]
struct FirstWord(u64);

impl Hasher for FirstWord {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a digest writes one word");
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl KeyMap {
    pub(super) fn new(keys_max: usize) -> Self {
        Self { offsets: HashMap::default(), hashes: [RandomState::new(), RandomState::new()], keys_max }
    }

    /// Takes note of a record, in the order of offsets. `false`: the map is full and the key is not in it.
    pub(super) fn note(&mut self, key: &[u8], offset: Offset) -> bool {
        let digest = self.digest(key);
        if let Some(last) = self.offsets.get_mut(&digest) {
            if !is_planted(Bug::CompactionKeepsFirst) {
                *last = offset;
            }
            return true;
        }
        if self.offsets.len() >= self.keys_max {
            return false;
        }
        self.offsets.insert(digest, offset);
        true
    }

    /// The last offset noted for `key`.
    pub(super) fn last(&self, key: &[u8]) -> Option<Offset> {
        self.offsets.get(&self.digest(key)).copied()
    }

    fn digest(&self, key: &[u8]) -> Digest {
        Digest([self.hashes[0].hash_one(key), self.hashes[1].hash_one(key)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_that_is_full_still_follows_the_keys_it_has() {
        let mut map = KeyMap::new(2);
        assert!(map.note(b"a", Offset(1)) && map.note(b"b", Offset(2)));
        assert!(!map.note(b"c", Offset(3)));
        assert!(map.note(b"a", Offset(4)));
        assert_eq!((map.last(b"a"), map.last(b"b"), map.last(b"c")), (Some(Offset(4)), Some(Offset(2)), None));
    }
}
