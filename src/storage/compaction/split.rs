//! A batch with holes becomes several frames, one for each run of records that stay.
//!
//! A frame covers the offsets from its base offset to `last_offset_delta` above it, and its records have the first of
//! them. So what was compacted away behind a run is told by the frame of that run; what was compacted away at the
//! beginning of a segment, with no frame before it, is a frame without records. Gaps that meet become one.

use crate::storage::compaction::plan::Verdict;
use crate::storage::frame::FrameHeader;
use crate::types::{Offset, TimestampMs, record_set};
use bytes::Bytes;

/// A frame to be written.
pub(super) type NewFrame = (FrameHeader, Bytes);

/// Turns frames as they are into frames as they will be.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// The last frame: what is compacted away behind it will be told by it.
    held: Option<NewFrame>,
    /// Records that went.
    pub(super) removed_records: u64,
    /// Tombstones that stayed and will go.
    pub(super) tombstones: u64,
}

/// Records of one frame that stay, with neighbouring offsets.
struct Run {
    first: u32,
    count: u32,
    bytes: std::ops::Range<usize>,
    max_record_time_ms: TimestampMs,
}

impl Splitter {
    /// Takes the next frame; gives those that are finished by it. `Err` says what is wrong with a payload that is not
    /// what its header says.
    pub(super) fn push(
        &mut self,
        header: &FrameHeader,
        payload: &Bytes,
        verdict: &Verdict,
    ) -> Result<Vec<NewFrame>, &'static str> {
        let mut finished = Vec::new();
        if header.record_count > 0 && header.check_readable().is_err() {
            // Of another broker, or another kind: what is in it is not for us to judge.
            finished.extend(self.held.replace((*header, payload.clone())));
            return Ok(finished);
        }
        let runs = self.runs(header, payload, verdict)?;
        let first = runs.first().map_or(header.last_offset_delta + 1, |run| run.first);
        if first > 0 {
            self.skip(header, first);
        }
        for (i, run) in runs.iter().enumerate() {
            let until = runs.get(i + 1).map_or(header.last_offset_delta + 1, |next| next.first);
            let new_header = FrameHeader {
                base_offset: header.base_offset.advance(run.first.into()),
                record_count: run.count,
                last_offset_delta: until - run.first - 1,
                max_record_time_ms: run.max_record_time_ms,
                // A sequence is that of a first record: where that one is gone, so is what the frame says of its sender.
                producer: header.producer.filter(|_| run.first == 0),
                ..*header
            };
            finished.extend(self.held.replace((new_header, payload.slice(run.bytes.clone()))));
        }
        Ok(finished)
    }

    /// The last frame.
    pub(super) fn finish(&mut self) -> Option<NewFrame> {
        self.held.take()
    }

    fn runs(&mut self, header: &FrameHeader, payload: &Bytes, verdict: &Verdict) -> Result<Vec<Run>, &'static str> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut number, mut start) = (0_u32, 0);
        for record in record_set::outlines(payload) {
            let offset = header.base_offset.advance(number.into());
            let time_ms = record.timestamp.unwrap_or(header.append_time_ms);
            if verdict.keeps(offset, record.key, record.is_tombstone) {
                self.tombstones += u64::from(record.is_tombstone && verdict.may_drop_later(offset, record.key));
                if let Some(run) = runs.last_mut().filter(|run| run.first + run.count == number) {
                    run.count += 1;
                    run.bytes.end = record.end;
                    run.max_record_time_ms = run.max_record_time_ms.max(time_ms);
                } else {
                    let bytes = start..record.end;
                    runs.push(Run { first: number, count: 1, bytes, max_record_time_ms: time_ms });
                }
            } else {
                self.removed_records += 1;
            }
            (number, start) = (number + 1, record.end);
        }
        let is_whole = number == header.record_count && start == payload.len();
        let covers_all = u64::from(header.record_count) <= u64::from(header.last_offset_delta) + 1;
        if is_whole && covers_all {
            Ok(runs)
        } else {
            Err("the payload does not hold the records that its header says")
        }
    }

    /// The first `count` offsets of `header` are compacted away.
    fn skip(&mut self, header: &FrameHeader, count: u32) {
        if let Some((held, _)) = &mut self.held {
            held.last_offset_delta += count;
            held.durable_mark = held.durable_mark.max(header.durable_mark);
            return;
        }
        let gap = FrameHeader {
            record_count: 0,
            last_offset_delta: count - 1,
            max_record_time_ms: header.append_time_ms,
            producer: None,
            ..*header
        };
        self.held = Some((gap, Bytes::new()));
    }
}

