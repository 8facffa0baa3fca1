//! When batches are ready, what bounds them, and what a flush waits for.

use super::*;
use crate::client::producer::receipt::RecordAck;
use crate::types::{Offset, record_set};

const LINGER: Duration = Duration::from_millis(5);

fn accumulator(partitions: u32, batch_bytes: usize, buffer_bytes_max: usize) -> Accumulator {
    let bounds = Bounds { batch_bytes, record_bytes_max: 1000, buffer_bytes_max, linger: LINGER };
    let topic = TopicName::new("orders").expect("a valid name");
    Accumulator::new(topic, bounds, PartitionChoice::new(None, partitions, 0))
}

fn add(accumulator: &mut Accumulator, value: &[u8]) -> bool {
    match accumulator.add(&NewRecord::value(value)).expect("the record is fine") {
        Admission::Taken { wake, .. } => wake,
        Admission::Full => panic!("full"),
    }
}

fn values(batch: &Batch) -> Vec<Vec<u8>> {
    record_set::records(&batch.records).map(|record| record.value.expect("it has one").to_vec()).collect()
}

fn ack() -> BatchAck {
    let first = RecordAck { partition: 0, offset: Offset(0), append_time: 0, durability: None, duplicate: false };
    BatchAck { first, duplicates: Vec::new() }
}

/// Every partition has room.
fn anywhere(_: u32) -> bool {
    true
}

#[test]
fn a_batch_waits_for_company_and_no_longer() {
    let mut accumulator = accumulator(1, 1000, 10_000);
    let before = Instant::now();
    assert!(add(&mut accumulator, b"one"), "the first record sets the alarm");
    assert!(!add(&mut accumulator, b"two"), "the second changes nothing");
    assert!(accumulator.take_ready(before, anywhere).is_none());
    let deadline = accumulator.next_deadline(anywhere).expect("a batch is open");
    let batch = accumulator.take_ready(deadline, anywhere).expect("it has waited long enough");
    assert_eq!(values(&batch), [b"one", b"two"]);
    assert_eq!(accumulator.next_deadline(anywhere), None);
}

#[test]
fn a_full_batch_is_ready_at_once() {
    let mut accumulator = accumulator(1, 300, 10_000);
    let before = Instant::now();
    add(&mut accumulator, &[1; 200]);
    assert!(add(&mut accumulator, &[2; 200]), "the pump is told of the sealed one");
    assert_eq!(values(&accumulator.take_ready(before, anywhere).expect("sealed")), [vec![1; 200]]);
    assert!(accumulator.take_ready(before, anywhere).is_none());
}

#[test]
fn a_record_larger_than_a_batch_has_one_of_its_own() {
    let mut accumulator = accumulator(1, 100, 10_000);
    for value in [[1; 500], [2; 500]] {
        add(&mut accumulator, &value);
    }
    accumulator.seal_all();
    assert_eq!(values(&accumulator.take_ready(Instant::now(), anywhere).expect("one")), [[1; 500]]);
    assert_eq!(values(&accumulator.take_ready(Instant::now(), anywhere).expect("two")), [[2; 500]]);
}

#[test]
fn memory_is_bounded_until_batches_are_settled() {
    let mut accumulator = accumulator(1, 1 << 20, 150);
    add(&mut accumulator, &[0; 200]);
    assert!(matches!(accumulator.add(&NewRecord::value(b"x")), Ok(Admission::Full)));
    // Being full is a reason to send what waits, whatever the linger.
    let batch = accumulator.take_ready(Instant::now(), anywhere).expect("sealed because there is no room");
    assert!(accumulator.is_full(), "what is in flight still counts");
    accumulator.settle(&batch, Ok(ack()));
    assert!(!accumulator.is_full());
    assert_eq!(accumulator.totals().records_acked, 1);
}

#[test]
fn the_first_failure_is_kept_for_the_next_flush() {
    let mut accumulator = accumulator(1, 1000, 10_000);
    add(&mut accumulator, b"x");
    accumulator.seal_all();
    let batch = accumulator.take_ready(Instant::now(), anywhere).expect("sealed");
    accumulator.settle(&batch, Err(ClientError::Closed));
    assert_eq!(accumulator.totals().records_failed, 1);
    assert!(accumulator.take_failure().is_some());
    assert!(accumulator.take_failure().is_none());
}

#[test]
fn a_flush_waits_for_every_batch_and_for_none_that_is_settled() {
    let mut accumulator = accumulator(1, 1000, 10_000);
    add(&mut accumulator, b"x");
    assert_eq!(accumulator.seal_all().len(), 1);
    let batch = accumulator.take_ready(Instant::now(), anywhere).expect("sealed");
    assert_eq!(accumulator.seal_all().len(), 1, "in flight");
    accumulator.settle(&batch, Ok(ack()));
    assert!(accumulator.seal_all().is_empty());
}

#[test]
fn a_refused_record_leaves_nothing_to_send_or_wait_for() {
    let mut accumulator = accumulator(1, 1000, 10_000);
    assert!(accumulator.add(&NewRecord::value(&[0; 2000])).is_err());
    assert!(accumulator.add(&NewRecord { partition: Some(1), ..NewRecord::value(b"x") }).is_err());
    assert!(accumulator.seal_all().is_empty());
    assert!(accumulator.take_ready(Instant::now(), anywhere).is_none());
    accumulator.close();
    assert!(accumulator.is_finished());
}

#[test]
fn a_partition_without_room_is_passed_over_and_its_batch_goes_on_taking_records() {
    let mut accumulator = accumulator(2, 300, 10_000);
    let to = |accumulator: &mut Accumulator, partition, value: &[u8]| {
        let record = NewRecord { partition: Some(partition), ..NewRecord::value(value) };
        assert!(matches!(accumulator.add(&record), Ok(Admission::Taken { .. })));
    };
    for value in [[1; 200], [2; 200]] {
        to(&mut accumulator, 0, &value);
    }
    to(&mut accumulator, 1, b"other");
    let later = Instant::now() + LINGER;
    let not_0 = |partition| partition != 0;
    assert_eq!(values(&accumulator.take_ready(later, not_0).expect("it has waited")), [b"other"]);
    assert!(accumulator.take_ready(later, not_0).is_none());
    assert_eq!(accumulator.next_deadline(not_0), None, "nothing to wake up for");
    to(&mut accumulator, 0, b"more");
    assert_eq!(values(&accumulator.take_ready(later, anywhere).expect("sealed")), [[1; 200]]);
    assert_eq!(values(&accumulator.take_ready(later, anywhere).expect("due")), [vec![2; 200], b"more".to_vec()]);
}
