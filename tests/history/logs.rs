//! What is known of each offset of each log, and of each record.
//!
//! An offset is known by three kinds of evidence: its record was acknowledged there, came to a reader, or was found by
//! an audit. All evidence of an offset must name one record. What was known of a log when its broker went down must be
//! there, unless a deletion explains that it is not, whenever the log is audited again.

use super::checker::Counts;
use super::event::Delivered;
use super::payload::key_of;
use super::{Anomaly, Batch, Event, RecordId, Rule};
use std::collections::{HashMap, HashSet};

/// All logs and records of a history.
#[derive(Debug, Default)]
pub(super) struct Logs {
    by_number: Vec<Log>,
    producers: Vec<Producer>,
    records: Vec<Record>,
    /// How often the broker went down, or its connections were cut.
    breaks: u32,
    pub(super) counts: Counts,
}

#[derive(Debug)]
struct Producer {
    topic: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Idempotent,
    /// Its records come in an order of their own, and their copies are judged elsewhere.
    Scheduler,
}

#[derive(Debug)]
struct Record {
    producer: u16,
    /// Breaks before it was sent.
    sent_after: u32,
    outcome: Outcome,
    /// Copies that audits have met.
    copies: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Open,
    /// After so many breaks.
    Acked(u32),
    Unknown,
    Refused,
}

/// How a reader or a producer knows what is at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    Acked,
    Polled,
    Audited,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    record: Option<RecordId>,
    acked: bool,
    read: bool,
}

#[derive(Debug)]
struct Log {
    name: String,
    topic: String,
    rule: Rule,
    cells: Vec<Cell>,
    /// Offsets below were there when the broker last went down.
    must_reach: u64,
    /// Offsets below were judged for copies and order.
    scanned: u64,
    /// Records were deleted before they were judged.
    has_unjudged: bool,
    /// The last record of each producer among those.
    last_of: HashMap<u16, RecordId>,
    /// Dead letters that were sent back. What they mean is judged elsewhere: here they are nobody's copies.
    came_back: HashSet<u64>,
    delete_asked: u64,
    delete_done: u64,
    /// As last audited.
    start: u64,
    /// Stream, from, to: a reader was sent on. Retention must turn out to have come so far, or compaction to have
    /// removed what is between.
    skips: Vec<(u32, u64, u64)>,
}

type Found<'a> = &'a mut dyn FnMut(Anomaly);

impl Logs {
    pub(super) fn take(&mut self, event: &Event, found: Found<'_>) {
        match event {
            Event::Log { log, topic, partition, rule } => {
                assert_eq!(usize::from(*log), self.by_number.len(), "logs are numbered in order");
                self.by_number.push(Log::new(topic, *partition, *rule));
            }
            Event::Producer { producer, topic, idempotent } => {
                assert_eq!(usize::from(*producer), self.producers.len(), "producers are numbered in order");
                let kind = if *idempotent { Kind::Idempotent } else { Kind::Plain };
                self.producers.push(Producer { topic: topic.clone(), kind });
            }
            Event::Scheduler { producer, topic } => {
                assert_eq!(usize::from(*producer), self.producers.len(), "producers are numbered in order");
                self.producers.push(Producer { topic: topic.clone(), kind: Kind::Scheduler });
            }
            Event::Sent { producer, first, count } => {
                assert_eq!(*first as usize, self.records.len(), "records are numbered in order");
                let (sent_after, outcome) = (self.breaks, Outcome::Open);
                let new = || Record { producer: *producer, sent_after, outcome, copies: 0 };
                self.records.extend(std::iter::repeat_with(new).take(*count as usize));
            }
            Event::Acked { first, count, log, offset } => {
                self.counts.acked += u64::from(*count);
                for (record, offset) in (*first..*first + count).zip(*offset..) {
                    self.records[record as usize].outcome = Outcome::Acked(self.breaks);
                    self.learn(*log, offset, Some(record), Evidence::Acked, found);
                }
            }
            Event::Refused { first, count, certain } => {
                let outcome = if *certain { Outcome::Refused } else { Outcome::Unknown };
                (*first..*first + count).for_each(|record| self.records[record as usize].outcome = outcome);
            }
            Event::Scheduled { record, .. } => self.records[*record as usize].outcome = Outcome::Acked(self.breaks),
            Event::CameBack { log, offset, .. } => {
                self.by_number[usize::from(*log)].came_back.insert(*offset);
            }
            Event::DeleteAsked { log, before } => {
                let log = &mut self.by_number[usize::from(*log)];
                log.delete_asked = log.delete_asked.max(*before);
            }
            Event::DeleteDone { log, start } => {
                let log = &mut self.by_number[usize::from(*log)];
                log.delete_done = log.delete_done.max(*start);
            }
            Event::Polled { log, batches, .. } => self.learn_all(*log, batches, Evidence::Polled, found),
            Event::Received(Delivered { log, offset, record, .. }) => {
                self.learn(*log, *offset, *record, Evidence::Polled, found);
            }
            Event::Cut => self.breaks += 1,
            Event::Down => {
                self.breaks += 1;
                self.by_number.iter_mut().for_each(|log| log.must_reach = log.cells.len() as u64);
            }
            Event::Audited { log, start, end, bytes, batches } => {
                self.audit(*log, *start..*end, *bytes, batches, found);
            }
            Event::Offline { log, why } => found(Anomaly::Offline { log: self.name(*log), why: why.clone() }),
            Event::Finished => self.finish(found),
            _ => {}
        }
    }

