//! A set of offsets that is kept as ranges: what was resolved of a partition of dead letters.
//!
//! Ranges are in order, apart from each other and not empty, so there is one way to write each set. If the first begins at
//! offset 0, its end is the low watermark: everything below is in the set. Purely functional but for its own memory, which
//! is 16 bytes a range; whoever fills a set bounds their number.

use crate::types::Offset;
use std::ops::Range;

/// Offsets, as ranges.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RangeSet {
    ranges: Vec<Range<Offset>>,
}

impl RangeSet {
    /// No offsets.
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Puts offsets in; ranges that overlap or touch become one.
    pub fn insert(&mut self, range: Range<Offset>) {
        if range.is_empty() {
            return;
        }
        let first = self.ranges.partition_point(|known| known.end < range.start);
        let behind = self.ranges.partition_point(|known| known.start <= range.end);
        let touched = &self.ranges[first..behind];
        let start = touched.first().map_or(range.start, |known| known.start.min(range.start));
        let end = touched.last().map_or(range.end, |known| known.end.max(range.end));
        self.ranges.splice(first..behind, std::iter::once(start..end));
    }

    /// Takes out everything from `end` on.
    pub fn truncate(&mut self, end: Offset) {
        let behind = self.ranges.partition_point(|known| known.start < end);
        self.ranges.truncate(behind);
        if let Some(last) = self.ranges.last_mut() {
            last.end = last.end.min(end);
        }
    }

    /// Whether an offset is in the set.
    pub fn contains(&self, offset: Offset) -> bool {
        self.next_outside(offset) != offset
    }

    /// The first offset from `offset` on that is not in the set.
    pub fn next_outside(&self, offset: Offset) -> Offset {
        let at = self.ranges.partition_point(|known| known.end <= offset);
        self.ranges.get(at).filter(|known| known.start <= offset).map_or(offset, |known| known.end)
    }

    /// How many offsets of `range` are in the set.
    pub fn count_within(&self, range: Range<Offset>) -> u64 {
        let first = self.ranges.partition_point(|known| known.end <= range.start);
        let overlapping = self.ranges[first..].iter().take_while(|known| known.start < range.end);
        overlapping.map(|known| known.end.min(range.end).records_since(known.start.max(range.start))).sum()
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> &[Range<Offset>] {
        &self.ranges
    }
}

impl Extend<Range<Offset>> for RangeSet {
    fn extend<I: IntoIterator<Item = Range<Offset>>>(&mut self, ranges: I) {
        for range in ranges {
            self.insert(range);
        }
    }
}

impl FromIterator<Range<Offset>> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range<Offset>>>(ranges: I) -> Self {
        let mut set = Self::default();
        set.extend(ranges);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set(ranges: &[(u64, u64)]) -> RangeSet {
        ranges.iter().map(|(start, end)| Offset(*start)..Offset(*end)).collect()
    }

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        assert_eq!(set(&[(0, 3), (5, 7), (3, 5)]), set(&[(0, 7)]));
        assert_eq!(set(&[(5, 7), (0, 3)]).ranges().len(), 2);
        assert_eq!(set(&[(5, 7), (9, 12), (6, 10)]), set(&[(5, 12)]));
        assert_eq!(set(&[(4, 4), (9, 2)]), RangeSet::default(), "an empty range is nothing");
        assert_eq!(set(&[(u64::MAX - 1, u64::MAX), (0, u64::MAX)]).count_within(Offset(0)..Offset(9)), 9);
    }

    #[test]
    fn the_end_can_be_taken_back() {
        let mut cut = set(&[(0, 3), (5, 9), (11, 12)]);
        cut.truncate(Offset(7));
        assert_eq!(cut, set(&[(0, 3), (5, 7)]));
        cut.truncate(Offset(0));
        assert_eq!(cut, RangeSet::default());
    }

    proptest! {
        /// Against a set of single offsets, which cannot be wrong about ranges.
        #[test]
        fn a_set_holds_what_was_put_in(
            steps in prop::collection::vec((0..60_u64, 0..12_u64, prop::bool::weighted(0.1)), 0..60)
        ) {
            let (mut ranges, mut naive) = (RangeSet::default(), BTreeSet::new());
            for (start, length, truncates) in steps {
                if truncates {
                    ranges.truncate(Offset(start));
                    naive.retain(|offset| *offset < start);
                } else {
                    ranges.insert(Offset(start)..Offset(start + length));
                    naive.extend(start..start + length);
                }
                for pair in ranges.ranges().windows(2) {
                    prop_assert!(pair[0].end < pair[1].start, "{ranges:?}");
                }
                for offset in 0..80 {
                    prop_assert_eq!(ranges.contains(Offset(offset)), naive.contains(&offset));
                    let outside = (offset..=80 + 12).find(|offset| !naive.contains(offset)).expect("the set is finite");
                    prop_assert_eq!(ranges.next_outside(Offset(offset)), Offset(outside));
                    let within = naive.range(offset..offset + 7).count() as u64;
                    prop_assert_eq!(ranges.count_within(Offset(offset)..Offset(offset + 7)), within);
                }
                let again: RangeSet = ranges.ranges().iter().cloned().rev().collect();
                prop_assert_eq!(again, ranges.clone(), "there is one way to write a set");
            }
        }
    }
}
