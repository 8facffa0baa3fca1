//! Of batches that were read, the records that match a filter.
//!
//! A batch with records missing in it is several batches, one for each run of neighbours that stay, as compaction writes
//! it: so offsets inside a batch follow without a gap, and every client goes on computing them. A run of whole records
//! is itself a record set, so its bytes are a slice of the batch: nothing is copied, whether all match or some.

use crate::filter::Filter;
use crate::storage::reader::{StoredBatch, StoredBatches};
use crate::types::{Offset, record_set};

/// What is left of a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selected {
    /// Each holds a record at least.
    pub(super) batches: Vec<StoredBatch>,
    /// Where to read on: behind everything that was looked at.
    pub(super) next_offset: Offset,
}

/// Takes records that match, at most so many and of so many bytes, but one at least if there is one and `records_max`
/// is not 0.
pub(super) fn select(filter: &Filter, read: StoredBatches, records_max: u64, bytes_max: usize) -> Selected {
    let next_offset = read.next_offset;
    let mut selection = Selection { batches: Vec::new(), records_left: records_max, bytes_left: bytes_max };
    for batch in read {
        if let Err(Full { next_offset }) = selection.take(filter, batch) {
            return Selected { batches: selection.batches, next_offset };
        }
    }
    Selected { batches: selection.batches, next_offset }
}

struct Selection {
    batches: Vec<StoredBatch>,
    records_left: u64,
    bytes_left: usize,
}

/// The next record that matches does not fit.
struct Full {
    next_offset: Offset,
}

/// Neighbours that match.
#[derive(Clone, Copy)]
struct Run {
    first: u32,
    count: u32,
    start: usize,
    end: usize,
}

impl Selection {
    fn take(&mut self, filter: &Filter, batch: StoredBatch) -> Result<(), Full> {
        let payload = batch.payload.clone();
        let mut run: Option<Run> = None;
        let mut start = 0;
        for (number, (record, end)) in (0..batch.record_count).zip(record_set::bodies_with_ends(&payload)) {
            if filter.matches(record) {
                let bytes = end - start;
                let is_first = self.batches.is_empty() && run.is_none();
                if self.records_left == 0 || (bytes > self.bytes_left && !is_first) {
                    self.close(&batch, run);
                    return Err(Full { next_offset: batch.base_offset.advance(number.into()) });
                }
                self.records_left -= 1;
                self.bytes_left = self.bytes_left.saturating_sub(bytes);
                let begun = run.unwrap_or(Run { first: number, count: 0, start, end });
                run = Some(Run { count: begun.count + 1, end, ..begun });
            } else {
                self.close(&batch, run.take());
            }
            start = end;
        }
        match run {
            // All of it: as it came.
            Some(Run { count, .. }) if count == batch.record_count => self.batches.push(batch),
            run => self.close(&batch, run),
        }
        Ok(())
    }

    fn close(&mut self, batch: &StoredBatch, run: Option<Run>) {
        if let Some(Run { first, count, start, end }) = run {
            self.batches.push(batch.run(first, count, start..end));
        }
    }
}

#[cfg(test)]
#[path = "filtering_tests.rs"]
mod tests;
