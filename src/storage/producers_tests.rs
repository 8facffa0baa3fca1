//! The table of producers against a plain list of what was appended.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const ID: ProducerId = ProducerId(7);

fn stamp(epoch: u16, base_sequence: u32) -> ProducerStamp {
    ProducerStamp { id: ID, epoch, base_sequence }
}

fn batch(base_sequence: u32, record_count: u32, base_offset: u64) -> RememberedBatch {
    RememberedBatch { base_sequence, record_count, base_offset: Offset(base_offset), append_time_ms: 0 }
}

fn append(table: &mut ProducerTable, epoch: u16, batch: RememberedBatch) {
    table.apply(ID, epoch, batch);
    table.keep();
}

#[test]
fn sequences_go_round() {
    let mut table = ProducerTable::default();
    append(&mut table, 0, batch(u32::MAX - 4, 3, 0));
    assert_eq!(table.check(stamp(0, u32::MAX - 1), 4, 0), Ok(Place::Next));
    append(&mut table, 0, batch(u32::MAX - 1, 4, 3));
    assert_eq!(
        table.check(stamp(0, 2), 1, 0),
        Ok(Place::Next),
        "3 records before the turn and one behind it: 2 is next"
    );
    append(&mut table, 0, batch(2, 1, 7));
    for (base_sequence, count, offset) in [(u32::MAX - 4, 3, 0), (u32::MAX - 1, 4, 3), (2, 1, 7)] {
        let place = table.check(stamp(0, base_sequence), count, 0);
        assert_eq!(place, Ok(Place::Repeat(batch(base_sequence, count, offset))));
    }
    assert_eq!(table.check(stamp(0, 4), 1, 0), Err(SequenceError::OutOfSequence { expected: 3 }));
}

#[test]
fn a_turn_to_sequence_0_is_no_new_beginning() {
    let mut table = ProducerTable::default();
    append(&mut table, 0, batch(u32::MAX, 1, 0));
    append(&mut table, 0, batch(0, 1, 1));
    assert_eq!(table.check(stamp(0, u32::MAX), 1, 0), Ok(Place::Repeat(batch(u32::MAX, 1, 0))));
}

#[test]
fn a_later_epoch_begins_with_0_and_fences_the_earlier() {
    let mut table = ProducerTable::default();
    append(&mut table, 2, batch(0, 10, 0));
    assert_eq!(table.check(stamp(3, 10), 1, 0), Err(SequenceError::OutOfSequence { expected: 0 }));
    assert_eq!(table.check(stamp(3, 0), 10, 0), Ok(Place::Next), "the same sequences are no repeat");
    append(&mut table, 3, batch(0, 1, 10));
    assert_eq!(table.check(stamp(2, 0), 10, 0), Err(SequenceError::Fenced { current: 3 }));
    assert_eq!(table.check(stamp(3, 1), 9, 0), Ok(Place::Next), "what the earlier epoch sent is forgotten");
}

#[test]
fn who_was_idle_for_long_begins_anew() {
    let mut table = ProducerTable::default();
    append(&mut table, 0, batch(0, 5, 0));
    let last_ms = PRODUCER_IDLE_MS_MAX.cast_signed();
    assert_eq!(table.check(stamp(0, 5), 1, last_ms), Ok(Place::Next));
    assert_eq!(table.check(stamp(0, 5), 1, last_ms + 1), Err(SequenceError::Unknown));
    assert_eq!(table.check(stamp(0, 0), 5, last_ms + 1), Ok(Place::Next));
    append(&mut table, 0, RememberedBatch { append_time_ms: last_ms + 1, ..batch(0, 3, 9) });
    assert_eq!(table.check(stamp(0, 0), 5, last_ms + 1), Err(SequenceError::OutOfSequence { expected: 3 }));
}

#[test]
fn the_longest_idle_makes_room() {
    let mut table = ProducerTable::default();
    let most = PRODUCERS_PER_PARTITION_MAX as u64;
    for id in 1..=most {
        table.apply(ProducerId(id), 0, RememberedBatch { append_time_ms: id.cast_signed(), ..batch(0, 1, id) });
    }
    table.keep();
    table.apply(ProducerId(1), 0, RememberedBatch { append_time_ms: 1 << 20, ..batch(1, 1, most + 1) });
    table.keep();
    table.apply(ProducerId(most + 1), 0, RememberedBatch { append_time_ms: 1 << 20, ..batch(0, 1, most + 2) });
    assert_eq!(table.len(), PRODUCERS_PER_PARTITION_MAX);
    let second = ProducerStamp { id: ProducerId(2), epoch: 0, base_sequence: 1 };
    assert_eq!(table.check(second, 1, 1 << 20), Err(SequenceError::Unknown));
    table.undo();
    assert_eq!(table.check(second, 1, 1 << 20), Ok(Place::Next), "a write that failed has pushed nobody out");
}

/// What the log holds of each producer: epoch, then base sequence, count and offset of every batch.
type Model = BTreeMap<u64, (u16, Vec<(u32, u32, u64)>)>;

proptest! {
    #[test]
    fn the_table_says_what_a_list_of_all_batches_says(
        steps in proptest::collection::vec((1_u64..4, 0_u16..3, 0_u32..12, 1_u32..4, any::<bool>()), 1..80),
    ) {
        let mut table = ProducerTable::default();
        let mut model = Model::new();
        let mut offset = 0;
        for (id, epoch, base_sequence, count, written) in steps {
            let stamp = ProducerStamp { id: ProducerId(id), epoch, base_sequence };
            let expected = expect(&model, stamp, count);
            prop_assert_eq!(table.check(stamp, count, 0), expected);
            if expected != Ok(Place::Next) {
                continue;
            }
            table.apply(stamp.id, epoch, batch(base_sequence, count, offset));
            if !written {
                table.undo();
                continue;
            }
            table.keep();
            let known = model.entry(id).or_default();
            if known.0 != epoch {
                *known = (epoch, Vec::new());
            }
            known.1.push((base_sequence, count, offset));
            offset += u64::from(count);
        }
    }
}

fn expect(model: &Model, stamp: ProducerStamp, count: u32) -> Result<Place, SequenceError> {
    let begins = stamp.base_sequence == 0;
    let Some((epoch, batches)) = model.get(&stamp.id.0) else {
        return if begins { Ok(Place::Next) } else { Err(SequenceError::Unknown) };
    };
    if stamp.epoch < *epoch {
        return Err(SequenceError::Fenced { current: *epoch });
    }
    if stamp.epoch > *epoch {
        return if begins { Ok(Place::Next) } else { Err(SequenceError::OutOfSequence { expected: 0 }) };
    }
    let expected: u32 = batches.iter().map(|(_, count, _)| count).sum();
    if stamp.base_sequence == expected {
        return Ok(Place::Next);
    }
    let last = batches.iter().rev().take(BATCHES_REMEMBERED);
    // A longer batch with the same end is one whose beginning was left out; this model leaves nothing out, so whatever
    // ends there and begins no later is that batch.
    let end = stamp.base_sequence + count;
    let found = last.rev().find(|(base, len, _)| base + len == end && *base >= stamp.base_sequence);
    match found {
        Some((base, len, offset)) => Ok(Place::Repeat(batch(*base, *len, *offset))),
        None => Err(SequenceError::OutOfSequence { expected }),
    }
}
