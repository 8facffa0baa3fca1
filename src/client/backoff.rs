//! How long to wait before trying again.
//!
//! Exponential from 50 ms to 5 s, each wait shortened by a random part of up to half, so that clients that lost
//! the same broker do not come back at the same moment. The only randomness of the client is here.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A growing wait between attempts.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    seed: u64,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { failures: 0, seed: random_seed() }
    }

    /// Something succeeded: the next wait is the shortest again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next wait; never less than what the broker asked for.
    pub(super) fn next_wait(&mut self, at_least: Option<Duration>) -> Duration {
        let full = WAIT_MIN.saturating_mul(1 << self.failures.min(20)).min(WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        // Xorshift: enough to spread clients out.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let thousandths = u32::try_from(self.seed % 500).expect("below 500");
        full.saturating_sub(full * thousandths / 1000).max(at_least.unwrap_or_default())
    }
}

/// Another number in each process and each call.
pub(super) fn random_seed() -> u64 {
    RandomState::new().hash_one(0_u8) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_again() {
        let mut backoff = Backoff::new();
        let first = backoff.next_wait(None);
        assert!((WAIT_MIN / 2..=WAIT_MIN).contains(&first));
        for _ in 0..40 {
            assert!(backoff.next_wait(None) <= WAIT_MAX);
        }
        assert!(backoff.next_wait(None) >= WAIT_MAX / 2);
        assert_eq!(backoff.next_wait(Some(Duration::from_secs(9))), Duration::from_secs(9));
        backoff.reset();
        assert!(backoff.next_wait(None) <= WAIT_MIN);
    }
}
