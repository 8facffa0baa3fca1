//! How fast a group goes on in one partition, measured from its commits.
//!
//! A commit leaves a sample now and then: where the group was, and where the log ended. The pace is what both have gained
//! since the oldest sample of the last minute, so a group that stands still is seen to slow down without saying a word.
//! Only in memory: after a restart it is measured anew.

use crate::types::Offset;
use std::collections::VecDeque;

/// Commits that come sooner after a sample leave none.
const SAMPLE_INTERVAL_MS: u64 = 2_000;

/// Only what happened in this time counts, as long as anything did.
const WINDOW_MS: u64 = 60_000;

/// Most samples of one partition.
const SAMPLES_MAX: usize = 32;

/// Over less time than this nothing can be said.
const MEASURED_MS_MIN: u64 = 1_000;

/// Where a group and its log stood when it committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PaceSample {
    /// On the clock of deadlines.
    pub at_ms: u64,
    pub committed: Offset,
    pub high_watermark: Offset,
}

/// The samples of one partition, oldest first; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PaceWindow(VecDeque<PaceSample>);

/// Where a measurement of pace begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaceStart {
    /// How long ago, in milliseconds.
    pub elapsed_ms: u64,
    /// What was committed then.
    pub committed: Offset,
    /// Where the log ended then.
    pub high_watermark: Offset,
}

/// Records in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// How many the group is done with.
    pub consumed_per_second: f64,
    /// How many are appended.
    pub appended_per_second: f64,
}

impl PaceWindow {
    /// A window that begins with this sample.
    pub(super) fn new(sample: PaceSample) -> Self {
        Self(VecDeque::from([sample]))
    }

    /// Whether a commit at `now_ms` should leave a sample.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.0.back().is_none_or(|last| now_ms >= last.at_ms.saturating_add(SAMPLE_INTERVAL_MS))
    }

    /// Takes a sample, and lets the oldest go.
    pub(super) fn push(&mut self, sample: PaceSample) {
        if self.0.len() == SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// From where to measure at `now_ms`; `None` if too little time has passed.
    pub(super) fn start(&self, now_ms: u64) -> Option<PaceStart> {
        let since = now_ms.saturating_sub(WINDOW_MS);
        let PaceSample { at_ms, committed, high_watermark } =
            *self.0.iter().find(|sample| sample.at_ms >= since).or(self.0.back())?;
        let elapsed_ms = now_ms.saturating_sub(at_ms);
        (elapsed_ms >= MEASURED_MS_MIN).then_some(PaceStart { elapsed_ms, committed, high_watermark })
    }
}

impl PaceStart {
    /// The pace from there to here.
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
    pub fn until(&self, committed: Offset, high_watermark: Offset) -> Pace {
        let seconds = self.elapsed_ms as f64 / 1_000.0;
        let rate = |now: Offset, then: Offset| now.records_since(then) as f64 / seconds;
        Pace {
            consumed_per_second: rate(committed, self.committed),
            appended_per_second: rate(high_watermark, self.high_watermark),
        }
    }
}

impl Pace {
    /// How long it takes at this pace until `lag_records` are read, in milliseconds; `None` if they only grow.
    #[expect(clippy::cast_precision_loss, reason = "an estimate needs no 53 bits")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates, and it is positive")]
    pub fn drain_ms(&self, lag_records: u64) -> Option<u64> {
        let gain = self.consumed_per_second - self.appended_per_second;
        if lag_records == 0 {
            return Some(0);
        }
        (gain > 0.0).then(|| (lag_records as f64 * 1_000.0 / gain).ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: u64, committed: u64, high_watermark: u64) -> PaceSample {
        PaceSample { at_ms, committed: Offset(committed), high_watermark: Offset(high_watermark) }
    }

    #[test]
    fn the_pace_is_that_of_the_last_minute() {
        let mut window = PaceWindow::new(sample(0, 0, 1_000));
        assert_eq!(window.start(999), None, "too little time has passed");
        assert!(!window.is_due(1_999) && window.is_due(2_000));
        for second in (2..=100).step_by(2) {
            window.push(sample(second * 1_000, second * 10, 1_000 + second * 2));
        }
        let start = window.start(100_000).expect("time enough");
        assert_eq!((start.elapsed_ms, start.committed), (60_000, Offset(400)));
        let pace = start.until(Offset(1_000), Offset(1_200));
        assert!((pace.consumed_per_second - 10.0).abs() < 1e-9 && (pace.appended_per_second - 2.0).abs() < 1e-9);
        assert_eq!(pace.drain_ms(200), Some(25_000));
    }

    #[test]
    fn a_group_that_stands_still_never_gets_there() {
        let window = PaceWindow::new(sample(0, 10, 100));
        let pace = window.start(600_000).expect("time enough").until(Offset(10), Offset(100));
        assert_eq!(pace, Pace { consumed_per_second: 0.0, appended_per_second: 0.0 });
        assert_eq!((pace.drain_ms(90), pace.drain_ms(0)), (None, Some(0)));
    }

    #[test]
    fn samples_are_bounded() {
        let mut window = PaceWindow::new(sample(0, 0, 0));
        (1..1_000).for_each(|at_ms| window.push(sample(at_ms, 0, 0)));
        assert_eq!(window.0.len(), SAMPLES_MAX);
    }
}
