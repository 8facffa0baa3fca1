//! Whether the time of day can be believed: a pure state machine beside retention by time.
//!
//! A clock that somebody sets forward by a month makes every record a month old, and retention would delete them. So
//! the time of day is held against a clock that nobody sets. When the two have moved apart by more than an hour,
//! retention by time is suspended, until they fit again or an operator confirms that the new time is right.
//!
//! Across restarts of the broker the same holds as long as the machine runs. When the machine was off, nobody can say for
//! how long: then only a time *before* the last one known is noticed.

use crate::planted::{Bug, is_planted};
use crate::types::TimestampMs;
use serde::{Deserialize, Serialize};

/// Corrections up to this are normal: a time server at work, an hour of daylight saving applied by hand.
const TOLERANCE_MS: i64 = 3_600_000;

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) struct ClockReading {
    /// The time of day.
    pub(in crate::broker) wall_ms: TimestampMs,
    /// See [`crate::clock::Clock::monotonic_ms`].
    pub(in crate::broker) monotonic_ms: u64,
}

/// What is kept of the watch for the next start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::broker) struct ClockMemory {
    /// The time of day as it should have been.
    pub(in crate::broker) wall_ms: TimestampMs,
    pub(in crate::broker) monotonic_ms: u64,
    pub(in crate::broker) boot_id: String,
    pub(in crate::broker) suspended: bool,
}

/// What the time of day minus the other clock should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Exactly(i64),
    /// The machine was off since it was known, for how long nobody knows.
    AtLeast(i64),
}

/// A change of opinion, to be told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum ClockTurn {
    /// The clock cannot be believed any more.
    Jumped { off_by_ms: i64 },
    /// It fits again.
    Returned,
}

/// The watch over the time of day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct ClockWatch {
    expected: Expected,
    suspended: bool,
}

impl ClockReading {
    fn difference_ms(self) -> i64 {
        self.wall_ms.saturating_sub(i64::try_from(self.monotonic_ms).unwrap_or(i64::MAX))
    }
}

impl ClockWatch {
    /// Begins to watch, with what the last process knew.
    pub(in crate::broker) fn start(now: ClockReading, boot_id: &str, memory: Option<&ClockMemory>) -> Self {
        let Some(memory) = memory else {
            return Self { expected: Expected::Exactly(now.difference_ms()), suspended: false };
        };
        let remembered = ClockReading { wall_ms: memory.wall_ms, monotonic_ms: memory.monotonic_ms };
        if memory.boot_id == boot_id && !boot_id.is_empty() && memory.monotonic_ms <= now.monotonic_ms {
            return Self { expected: Expected::Exactly(remembered.difference_ms()), suspended: memory.suspended };
        }
        let as_if_no_time_passed = ClockReading { wall_ms: memory.wall_ms, ..now }.difference_ms();
        // What was doubted stays doubted: a restart of the machine confirms nothing.
        let expected = if memory.suspended { Expected::Exactly } else { Expected::AtLeast };
        Self { expected: expected(as_if_no_time_passed), suspended: memory.suspended }
    }

    /// Looks at both clocks.
    pub(in crate::broker) fn observe(&mut self, now: ClockReading) -> Option<ClockTurn> {
        let off_by_ms = self.off_by_ms(now);
        let is_off = match self.expected {
            Expected::Exactly(_) => off_by_ms.saturating_abs() > TOLERANCE_MS,
            Expected::AtLeast(_) => off_by_ms < -TOLERANCE_MS,
        };
        let is_off = is_off && !is_planted(Bug::ClockJumpIgnored);
        if !is_off && matches!(self.expected, Expected::AtLeast(_)) {
            self.expected = Expected::Exactly(now.difference_ms());
        }
        match (std::mem::replace(&mut self.suspended, is_off), is_off) {
            (false, true) => Some(ClockTurn::Jumped { off_by_ms }),
            (true, false) => Some(ClockTurn::Returned),
            _ => None,
        }
    }

    /// Somebody says that the time is right as it is now.
    pub(in crate::broker) fn confirm(&mut self, now: ClockReading) {
        *self = Self { expected: Expected::Exactly(now.difference_ms()), suspended: false };
    }

    /// Whether retention by time is suspended.
    pub(in crate::broker) fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// How far the time of day is from what it should be; negative = it is behind.
    pub(in crate::broker) fn off_by_ms(&self, now: ClockReading) -> i64 {
        let (Expected::Exactly(expected) | Expected::AtLeast(expected)) = self.expected;
        now.difference_ms().saturating_sub(expected)
    }

