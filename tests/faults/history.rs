//! What was asked of a broker and what it acknowledged, each at a moment; and what must, and may, therefore be there
//! when the disk is looked at as of some moment.
//!
//! A moment is a number that grows with what reaches the disk. What was acknowledged at or before the moment of a cut
//! is promised; what was asked for before it is possible; everything else was never there.

use super::lines::key_of;
use super::observed::{Observed, Partition};
use millstream::types::Durability;
use std::collections::BTreeMap;

/// When something was asked for, and when it was acknowledged, if it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) asked: u64,
    pub(crate) acked: Option<u64>,
}

impl Span {
    fn is_promised(self, cut: u64) -> bool {
        self.acked.is_some_and(|acked| acked <= cut)
    }

    fn is_possible(self, cut: u64) -> bool {
        self.asked < cut
    }
}

/// A topic from its creation to its deletion. Names come back, lives do not.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) name: String,
    pub(crate) partitions: u32,
    /// Retention deletes its oldest records, nobody knows when.
    pub(crate) expires: bool,
    /// Compaction deletes records whose key has a later one.
    pub(crate) compacts: bool,
    pub(crate) created: Span,
    pub(crate) deleted: Option<Span>,
}

/// A record; its number is its place in [`History::sends`].
#[derive(Debug)]
pub(crate) struct Send {
    pub(crate) life: usize,
    pub(crate) partition: u32,
    pub(crate) len: usize,
    pub(crate) span: Span,
    /// Where it was acknowledged, and as what.
    pub(crate) ack: Option<(u64, Durability)>,
    /// It was refused, with the word that nothing was done.
    pub(crate) refused: bool,
}

/// The offset of something in a partition: records deleted before it, or committed.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) life: usize,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) span: Span,
}

/// Everything that was asked.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) lives: Vec<Life>,
    pub(crate) sends: Vec<Send>,
    pub(crate) deletions: Vec<Mark>,
    pub(crate) commits: Vec<Mark>,
}

/// What is right and wrong with what a broker serves.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// Promised records that were found.
    pub(crate) checked: u64,
    /// Broken promises.
    pub(crate) broken: Vec<String>,
    /// Partitions that do not serve, or a broker that does not start.
    pub(crate) refused: Vec<String>,
}

impl History {
    /// Compares what is served with what must and may be there as of `cut`.
    pub(crate) fn judge(&self, observed: &Observed, cut: u64) -> Judgement {
        let mut judgement = Judgement::default();
        for (number, life) in self.lives.iter().enumerate() {
            let may_be_gone = life.deleted.is_some_and(|deleted| deleted.is_possible(cut));
            let is_gone = life.deleted.is_some_and(|deleted| deleted.is_promised(cut));
            let shown = observed.topics.get(&life.name).filter(|_| life.created.is_possible(cut) && !is_gone);
            match shown {
                None if life.created.is_promised(cut) && !may_be_gone => {
                    judgement.broken.push(format!("topic {} is gone", life.name));
                }
                None => {}
                Some(partitions) if partitions.len() != life.partitions as usize => {
                    judgement.broken.push(format!("topic {} has {} partitions", life.name, partitions.len()));
                }
                Some(partitions) => {
                    for (partition, shown) in (0..).zip(partitions) {
                        self.judge_partition(number, partition, shown, cut, &mut judgement);
                    }
                }
            }
        }
        let known =
            |life: &Life| life.created.is_possible(cut) && !life.deleted.is_some_and(|end| end.is_promised(cut));
        let invented = |name: &&String| !self.lives.iter().any(|life| life.name == **name && known(life));
        let invented = observed.topics.keys().filter(invented);
        judgement.broken.extend(invented.map(|name| format!("topic {name} should not be there")));
        self.judge_commits(observed, cut, &mut judgement);
        judgement
    }

    fn judge_partition(&self, life: usize, partition: u32, shown: &Partition, cut: u64, judgement: &mut Judgement) {
        let Life { name, expires, compacts, .. } = &self.lives[life];
        let name = format!("{name}/{partition}");
        let (log_start, end, records) = match shown {
            Partition::Refused(why) => return judgement.refused.push(format!("{name}: {why}")),
            Partition::Serves { log_start, end, records } => (*log_start, *end, records),
        };
        let here = |mark: &&Mark| (mark.life, mark.partition) == (life, partition);
        let (least, most) = bounds(self.deletions.iter().filter(here), cut);
        if log_start < least || (log_start > most && !expires) {
            let asked = format!("deletions were acknowledged up to {least} and asked for up to {most}");
            judgement.broken.push(format!("{name} begins at {log_start}; {asked}"));
        }
        let is_dense = (log_start..end).eq(records.iter().map(|record| record.offset));
        if !is_dense && !compacts {
            judgement.broken.push(format!("{name} has gaps from {log_start} to {end}: {} records", records.len()));
        }
        for record in records {
            let send = self.sends.get(record.line as usize);
            let is_right = send.is_some_and(|send| {
                (send.life, send.partition, send.len) == (life, partition, record.len)
                    && send.span.is_possible(cut)
                    && !send.refused
                    && send.ack.is_none_or(|(acked, _)| acked == record.offset)
            });
            if !is_right {
                judgement.broken.push(format!("{name} has {record:?}: {send:?}"));
            }
        }
        let served: BTreeMap<u64, u32> = records.iter().map(|record| (record.offset, record.line)).collect();
        for (line, send) in (0..).zip(&self.sends) {
            let (true, true, Some((offset, Durability::Synced))) =
                ((send.life, send.partition) == (life, partition), send.span.is_promised(cut), send.ack)
            else {
                continue;
            };
            let replaced = |offset| served.range(offset..).any(|(_, later)| key_of(*later) == key_of(line));
            match served.get(&offset) {
                Some(found) if *found == line => judgement.checked += 1,
                None if offset < log_start || (*compacts && replaced(offset)) => {}
                found => {
                    let what = format!("line {line} was acknowledged at offset {offset}, where {found:?} is");
                    judgement.broken.push(format!("{name}, {log_start} to {end}: {what}"));
                }
            }
        }
    }

    fn judge_commits(&self, observed: &Observed, cut: u64, judgement: &mut Judgement) {
        let mut marks: BTreeMap<(usize, u32), Vec<&Mark>> = BTreeMap::new();
        for mark in &self.commits {
            marks.entry((mark.life, mark.partition)).or_default().push(mark);
        }
        for ((life, partition), marks) in marks {
            let life = &self.lives[life];
            let (least, most) = bounds(marks.into_iter(), cut);
            let shown = observed.commits.get(&(life.name.clone(), partition)).copied();
            let may_be_gone = life.deleted.is_some_and(|deleted| deleted.is_possible(cut));
            if !may_be_gone && !(least..=most).contains(&shown.unwrap_or(0)) {
                let said = format!("{least} was acknowledged and {most} asked for");
                judgement.broken.push(format!("the group is at {shown:?} in {}/{partition}; {said}", life.name));
            }
        }
    }
}

/// The highest offset that was acknowledged, and the highest that was asked for.
fn bounds<'a>(marks: impl Iterator<Item = &'a Mark>, cut: u64) -> (u64, u64) {
    marks.filter(|mark| mark.span.is_possible(cut)).fold((0, 0), |(least, most), mark| {
        let promised = if mark.span.is_promised(cut) { mark.offset } else { 0 };
        (least.max(promised), most.max(mark.offset))
    })
}
