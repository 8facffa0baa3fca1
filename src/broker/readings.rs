//! The state of every partition, group and queue, as metrics want it.

use crate::broker::Broker;
use crate::broker::lag::{Lag, PartitionLag};
use crate::metrics::{
    GroupReading, GroupReadings, GroupTotals, LagReading, OpenFilesReading, PartitionReading, QueueReading,
    QueueTotals, Readings, ScheduleReading,
};
use crate::queue::{BreakerState, Logs as _};
use crate::schedule::Counts;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// How long a page waits for each answer of a coordinator.
const COORDINATOR_PATIENCE: Duration = Duration::from_millis(250);

impl Broker {
    /// Reads the state of everything, now.
    pub async fn readings(&self) -> Readings {
        let files = self.context.open_files.reading();
        let files = OpenFilesReading {
            open: files.open,
            unsynced: files.pinned,
            open_max: files.capacity,
            evictions: files.evictions,
        };
        let coordinators = self.coordinator_readings();
        let mut readings = Readings { coordinators, files, ..Readings::default() };
        for topic in self.topics.all() {
            for (number, state) in (0..).zip(self.partition_states(&topic)) {
                let Ok(state) = state else { continue };
                readings.partitions.push(PartitionReading {
                    topic: topic.name.clone(),
                    partition: number,
                    log_start_offset: state.offsets.log_start.0,
                    high_watermark: state.offsets.high_watermark.0,
                    log_end_offset: state.offsets.log_end.0,
                    log_bytes: state.size.bytes,
                    segments: state.size.segments,
                });
                readings.scrub_damaged_ranges += state.damaged.len() as u64;
            }
        }
        // A coordinator answers when what it has decided is durable. On a disk that hangs the page must come all the
        // same, with groups and queues as they were last seen.
        let (groups, queues) = (self.group_readings().await, self.queue_readings().await);
        let letters = timeout(COORDINATOR_PATIENCE, self.letter_readings()).await.ok().and_then(Result::ok);
        readings.letters = last_known(&self.letter_readings, letters);
        readings.groups = last_known(&self.group_readings, groups);
        (readings.queues, readings.queue_totals) = last_known(&self.queue_readings, queues);
        readings.schedules = last_known(&self.schedule_reading, self.schedule_reading().await);
        readings
    }

    /// `None` if the coordinator does not answer in time.
    async fn queue_readings(&self) -> Option<(Vec<QueueReading>, Vec<QueueTotals>)> {
        let Ok(queues) = self.queue_coordinator() else { return Some(Default::default()) };
        let described = timeout(COORDINATOR_PATIENCE, queues.list(String::new())).await.ok()?;
        let (mut readings, mut totals) = (Vec::new(), Vec::new());
        for queue in described.unwrap_or_default() {
            totals.push(QueueTotals {
                queue: queue.config.name.to_string(),
                delivered: queue.counts.delivered,
                acked: queue.counts.acked,
                failed: queue.counts.failed,
                dead_lettered: queue.counts.dead_lettered,
                filtered: queue.counts.filtered,
                is_paused: queue.config.paused || queue.breaker != BreakerState::Closed,
            });
            for found in queue.partitions {
                let Some(bounds) = self.topics.bounds(&found.topic, found.at) else { continue };
                readings.push(QueueReading {
                    queue: queue.config.name.to_string(),
                    topic: found.topic,
                    partition: found.at.partition,
                    backlog: bounds.high_watermark.records_since(found.frontier.max(bounds.log_start)),
                    leased: found.leased,
                    waiting: found.waiting,
                    available: found.available + found.blocked,
                    dying: found.dying,
                });
            }
        }
        Some((readings, totals))
    }

    /// `None` if the coordinator does not answer in time.
    async fn schedule_reading(&self) -> Option<ScheduleReading> {
        let Ok(schedules) = self.schedules() else { return Some(ScheduleReading::default()) };
        let counts = timeout(COORDINATOR_PATIENCE, schedules.counts()).await.ok()?.unwrap_or_default();
        let Counts { schedules, retrying, delivered, left_out, failed } = counts;
        Some(ScheduleReading { schedules, retrying, delivered, failed, left_out })
    }

    /// `None` if the coordinator does not answer in time.
    async fn group_readings(&self) -> Option<GroupReadings> {
        let (mut readings, mut groups_read) = (Vec::new(), Vec::new());
        let groups = timeout(COORDINATOR_PATIENCE, self.list_groups("")).await.ok()?;
        for group in groups.unwrap_or_default() {
            let described = timeout(COORDINATOR_PATIENCE, self.describe_group(group.name.as_str())).await.ok()?;
            let Ok(described) = described else { continue };
            let total = described.lag;
            let away = described.description.members.iter().filter(|member| member.is_away);
            groups_read.push(GroupTotals {
                group: group.name.to_string(),
                members: described.description.members.len() as u64,
                members_away: away.clone().count() as u64,
                partitions_kept: away.map(|member| member.partitions.len() as u64).sum(),
                is_paused: described.description.summary.is_paused,
                lag: lag_reading(&total),
            });
            for (partition, lag) in described.description.partitions.iter().zip(&described.lags) {
                let (Some(committed), Some(PartitionLag { lag, .. })) = (&partition.committed, lag) else { continue };
                readings.push(GroupReading {
                    group: group.name.to_string(),
                    topic: committed.topic.clone(),
                    partition: committed.partition,
                    committed_offset: committed.offset.0,
                    lag: lag_reading(lag),
                });
            }
        }
        Some(GroupReadings { groups: groups_read, partitions: readings })
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds as seconds for a gauge")]
fn lag_reading(lag: &Lag) -> LagReading {
    let seconds = |ms: u64| ms as f64 / 1_000.0;
    LagReading {
        records: lag.records,
        bytes: lag.bytes,
        span_seconds: lag.span_ms.map(seconds),
        oldest_age_seconds: lag.oldest_age_ms.map(seconds),
        drain_seconds: lag.drain_ms.map(seconds),
    }
}

/// What was just read, or else what was read last.
fn last_known<T: Clone>(known: &Mutex<T>, fresh: Option<T>) -> T {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(fresh) = fresh {
        *known = fresh;
    }
    known.clone()
}
