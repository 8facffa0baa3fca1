//! What the broker does itself for each batch: check, frame, append, sync, read; match a filter; and for each message of
//! a queue. `cargo bench`
//!
//! The disk below is that of the temporary directory. Compare lines of one run; machines drift.

mod common;

use common::queue::EndlessQueue;
use common::{batch, index_of, log, set, set_with_headers};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use millstream::clock::SystemClock;
use millstream::filter::Filter;
use millstream::partition::{PartitionHandle, PartitionOptions, StoragePool};
use millstream::storage::Log;
use millstream::storage::frame::FrameHeader;
use millstream::storage::retention::RetentionPolicy;
use millstream::types::record_set;
use millstream::types::{Durability, Offset};
use std::cell::RefCell;
use std::sync::Arc;

fn main() {
    divan::main();
}

/// Records of 100 bytes, as many as make a set of about this size.
const SET_BYTES: [usize; 3] = [1 << 10, 64 << 10, 1 << 20];

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

/// Producers with one small record each on its way, every acknowledgement behind a sync: what they share is the sync.
#[divan::bench(args = [1, 16, 64], sample_size = 1, sample_count = 50)]
fn synced_append_of_producers(bencher: Bencher<'_, '_>, producers: usize) {
    const ROUNDS: usize = 20;
    let (_directory, log) = log();
    let pool = StoragePool::start(2).expect("threads start");
    let options = PartitionOptions {
        log: common::OPTIONS,
        durability: Durability::Synced,
        retention: RetentionPolicy::KEEP_ALL,
        compaction: None,
    };
    let partition = PartitionHandle::new(log, options, &pool, Arc::new(SystemClock), Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let batch = batch(100);
    bencher.counter(ItemsCount::new(producers * ROUNDS)).bench_local(|| {
        runtime.block_on(futures_util::future::join_all((0..producers).map(async |_| {
            for _ in 0..ROUNDS {
                partition.append(batch.clone(), None, None).await.expect("the disk works");
            }
        })))
    });
}

/// Header and checksum of a frame.
#[divan::bench(args = SET_BYTES)]
fn encode_frame(bencher: Bencher<'_, '_>, bytes: usize) {
    let (header, payload) = (common::header(), set(bytes));
    bencher.counter(BytesCount::new(payload.len())).bench(|| header.encode(7, divan::black_box(&payload)));
}

/// What a reader does for each frame before it believes it.
#[divan::bench(args = SET_BYTES)]
fn verify_frame(bencher: Bencher<'_, '_>, bytes: usize) {
    let frame = common::frame(bytes);
    bencher
        .counter(BytesCount::new(frame.len()))
        .bench(|| FrameHeader::decode_verified(7, divan::black_box(&frame)).expect("it is whole"));
}

/// Where in a segment of 64 Ki frames an offset is, and a time.
#[divan::bench]
fn look_up_offset(bencher: Bencher<'_, '_>) {
    let index = index_of(1 << 16);
    bencher.bench(|| index.position_of_offset(divan::black_box(Offset(40_000))));
}

#[divan::bench]
fn look_up_time(bencher: Bencher<'_, '_>) {
    let index = index_of(1 << 16);
    bencher.bench(|| index.position_of_time(divan::black_box(40_000)));
}

/// Records with two headers against a filter that none of them passes.
#[divan::bench(args = ["attributes.type = \"refund\"", "hasPrefix(attributes.region, \"us-\") OR attributes:missing"])]
fn filter_records(bencher: Bencher<'_, '_>, filter: &str) {
    let (filter, set) = (Filter::new(filter).expect("it is one"), set_with_headers());
    bencher.counter(ItemsCount::new(1_000_u32)).bench(|| {
        record_set::bodies_with_ends(divan::black_box(&set)).filter(|(record, _)| filter.matches(record)).count()
    });
}

/// Messages are taken, delivered and acknowledged, so many at a time; the journal costs nothing.
#[divan::bench(args = [1, 16, 1_000])]
fn work_queue(bencher: Bencher<'_, '_>, messages: u32) {
    let queue = EndlessQueue::new();
    bencher.counter(ItemsCount::new(messages)).bench_local(|| queue.work(messages));
}
