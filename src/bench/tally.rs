//! What a reader has seen: that nothing is missing, nothing came twice, and everything came in order.
//!
//! Counts for each sender and partition the sequence that must come next. One number for each of these pairs, and for
//! each record a comparison; latencies are recorded once for each run of records with the same intended time.

use super::latency::Latencies;
use super::payload::Stamp;
use super::stage::{Phase, RunClock, Stage};
use std::sync::Arc;

/// The sequence number that says: whatever comes first is right.
const UNKNOWN: u64 = u64::MAX;

/// The tally of one reader.
#[derive(Debug)]
pub struct Tally {
    stage: Arc<Stage>,
    clock: RunClock,
    senders: usize,
    record_bytes: usize,
    /// The next sequence of each sender in each partition.
    expected: Vec<u64>,
    /// What is expected of a sender that nothing came of yet.
    first: u64,
    counts: Counts,
    latencies: Option<Latencies>,
    /// Records of the same intended time that are not recorded yet, and that time.
    same: (u64, u64),
}

/// What a tally has counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// All records.
    pub(super) records: u64,
    /// Those that came in the measured time.
    pub(super) records_measured: u64,
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) foreign: u64,
}

/// Where a tally begins to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// The first record of each sender must be its first.
    AtZero,
    /// The reader began behind records that were there before.
    Anywhere,
}

impl Tally {
    pub(super) fn new(stage: &Arc<Stage>, clock: RunClock, senders: u32, record_bytes: usize, begin: Begin) -> Self {
        Self {
            stage: Arc::clone(stage),
            clock,
            senders: senders as usize,
            record_bytes,
            expected: Vec::new(),
            first: if begin == Begin::AtZero { 0 } else { UNKNOWN },
            counts: Counts::default(),
            latencies: None,
            same: (0, 0),
        }
    }

    /// The same, recording how long after its intended time each record came.
    pub(super) fn with_latencies(self) -> Self {
        Self { latencies: Some(Latencies::new()), ..self }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn into_latencies(self) -> Option<Latencies> {
        self.latencies
    }

    /// Begins again at the first record: a reader that has started over.
    pub(super) fn restart(&mut self) {
        self.first = 0;
        self.expected.clear();
    }

    /// Takes records of one partition that came together.
    #[inline]
    pub fn records<'a>(&mut self, partition: u32, records: impl IntoIterator<Item = &'a [u8]>) {
        let now_ns = self.clock.now_ns();
        let place = self.place_of(partition);
        let before = self.counts.records;
        for record in records {
            self.record(place, record, now_ns);
        }
        self.record_same(now_ns);
        if self.stage.phase() == Phase::Measured {
            self.counts.records_measured += self.counts.records - before;
        }
    }

    /// Where the sequences of a partition begin; makes room for those of a partition that is new.
    fn place_of(&mut self, partition: u32) -> usize {
        let place = partition as usize * self.senders;
        if self.expected.len() < place + self.senders {
            self.expected.resize(place + self.senders, self.first);
        }
        place
    }

    #[inline]
    fn record(&mut self, place: usize, record: &[u8], now_ns: u64) {
        self.counts.records += 1;
        let Some(stamp) = Stamp::of(record).filter(|stamp| (stamp.sender as usize) < self.senders) else {
            self.counts.foreign += 1;
            return;
        };
        self.counts.foreign += u64::from(record.len() != self.record_bytes);
        let expected = &mut self.expected[place + stamp.sender as usize];
        if *expected == UNKNOWN || *expected == stamp.sequence {
            *expected = stamp.sequence + 1;
        } else if stamp.sequence > *expected {
            self.counts.lost += stamp.sequence - *expected;
            *expected = stamp.sequence + 1;
        } else {
            self.counts.repeated += 1;
        }
        if self.latencies.is_some() {
            if self.same.0 != stamp.intended_ns {
                self.record_same(now_ns);
                self.same.0 = stamp.intended_ns;
            }
            self.same.1 += 1;
        }
    }

    #[inline]
    fn record_same(&mut self, now_ns: u64) {
        let (intended_ns, count) = self.same;
        self.same.1 = 0;
        if let Some(latencies) = self.latencies.as_mut().filter(|_| count > 0)
            && self.stage.measures(intended_ns)
        {
            latencies.record(now_ns.saturating_sub(intended_ns), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload::BlockBuffer;
    use super::*;

    fn tally(begin: Begin) -> Tally {
        let clock = RunClock::start();
        let stage = Arc::new(Stage::new(clock));
        stage.enter(Phase::Measured);
        Tally::new(&stage, clock, 2, 16, begin).with_latencies()
    }

    fn feed(tally: &mut Tally, sender: u32, sequences: &[u64]) {
        let mut buffer = BlockBuffer::new(sender, 1, 16);
        for sequence in sequences {
            let intended_ns = tally.clock.now_ns();
            tally.records(3, buffer.stamp(*sequence, 1, |_| intended_ns).records());
        }
    }

    #[test]
    fn what_is_missing_repeated_or_foreign_is_counted() {
        let mut tally = tally(Begin::AtZero);
        feed(&mut tally, 0, &[0, 1, 2]);
        feed(&mut tally, 1, &[0, 1]);
        assert_eq!(tally.counts(), Counts { records: 5, records_measured: 5, ..Counts::default() });
        feed(&mut tally, 0, &[5, 3, 6]);
        feed(&mut tally, 1, &[1]);
        feed(&mut tally, 7, &[0]);
        tally.records(0, [b"short".as_slice()]);
        let counts = tally.counts();
        assert_eq!((counts.lost, counts.repeated, counts.foreign), (2, 2, 2), "{counts:?}");
        let latencies = tally.into_latencies().expect("it has them");
        assert_eq!(latencies.count(), 9, "foreign records have no latency");
    }

    #[test]
    fn the_first_record_counts_as_right_only_behind_others() {
        let mut late = tally(Begin::Anywhere);
        feed(&mut late, 0, &[40, 41]);
        assert_eq!(late.counts().lost, 0);
        let mut early = tally(Begin::AtZero);
        feed(&mut early, 0, &[40]);
        assert_eq!(early.counts().lost, 40);
        early.restart();
        feed(&mut early, 0, &[0, 1]);
        assert_eq!(early.counts().lost, 40);
    }
}
