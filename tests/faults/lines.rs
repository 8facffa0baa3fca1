//! Records that can be told apart: each begins with its number and follows from it.

use super::random::Random;

/// Bytes of the number in front.
const NUMBER_BYTES: usize = 4;

/// The longest value.
pub(crate) const VALUE_BYTES_MAX: usize = 200 << 10;

/// How many keys there are; compaction keeps the last record of each.
const KEYS: u32 = 8;

/// The key of a line.
pub(crate) fn key_of(line: u32) -> [u8; 1] {
    [(line % KEYS).to_le_bytes()[0]]
}

/// Makes the value of any line. The noise is a window into bytes drawn once, so that comparing is quick.
#[derive(Debug)]
pub(crate) struct Lines {
    noise: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x11e5);
        Self { noise: (0..2 * VALUE_BYTES_MAX).map(|_| random.below(256).to_le_bytes()[0]).collect() }
    }

    /// The value of a line, of `len` bytes or, if that is less, of what its number takes.
    pub(crate) fn value(&self, line: u32, len: usize) -> Vec<u8> {
        let mut value = line.to_le_bytes().to_vec();
        value.extend_from_slice(self.noise_of(line, len.saturating_sub(NUMBER_BYTES)));
        value
    }

    /// The line that this is the value of; `None` if it is none.
    pub(crate) fn line_of(&self, value: &[u8]) -> Option<u32> {
        let (number, noise) = value.split_first_chunk::<NUMBER_BYTES>()?;
        let line = u32::from_le_bytes(*number);
        (noise.len() <= VALUE_BYTES_MAX && noise == self.noise_of(line, noise.len())).then_some(line)
    }

    fn noise_of(&self, line: u32, len: usize) -> &[u8] {
        let at = (line as usize).wrapping_mul(7919) % VALUE_BYTES_MAX;
        &self.noise[at..at + len]
    }
}
