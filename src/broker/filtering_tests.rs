//! What is selected, against a naive selection of the decoded records, on a log with frames as they are read.

use super::*;
use crate::storage::log::NewBatch;
use crate::storage::real_file_system::RealFileSystem;
use crate::storage::segment::header::LogId;
use crate::storage::{Log, LogOptions};
use crate::types::TopicId;
use crate::types::record_set::Record;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use std::sync::Arc;

const OPTIONS: LogOptions = LogOptions { segment_bytes: 1 << 20, seal_age_ms: u64::MAX, reserve_bytes: 0 };

/// A batch with a record for each of these: whether it matches `attributes:wanted`, and how long its value is.
fn batch(records: &[(bool, usize)]) -> NewBatch {
    let mut set = BytesMut::new();
    for (is_wanted, bytes) in records {
        let header = is_wanted.then_some(("wanted", b"".as_slice()));
        record_set::encode_record(&mut set, None, Some(&vec![b'v'; *bytes]), header.into_iter(), None);
    }
    let set = set.freeze();
    let summary = record_set::check(&set, usize::MAX).expect("our own encoding is valid");
    NewBatch::new(set, summary)
}

fn read(batches: &[Vec<(bool, usize)>]) -> StoredBatches {
    let directory = tempfile::tempdir().expect("a directory");
    let id = LogId { topic: TopicId(uuid::Uuid::from_u128(1)), partition: 0 };
    let (mut log, _) = Log::open(Arc::new(RealFileSystem), directory.path(), id, OPTIONS).expect("opens");
    let batches: Vec<_> = batches.iter().map(|records| batch(records)).collect();
    log.append(&batches, 0);
    log.reader().read(Offset::ZERO, log.next_offset(), usize::MAX).expect("readable")
}

/// Offset, encoded size and record of everything in these batches.
fn records_of(batches: &[StoredBatch]) -> Vec<(u64, usize, Record)> {
    let of_batch = |batch: &StoredBatch| {
        let raw: Vec<Bytes> = record_set::raw_records(&batch.payload).collect();
        assert_eq!(raw.len(), batch.record_count as usize);
        let records: Vec<_> = record_set::records(&batch.payload).collect();
        let sized = raw.into_iter().zip(records);
        (batch.base_offset.0..).zip(sized).map(|(at, (raw, record))| (at, raw.len(), record)).collect::<Vec<_>>()
    };
    batches.iter().flat_map(of_batch).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_matches_is_selected_in_order_within_its_bounds_and_never_copied(
        batches in prop::collection::vec(prop::collection::vec((any::<bool>(), 0..30_usize), 1..12), 1..6),
        records_max in 1..30_u64,
        bytes_max in 1..600_usize,
    ) {
        let stored = read(&batches);
        let memory: Vec<_> = stored.iter().map(|batch| batch.payload.as_ptr_range()).collect();
        let end = stored.next_offset;
        let matching: Vec<_> =
            records_of(&stored).into_iter().filter(|(_, _, record)| !record.headers.is_empty()).collect();
        let mut wanted = Vec::new();
        let mut bytes = 0;
        for found in &matching {
            let fits = bytes + found.1 <= bytes_max || wanted.is_empty();
            if wanted.len() as u64 == records_max || !fits {
                break;
            }
            bytes += found.1;
            wanted.push(found.clone());
        }
        let next = matching.get(wanted.len()).map_or(end.0, |(offset, ..)| *offset);

        let filter = Filter::new("attributes:wanted").expect("it is one");
        let selected = select(&filter, stored, records_max, bytes_max);
        prop_assert_eq!(records_of(&selected.batches), wanted);
        prop_assert_eq!(selected.next_offset, Offset(next));
        for batch in &selected.batches {
            let at = batch.payload.as_ptr();
            prop_assert!(memory.iter().any(|range| range.contains(&at)), "its bytes are those that were read");
        }
    }
}

#[test]
fn a_batch_that_matches_as_a_whole_stays_as_it_is() {
    let stored = read(&[vec![(true, 3), (true, 5)], vec![(false, 1)], vec![(true, 1)]]);
    let (first, last) = (stored[0].clone(), stored[2].clone());
    let filter = Filter::new("attributes:wanted").expect("it is one");
    assert_eq!(select(&filter, stored, 10, 1_000).batches, [first, last]);
}