    pub(super) fn name(&self, log: u16) -> String {
        self.by_number[usize::from(log)].name.clone()
    }

    /// The record that is known to be at an offset.
    pub(super) fn record_at(&self, log: u16, offset: u64) -> Option<RecordId> {
        let log = self.by_number.get(usize::from(log))?;
        log.cells.get(usize::try_from(offset).ok()?)?.record
    }

    /// The key of the record that is known to be at an offset.
    pub(super) fn key_at(&self, log: u16, offset: u64) -> Option<u32> {
        self.record_at(log, offset).map(key_of)
    }

    /// A reader of a log was sent from one offset to a later one: a deletion must explain it, now or when the log is
    /// audited.
    pub(super) fn skip(&mut self, stream: u32, number: u16, from: u64, to: u64, found: Found<'_>) {
        let log = &mut self.by_number[usize::from(number)];
        if to <= log.delete_asked.max(log.start) {
            return;
        }
        match log.rule {
            Rule::Retain { .. } | Rule::Compact => log.skips.push((stream, from, to)),
            Rule::Keep => found(Anomaly::Skipped { stream, log: log.name.clone(), expected: from, found: to }),
        }
    }

    fn learn_all(&mut self, log: u16, batches: &[Batch], evidence: Evidence, found: Found<'_>) {
        for batch in batches {
            for (offset, record) in (batch.base..).zip(&batch.records) {
                self.learn(log, offset, *record, evidence, found);
            }
        }
    }

    /// Notes what is at an offset, and compares it with what was known.
    fn learn(&mut self, number: u16, offset: u64, id: Option<RecordId>, evidence: Evidence, found: Found<'_>) {
        let log = &mut self.by_number[usize::from(number)];
        let sent = id.and_then(|id| self.records.get(id as usize).map(|record| (id, record)));
        let sent = sent.filter(|(_, record)| self.producers[usize::from(record.producer)].topic == log.topic);
        let Some((id, record)) = sent else {
            found(Anomaly::Invented { log: log.name.clone(), offset });
            return;
        };
        if record.outcome == Outcome::Refused {
            found(Anomaly::RefusedAndThere { log: log.name.clone(), offset, record: id });
        }
        let index = usize::try_from(offset).expect("64-bit");
        if log.cells.len() <= index {
            log.cells.resize(index + 1, Cell::default());
        }
        let cell = &mut log.cells[index];
        match cell.record.filter(|known| *known != id) {
            None => {}
            // The log itself has the last word on what was lost.
            Some(known) if evidence == Evidence::Audited => {
                found(gone(log.name.clone(), offset, Cell { record: Some(known), ..*cell }));
                *cell = Cell::default();
            }
            Some(one) => found(Anomaly::Inconsistent { log: log.name.clone(), offset, one, other: id }),
        }
        cell.record = Some(id);
        cell.acked |= evidence == Evidence::Acked;
        cell.read |= evidence != Evidence::Acked;
    }

    fn audit(&mut self, number: u16, range: std::ops::Range<u64>, bytes: u64, batches: &[Batch], found: Found<'_>) {
        let log = &mut self.by_number[usize::from(number)];
        log.check_start(range.start, bytes, found);
        let mut expected = range.start;
        let last_of_key = log.last_of_key(batches);
        for batch in batches {
            if batch.base != expected {
                log.check_gap(expected, batch.base, &last_of_key, found);
            }
            expected = batch.end();
        }
        // The last record of a log is the last of its key, so this holds for every log.
        if expected != range.end {
            found(Anomaly::Gap { log: log.name.clone(), expected, found: range.end });
        }
        log.check_compacted_away(batches, found);
        // From the end on, nothing may be known that was there before.
        let known_from = usize::try_from(range.end.max(range.start)).expect("64-bit").min(log.cells.len());
        let must_reach = usize::try_from(log.must_reach).expect("64-bit");
        for (offset, cell) in (range.end..).zip(&mut log.cells[known_from..must_reach.max(known_from)]) {
            let cell = std::mem::take(cell);
            if cell.acked || cell.read {
                found(gone(log.name.clone(), offset, cell));
            }
        }
        self.learn_all(number, batches, Evidence::Audited, found);
        self.counts.audited += batches.iter().map(|batch| batch.records.len() as u64).sum::<u64>();
        self.scan(number, range, found);
    }

