//! Giving letters up: they are resolved, and their records stay.

use super::scan::LetterScan;
use super::selection::LetterSelection;
use super::{LetterWork, STEP_LETTERS_MAX};
use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::queue::{PartitionKey, QueueCoordinator};
use crate::types::Offset;
use std::ops::Range;

/// Letters that are given up.
#[derive(Debug)]
pub struct Purge {
    scan: LetterScan,
    queues: QueueCoordinator,
    left: u64,
    purged: u64,
    dry_run: bool,
    _work: Option<LetterWork>,
}

/// What a step has done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    /// Letters that are resolved now, and were not.
    pub letters: u64,
    /// Offsets that could not be read; they stay open.
    pub unreadable: u64,
}

impl Broker {
    /// Begins to give letters up, `letters_max` at most.
    pub async fn purge_letters(
        &self,
        selection: LetterSelection,
        letters_max: u64,
        dry_run: bool,
    ) -> Result<Purge, BrokerError> {
        let scan = self.scan_letters(selection.clone(), false).await?;
        let entry = scan.table_entry();
        let work = (!dry_run).then(|| self.letters_at_work.begin(&entry.name, entry.entry.id)).transpose()?;
        let scan = if work.is_some() { self.scan_letters(selection, false).await? } else { scan };
        Ok(Purge {
            scan,
            queues: self.queue_coordinator()?.clone(),
            left: letters_max,
            purged: 0,
            dry_run,
            _work: work,
        })
    }
}

impl Purge {
    /// Takes one step; not to be interrupted. `None`: there is no more to do.
    pub async fn step(&mut self) -> Result<Option<Purged>, BrokerError> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.left == u64::MAX && self.scan.selection().is_of_offsets() {
            return self.step_partition().await;
        }
        let most = STEP_LETTERS_MAX.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(found) = self.scan.next(most).await? else { return Ok(None) };
        let letters = found.letters.len() as u64;
        let meant = found.letters.iter().map(|letter| letter.offset..letter.offset.advance(1));
        let ranges = if letters == 0 { Vec::new() } else { found.absent.iter().cloned().chain(meant).collect() };
        self.resolve(ranges).await?;
        self.left = self.left.saturating_sub(letters);
        self.purged += letters;
        Ok(Some(Purged { letters, unreadable: found.unreadable }))
    }

    /// All of a partition at once: nothing has to be read.
    async fn step_partition(&mut self) -> Result<Option<Purged>, BrokerError> {
        let Some(lane) = self.scan.lane_mut() else { return Ok(None) };
        let all = lane.next..lane.end.max(lane.next);
        let letters = all.end.records_since(all.start) - lane.resolved.count_within(all.clone());
        self.resolve(vec![all]).await?;
        self.scan.end_lane();
        self.purged += letters;
        Ok(Some(Purged { letters, unreadable: 0 }))
    }

    async fn resolve(&mut self, ranges: Vec<Range<Offset>>) -> Result<(), BrokerError> {
        let (name, topic_id) = (self.scan.topic().clone(), self.scan.table_entry().entry.id);
        let Some(lane) = self.scan.lane_mut() else { return Ok(()) };
        if self.dry_run || ranges.iter().all(Range::is_empty) {
            return Ok(());
        }
        let at = PartitionKey { topic_id, partition: lane.number };
        Ok(self.queues.resolve_letters(name, at, ranges).await?)
    }
}

impl Drop for Purge {
    fn drop(&mut self) {
        if !self.dry_run {
            tracing::info!(topic = %self.scan.topic(), letters = self.purged, "a purge of dead letters has ended");
        }
    }
}