    /// What the next process should know.
    pub(in crate::broker) fn memory(&self, now: ClockReading, boot_id: &str) -> ClockMemory {
        ClockMemory {
            wall_ms: now.wall_ms.saturating_sub(self.off_by_ms(now)),
            monotonic_ms: now.monotonic_ms,
            boot_id: boot_id.to_owned(),
            suspended: self.suspended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const YEAR: i64 = 365 * 24 * HOUR;
    const NOON: i64 = 50 * YEAR;

    /// The clocks `passed_ms` after a noon at which the machine had run for an hour, with the time of day set by `set`.
    fn at(passed_ms: i64, set: i64) -> ClockReading {
        let monotonic_ms = u64::try_from(HOUR + passed_ms).expect("after the start");
        ClockReading { wall_ms: NOON + passed_ms + set, monotonic_ms }
    }

    fn watch() -> ClockWatch {
        ClockWatch::start(at(0, 0), "boot", None)
    }

    #[test]
    fn time_that_passes_is_no_jump_however_long_it_takes() {
        let mut watch = watch();
        for passed in [MINUTE, HOUR, 30 * 24 * HOUR, YEAR] {
            assert_eq!(watch.observe(at(passed, 0)), None);
        }
        assert_eq!(watch.observe(at(YEAR, HOUR)), None, "up to an hour is a correction");
        assert_eq!(watch.observe(at(YEAR, -HOUR)), None);
    }

    #[test]
    fn a_jump_suspends_once_and_its_return_resumes_once() {
        for set in [HOUR + 1, -HOUR - 1, YEAR, -YEAR] {
            let mut watch = watch();
            assert_eq!(watch.observe(at(MINUTE, set)), Some(ClockTurn::Jumped { off_by_ms: set }));
            assert!(watch.is_suspended());
            assert_eq!(watch.observe(at(30 * 24 * HOUR, set)), None, "it is told once, and time does not heal it");
            assert!(watch.is_suspended());
            assert_eq!(watch.observe(at(30 * 24 * HOUR, 30 * MINUTE)), Some(ClockTurn::Returned));
            assert!(!watch.is_suspended());
        }
    }

    /// Small steps add up: what counts is how far the clock is from where it would be, not how far it moved since the
    /// last look.
    #[test]
    fn many_small_jumps_are_a_large_one() {
        let mut watch = watch();
        assert_eq!(watch.observe(at(MINUTE, 40 * MINUTE)), None);
        assert!(watch.observe(at(2 * MINUTE, 80 * MINUTE)).is_some());
    }

    #[test]
    fn what_an_operator_confirms_is_right_from_then_on() {
        let mut watch = watch();
        watch.observe(at(MINUTE, YEAR));
        watch.confirm(at(MINUTE, YEAR));
        assert!(!watch.is_suspended());
        assert_eq!(watch.observe(at(HOUR, YEAR)), None);
        assert!(watch.observe(at(HOUR, 0)).is_some(), "going back is now the jump");
    }

    /// The machine went on, so both clocks can be compared across the processes.
    #[test]
    fn a_jump_while_the_broker_was_stopped_is_noticed_if_the_machine_ran_on() {
        let memory = watch().memory(at(MINUTE, 0), "boot");
        for set in [2 * HOUR, -2 * HOUR] {
            let mut watch = ClockWatch::start(at(10 * 24 * HOUR, set), "boot", Some(&memory));
            assert_eq!(watch.observe(at(10 * 24 * HOUR, set)), Some(ClockTurn::Jumped { off_by_ms: set }));
        }
        let mut watch = ClockWatch::start(at(10 * 24 * HOUR, 0), "boot", Some(&memory));
        assert_eq!(watch.observe(at(10 * 24 * HOUR, 0)), None);
    }

    #[test]
    fn a_jump_is_still_one_after_a_restart() {
        let mut first = watch();
        first.observe(at(MINUTE, YEAR));
        let memory = first.memory(at(MINUTE, YEAR), "boot");
        assert_eq!(memory.wall_ms, NOON + MINUTE, "what is kept is the time as it should be");
        for boot_id in ["boot", "another boot"] {
            let mut watch = ClockWatch::start(at(2 * MINUTE, YEAR), boot_id, Some(&memory));
            assert!(watch.is_suspended());
            assert_eq!(watch.observe(at(2 * MINUTE, YEAR)), None);
            assert_eq!(watch.observe(at(3 * MINUTE, 0)), Some(ClockTurn::Returned));
        }
    }

    /// After a restart of the machine only the past is impossible; a machine without a battery begins there, until a
    /// time server tells it better.
    #[test]
    fn after_the_machine_was_off_only_a_time_before_the_last_one_is_doubted() {
        let memory = watch().memory(at(0, 0), "boot");
        let start = |wall_ms| {
            let now = ClockReading { wall_ms, monotonic_ms: 5_000 };
            (ClockWatch::start(now, "another boot", Some(&memory)), now)
        };
        let (mut watch, now) = start(NOON + YEAR);
        assert_eq!(watch.observe(now), None, "it may have been off for a year");
        let (mut watch, now) = start(0);
        assert_eq!(watch.observe(now), Some(ClockTurn::Jumped { off_by_ms: -NOON }));
        let corrected = ClockReading { wall_ms: NOON + 3 * 24 * HOUR, monotonic_ms: 15_000 };
        assert_eq!(watch.observe(corrected), Some(ClockTurn::Returned), "it was off for three days");
        let jumped = ClockReading { wall_ms: NOON + YEAR, monotonic_ms: 25_000 };
        assert!(watch.observe(jumped).is_some(), "from then on both directions are watched");
    }
}
