//! What the broker does itself for each batch: check, frame, append, sync, read. `cargo bench`
//!
//! The disk below is that of the temporary directory. Compare lines of one run; machines drift.

use bytes::{Bytes, BytesMut};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use millstream::storage::log::NewBatch;
use millstream::storage::real_file_system::RealFileSystem;
use millstream::storage::segment::header::LogId;
use millstream::storage::{Log, LogOptions};
use millstream::types::record_set::{self, encode_record};
use millstream::types::{Offset, TopicId};
use std::cell::RefCell;
use std::sync::Arc;

fn main() {
    divan::main();
}

/// Records of 100 bytes, as many as make a set of about this size.
const SET_BYTES: [usize; 3] = [1 << 10, 64 << 10, 1 << 20];

fn set(bytes: usize) -> Bytes {
    let mut set = BytesMut::new();
    while set.len() < bytes {
        encode_record(&mut set, None, Some(&[b'v'; 100]), std::iter::empty(), None);
    }
    set.freeze()
}

fn batch(bytes: usize) -> NewBatch {
    let payload = set(bytes);
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    NewBatch::new(payload, summary)
}

/// A log in a directory that goes away with it.
fn log() -> (tempfile::TempDir, Log) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let id = LogId { topic: TopicId(uuid::Uuid::from_u128(1)), partition: 0 };
    let options = LogOptions { segment_bytes: 128 << 20, seal_age_ms: u64::MAX, reserve_bytes: 0 };
    let (log, _) = Log::open(Arc::new(RealFileSystem), directory.path(), id, options).expect("opens");
    (directory, log)
}

/// The one walk over every byte that comes from outside.
#[divan::bench(args = SET_BYTES)]
fn check(bencher: Bencher<'_, '_>, bytes: usize) {
    let set = set(bytes);
    let records = record_set::records(&set).count();
    bencher
        .counter(BytesCount::new(set.len()))
        .counter(ItemsCount::new(records))
        .bench(|| record_set::check(divan::black_box(&set), usize::MAX));
}

/// Written, not synced.
#[divan::bench(args = SET_BYTES)]
fn append(bencher: Bencher<'_, '_>, bytes: usize) {
    let (_directory, mut log) = log();
    let batches = [batch(bytes)];
    bencher.counter(BytesCount::new(batches[0].payload.len())).bench_local(|| log.append(&batches, 0));
}

/// One batch, one sync: what a lone producer waits for.
#[divan::bench(args = SET_BYTES)]
fn append_and_sync(bencher: Bencher<'_, '_>, bytes: usize) {
    let (_directory, mut log) = log();
    let batches = [batch(bytes)];
    bencher.counter(BytesCount::new(batches[0].payload.len())).bench_local(|| {
        log.append(&batches, 0);
        log.sync().expect("the disk works");
    });
}

/// The same, with what the storage thread does between drains, which is not counted: space and zeros are there.
#[divan::bench(args = [1 << 10, 16 << 10, 64 << 10], sample_size = 1, sample_count = 500)]
fn append_prepared_and_sync(bencher: Bencher<'_, '_>, bytes: usize) {
    append_between(bencher, bytes, Log::prepare_ahead);
}

/// Beside it: space is reserved by the append that needs it, and nothing is written ahead.
#[divan::bench(args = [1 << 10, 16 << 10, 64 << 10], sample_size = 1, sample_count = 500)]
fn append_unprepared_and_sync(bencher: Bencher<'_, '_>, bytes: usize) {
    append_between(bencher, bytes, |_| ());
}

fn append_between(bencher: Bencher<'_, '_>, bytes: usize, between: impl Fn(&mut Log)) {
    let (_directory, log) = log();
    let (log, batches) = (RefCell::new(log), [batch(bytes)]);
    bencher.with_inputs(|| between(&mut log.borrow_mut())).bench_local_values(|()| {
        log.borrow_mut().append(&batches, 0);
        log.borrow_mut().sync().expect("the disk works");
    });
}

/// 64 producers with one small record each: one write and one sync for all.
#[divan::bench]
fn drain_of_64_and_sync(bencher: Bencher<'_, '_>) {
    let (_directory, mut log) = log();
    let batches = vec![batch(100); 64];
    bencher.counter(ItemsCount::new(64_usize)).bench_local(|| {
        log.append(&batches, 0);
        log.sync().expect("the disk works");
    });
}

/// From the map, checksums verified, nothing copied.
#[divan::bench(args = SET_BYTES)]
fn read(bencher: Bencher<'_, '_>, bytes: usize) {
    let (_directory, mut log) = log();
    let batches = vec![batch(bytes); (16 << 20) / bytes];
    log.append(&batches, 0);
    let (reader, end) = (log.reader(), log.next_offset());
    bencher.counter(BytesCount::new(16_usize << 20)).bench(|| {
        let mut next = Offset(0);
        while next < end {
            let read = reader.read(next, end, 1 << 20).expect("readable");
            next = read.last().expect("there is more").next_offset();
        }
    });
}