    /// Judges what was not judged yet for copies and for the order of each producer.
    fn scan(&mut self, number: u16, range: std::ops::Range<u64>, found: Found<'_>) {
        let log = &mut self.by_number[usize::from(number)];
        self.counts.deleted += range.start.saturating_sub(log.start);
        log.start = log.start.max(range.start);
        log.has_unjudged |= range.start > log.scanned;
        for offset in log.scanned.max(range.start)..range.end {
            let cell = log.cells.get(usize::try_from(offset).expect("64-bit"));
            let Some(id) = cell.and_then(|cell| cell.record) else { continue };
            let record = &mut self.records[id as usize];
            let kind = self.producers[usize::from(record.producer)].kind;
            if kind == Kind::Scheduler || log.came_back.contains(&offset) {
                continue;
            }
            record.copies += 1;
            let answered_after = match record.outcome {
                Outcome::Acked(breaks) => breaks,
                _ => self.breaks,
            };
            // It is sent again each time the broker went down, or was out of reach, before it had answered.
            let repeats = if kind == Kind::Idempotent { 0 } else { answered_after - record.sent_after };
            if record.copies == 1 {
                let last = log.last_of.entry(record.producer).or_insert(id);
                // Compaction, or a deletion, may have taken the first copy before anyone looked, and left a later record
                // that was sent with it.
                let may_be_repeated = (log.rule == Rule::Compact || log.has_unjudged) && repeats > 0;
                if *last > id && !may_be_repeated {
                    let (log, behind) = (log.name.clone(), *last);
                    found(Anomaly::Reordered { log, offset, record: id, behind });
                }
                *last = id.max(*last);
                continue;
            }
            self.counts.repeated += 1;
            let most = 1 + repeats;
            if record.copies > most {
                let (log, copies) = (log.name.clone(), record.copies);
                found(Anomaly::Duplicated { log, offset, record: id, copies, most });
            }
        }
        log.scanned = log.scanned.max(range.end);
    }

    fn finish(&mut self, found: Found<'_>) {
        for (id, record) in (0..).zip(&self.records) {
            if record.outcome == Outcome::Open {
                found(Anomaly::NoAnswer { record: id });
            }
        }
        for log in &mut self.by_number {
            for (stream, expected, to) in std::mem::take(&mut log.skips) {
                if to > log.start && log.rule != Rule::Compact {
                    found(Anomaly::Skipped { stream, log: log.name.clone(), expected, found: to });
                }
            }
        }
    }
}

impl Log {
    fn new(topic: &str, partition: u32, rule: Rule) -> Self {
        Self {
            name: format!("{topic}/{partition}"),
            topic: topic.to_owned(),
            rule,
            cells: Vec::new(),
            must_reach: 0,
            scanned: 0,
            has_unjudged: false,
            last_of: HashMap::new(),
            came_back: HashSet::new(),
            delete_asked: 0,
            delete_done: 0,
            start: 0,
            skips: Vec::new(),
        }
    }

    /// Where the last record of each key is, if that matters.
    fn last_of_key(&self, batches: &[Batch]) -> HashMap<u32, u64> {
        if self.rule != Rule::Compact {
            return HashMap::new();
        }
        let records = batches.iter().flat_map(|batch| (batch.base..).zip(&batch.records));
        records.filter_map(|(offset, record)| Some((key_of((*record)?), offset))).collect()
    }

    /// Nothing is missing from a log but what compaction may remove: records with a later one of their key.
    fn check_gap(&self, from: u64, to: u64, last_of_key: &HashMap<u32, u64>, found: Found<'_>) {
        if self.rule != Rule::Compact || to < from {
            return found(Anomaly::Gap { log: self.name.clone(), expected: from, found: to });
        }
        for offset in from..to {
            let cell = usize::try_from(offset).ok().and_then(|index| self.cells.get(index)).copied();
            let Some(Cell { record: Some(record), .. }) = cell else { continue };
            if last_of_key.get(&key_of(record)).is_none_or(|last| *last <= offset) {
                found(gone(self.name.clone(), offset, cell.unwrap_or_default()));
            }
        }
    }

    /// What readers were led past, compaction has removed for good.
    fn check_compacted_away(&mut self, batches: &[Batch], found: Found<'_>) {
        if self.rule != Rule::Compact {
            return;
        }
        for (stream, from, to) in std::mem::take(&mut self.skips) {
            let first = batches.partition_point(|batch| batch.end() <= from);
            if let Some(batch) = batches.get(first).filter(|batch| batch.base < to) {
                let expected = batch.base.max(from);
                found(Anomaly::Skipped { stream, log: self.name.clone(), expected, found: to });
            }
        }
    }

    /// The start of a log moves up, and only where a deletion, or retention, may have moved it.
    fn check_start(&self, start: u64, bytes: u64, found: Found<'_>) {
        let before = self.start.max(self.delete_done);
        let may_retain = matches!(self.rule, Rule::Retain { bytes_min } if bytes >= bytes_min);
        let why = if start < before {
            format!("it had moved up to {before}")
        } else if start > before && start > self.delete_asked && !may_retain {
            format!("no more than {} was to be deleted, and it holds {bytes} bytes", self.delete_asked)
        } else {
            return;
        };
        found(Anomaly::StartMoved { log: self.name.clone(), start, why });
    }
}

fn gone(log: String, offset: u64, cell: Cell) -> Anomaly {
    let record = cell.record;
    if cell.acked { Anomaly::Lost { log, offset, record } } else { Anomaly::DirtyRead { log, offset, record } }
}
