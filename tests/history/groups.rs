//! What groups were given to read, what came to them, and how far they committed.

use super::checker::Counts;
use super::logs::Logs;
use super::{Anomaly, Batch, Event};
use std::collections::{BTreeMap, HashMap};

/// All groups of a history.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_number: BTreeMap<u16, Group>,
    streams: HashMap<u32, Stream>,
    downs: u32,
    pub(super) counts: Counts,
}

#[derive(Debug, Default)]
struct Group {
    /// Commits that were asked for, the highest of each log.
    asked: BTreeMap<u16, u64>,
    /// Commits that were confirmed.
    done: BTreeMap<u16, u64>,
    /// Those that were when the committed offsets were last asked for, or found then.
    audited: BTreeMap<u16, u64>,
    generation: u64,
    /// Who read a log in a generation.
    owners: HashMap<(u16, u64), u32>,
}

#[derive(Debug)]
struct Stream {
    group: u16,
    opened_after: u32,
    /// What had been confirmed, and the generation, when it joined.
    done: BTreeMap<u16, u64>,
    generation: u64,
    /// The next offset of each log it was given.
    positions: HashMap<u16, u64>,
}

type Found<'a> = &'a mut dyn FnMut(Anomaly);

impl Groups {
    pub(super) fn take(&mut self, event: &Event, logs: &mut Logs, found: Found<'_>) {
        match event {
            Event::Down | Event::Cut => self.downs += 1,
            Event::Opened { stream, group } => {
                let state = self.by_number.entry(*group).or_default();
                let (done, generation) = (state.done.clone(), state.generation);
                let positions = HashMap::new();
                let opened = Stream { group: *group, opened_after: self.downs, done, generation, positions };
                self.streams.insert(*stream, opened);
            }
            Event::Assigned { stream, log, generation, offset } => {
                self.assign(*stream, *log, *generation, *offset, logs, found);
            }
            Event::Revoked { stream, log } => {
                self.streams.get_mut(stream).map(|stream| stream.positions.remove(log));
            }
            Event::Polled { stream, log, batches } => self.poll(*stream, *log, batches, logs, found),
            Event::CommitAsked { group, log, offset } => {
                raise(&mut self.by_number.entry(*group).or_default().asked, *log, *offset);
            }
            Event::CommitDone { group, log, offset } => {
                self.counts.commits += 1;
                raise(&mut self.by_number.entry(*group).or_default().done, *log, *offset);
            }
            Event::CommitsAsked { group } => {
                let group = self.by_number.entry(*group).or_default();
                let done = group.done.clone();
                for (log, offset) in done {
                    raise(&mut group.audited, log, offset);
                }
            }
            Event::Committed { group, log, offset } => self.committed(*group, *log, *offset, logs, found),
            _ => {}
        }
    }

    fn assign(&mut self, stream: u32, log: u16, generation: u64, offset: u64, logs: &mut Logs, found: Found<'_>) {
        let reader = self.streams.get_mut(&stream).expect("a stream is opened first");
        let number = reader.group;
        let group = self.by_number.get_mut(&number).expect("so is its group");
        if generation <= reader.generation {
            let (group, log, before) = (number, logs.name(log), reader.generation);
            found(Anomaly::GenerationWentBack { group, log, before, generation });
        }
        group.generation = group.generation.max(generation);
        let one = *group.owners.entry((log, generation)).or_insert(stream);
        if one != stream {
            found(Anomaly::TwoOwners { group: number, log: logs.name(log), generation, one, other: stream });
        }
        // While the broker lives, whoever had the log before has committed before it was given to this stream. A
        // stream of a broker that is gone may be heard late, when others have committed to the next one.
        let confirmed = if reader.opened_after == self.downs { &group.done } else { &reader.done };
        let committed = confirmed.get(&log).copied().unwrap_or_default();
        if offset < committed {
            let (group, log) = (number, logs.name(log));
            found(Anomaly::CommitWentBack { group, log, committed, found: Some(offset) });
        }
        // Beyond everything committed, only a log that starts there explains it.
        let asked = group.asked.get(&log).copied().unwrap_or_default();
        if offset > asked {
            logs.skip(stream, log, asked, offset, found);
        }
        reader.positions.insert(log, offset);
    }

    fn poll(&mut self, stream: u32, log: u16, batches: &[Batch], logs: &mut Logs, found: Found<'_>) {
        let reader = self.streams.get_mut(&stream).expect("a stream is opened first");
        let Some(position) = reader.positions.get_mut(&log) else {
            found(Anomaly::NotAssigned { stream, log: logs.name(log) });
            return;
        };
        for batch in batches {
            self.counts.polled += batch.records.len() as u64;
            if batch.base < *position {
                let (log, expected) = (logs.name(log), *position);
                found(Anomaly::ReadTwice { stream, log, expected, found: batch.base });
            } else if batch.base > *position {
                logs.skip(stream, log, *position, batch.base, found);
            }
            *position = batch.end();
        }
    }

    fn committed(&mut self, number: u16, log: u16, offset: Option<u64>, logs: &Logs, found: Found<'_>) {
        let group = self.by_number.entry(number).or_default();
        let committed = group.audited.get(&log).copied().unwrap_or_default();
        if offset.unwrap_or_default() < committed {
            let log = logs.name(log);
            found(Anomaly::CommitWentBack { group: number, log, committed, found: offset });
        }
        let asked = group.asked.get(&log).copied().unwrap_or_default();
        if let Some(offset) = offset {
            if offset > asked {
                found(Anomaly::CommitInvented { group: number, log: logs.name(log), asked, found: offset });
            }
            raise(&mut group.audited, log, offset);
        }
    }
}

fn raise(offsets: &mut BTreeMap<u16, u64>, log: u16, offset: u64) {
    let known = offsets.entry(log).or_default();
    *known = offset.max(*known);
}