/// The offset after everything that `frame` covers.
pub(super) fn next_offset(frame: &NewFrame) -> Offset {
    frame.0.next_offset()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::compaction::key_map::KeyMap;
    use crate::storage::frame::{FORMAT_RECORD_SET, HEADER_BYTES};
    use crate::types::record_set::encode_record;
    use crate::types::{ProducerId, ProducerStamp};
    use bytes::BytesMut;

    /// Offset, records, covered offsets, whether the producer is known.
    type Shape = (u64, u32, u32, bool);

    fn frame(base_offset: u64, keys: &str) -> NewFrame {
        let mut set = BytesMut::new();
        for key in keys.bytes() {
            encode_record(&mut set, Some(&[key]), Some(b"v"), std::iter::empty(), Some(i64::from(key)));
        }
        let count = u32::try_from(keys.len()).expect("small");
        let header = FrameHeader {
            attributes: FORMAT_RECORD_SET,
            base_offset: Offset(base_offset),
            record_count: count,
            last_offset_delta: count - 1,
            append_time_ms: 7,
            max_record_time_ms: 255,
            leader_epoch: 0,
            producer: Some(ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence: 5 }),
            durable_mark: Offset(base_offset),
        };
        (header, set.freeze())
    }

    fn split(frames: &[NewFrame]) -> (Vec<NewFrame>, Splitter) {
        let mut keys = KeyMap::new(100);
        for (header, payload) in frames {
            for (i, record) in (0..).zip(record_set::outlines(payload)) {
                keys.note(record.key.expect("all have one"), header.base_offset.advance(i));
            }
        }
        let verdict = Verdict { keys, below: Offset(99), tombstones_below: Offset(0), end: Offset(99) };
        let mut splitter = Splitter::default();
        let mut written = Vec::new();
        for (header, payload) in frames {
            written.extend(splitter.push(header, payload, &verdict).expect("valid"));
        }
        written.extend(splitter.finish());
        (written, splitter)
    }

    fn shapes(frames: &[NewFrame]) -> Vec<Shape> {
        let shape = |(header, _): &NewFrame| {
            (header.base_offset.0, header.record_count, header.last_offset_delta + 1, header.producer.is_some())
        };
        frames.iter().map(shape).collect()
    }

    #[test]
    fn runs_become_frames_and_gaps_belong_to_the_frame_before_them() {
        let (written, splitter) = split(&[frame(0, "abxcx"), frame(5, "x"), frame(6, "xxd")]);
        assert_eq!(shapes(&written), [(0, 2, 3, true), (3, 1, 4, false), (7, 2, 2, false)]);
        assert_eq!(splitter.removed_records, 4);
        assert_eq!(written[0].0.max_record_time_ms, i64::from(b'b'), "the time is that of the records left");
        assert_eq!(written[1].0.durable_mark, Offset(6), "the latest mark of what went into it");
    }

    #[test]
    fn a_gap_at_the_beginning_is_one_frame_without_records() {
        let (written, _) = split(&[frame(0, "xx"), frame(2, "x"), frame(3, "ax")]);
        assert_eq!(shapes(&written), [(0, 0, 3, false), (3, 2, 2, true)]);
        let (again, _) = split(&written);
        assert_eq!(again, written, "what is clean stays as it is");
    }

    #[test]
    fn a_payload_that_is_not_what_its_header_says_is_refused() {
        let (header, payload) = frame(0, "ab");
        let verdict = Verdict { keys: KeyMap::new(1), below: Offset(0), tombstones_below: Offset(0), end: Offset(9) };
        for lie in [FrameHeader { record_count: 1, ..header }, FrameHeader { last_offset_delta: 0, ..header }] {
            assert!(Splitter::default().push(&lie, &payload, &verdict).is_err(), "{lie:?}");
        }
    }

    /// The figures of `docs/decisions/0011-compaction-splits-batches.md`, and their bound: `cargo test --lib
    /// what_splitting_costs -- --nocapture`.
    #[test]
    fn what_splitting_costs() {
        const RECORDS: u64 = 20_000;
        const BATCH: u64 = 500;
        for value_bytes in [20_usize, 100, 1000] {
            for kept_percent in [1_u64, 10, 50, 90, 99] {
                let mut random = 88_172_645_463_325_252_u64;
                let mut keys = KeyMap::new(100_000);
                let mut frames = Vec::new();
                for batch in 0..RECORDS / BATCH {
                    let mut set = BytesMut::new();
                    for offset in batch * BATCH..(batch + 1) * BATCH {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let key = format!("{offset:08}");
                        let value = vec![b'v'; value_bytes];
                        encode_record(&mut set, Some(key.as_bytes()), Some(&value), std::iter::empty(), None);
                        let is_last = random % 100 < kept_percent;
                        keys.note(key.as_bytes(), Offset(if is_last { offset } else { RECORDS }));
                    }
                    let (header, _) = frame(batch * BATCH, "x");
                    let count = u32::try_from(BATCH).expect("small");
                    let header = FrameHeader { record_count: count, last_offset_delta: count - 1, ..header };
                    frames.push((header, set.freeze()));
                }
                let verdict =
                    Verdict { keys, below: Offset(RECORDS), tombstones_below: Offset(0), end: Offset(RECORDS) };
                let mut splitter = Splitter::default();
                let mut written = Vec::new();
                for (header, payload) in &frames {
                    written.extend(splitter.push(header, payload, &verdict).expect("valid"));
                }
                written.extend(splitter.finish());
                let record_bytes = frames[0].1.len() / usize::try_from(BATCH).expect("small");
                let before: usize = frames.iter().map(|(_, payload)| HEADER_BYTES + payload.len()).sum();
                let payload: usize = written.iter().map(|(_, payload)| payload.len()).sum();
                let headers = HEADER_BYTES * written.len();
                println!(
                    "records of {record_bytes} bytes, {kept_percent} % stay: {} % of the bytes, {} % headers",
                    (payload + headers) * 100 / before,
                    headers * 100 / before
                );
                let quarter = usize::try_from(RECORDS).expect("small") / 4;
                assert!(written.len() <= quarter + quarter / 10, "a run takes a record that stays and one that goes");
            }
        }
    }
}
