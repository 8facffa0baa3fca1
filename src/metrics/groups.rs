//! Gauges of how far groups are behind, by partition and of each group as a whole, and of who is there to read.
//!
//! What is not known has no series at that moment: a 0 would say that all is well.

use super::readings::{gauge, partition_labels};
use crate::types::TopicName;
use prometheus_client::encoding::DescriptorEncoder;

/// Every group at one moment.
#[derive(Debug, Default, Clone)]
pub struct GroupReadings {
    /// Each as a whole.
    pub groups: Vec<GroupTotals>,
    /// Every partition that a group has committed to.
    pub partitions: Vec<GroupReading>,
}

/// One group as a whole.
#[derive(Debug, Clone)]
pub struct GroupTotals {
    /// The group.
    pub group: String,
    /// Its members, those that are away among them.
    pub members: u64,
    /// Members whose stream has ended, and who are expected back until their session timeout is over.
    pub members_away: u64,
    /// Partitions that are kept for them: nobody reads these.
    pub partitions_kept: u64,
    /// Its members get no records, because somebody said so.
    pub is_paused: bool,
    /// How far it is behind in all its partitions together.
    pub lag: LagReading,
}

/// How far one group is in one partition.
#[derive(Debug, Clone)]
pub struct GroupReading {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: u32,
    /// The next record the group reads.
    pub committed_offset: u64,
    /// How far it is behind.
    pub lag: LagReading,
}

/// How far behind; `None` = not known.
#[derive(Debug, Clone, Copy)]
pub struct LagReading {
    /// Retained records from the committed offset to the high watermark.
    pub records: u64,
    /// Bytes of the batches they stand in.
    pub bytes: Option<u64>,
    /// Between the append times of the first and the last of them.
    pub span_seconds: Option<f64>,
    /// Since the first of them was appended.
    pub oldest_age_seconds: Option<f64>,
    /// Until they are read, at the pace of the last minute.
    pub drain_seconds: Option<f64>,
}

type NumberOf = (&'static str, &'static str, fn(&GroupTotals) -> u64);

const NUMBERS: [NumberOf; 4] = [
    ("group_members", "Members, those that are away among them", |g| g.members),
    ("group_members_away", "Members whose place is kept while they are away", |g| g.members_away),
    ("group_partitions_kept", "Partitions kept for members that are away: nobody reads them", |g| g.partitions_kept),
    ("group_paused", "1 if the members get no records, because somebody said so", |g| u64::from(g.is_paused)),
];

type SecondsOf = (&'static str, &'static str, fn(&LagReading) -> Option<f64>);

const SECONDS: [SecondsOf; 3] = [
    ("lag_seconds", "Between the append times of the first and the last unread record", |lag| lag.span_seconds),
    ("oldest_unread_seconds", "Since the first unread record was appended", |lag| lag.oldest_age_seconds),
    ("drain_seconds", "Until all is read, at the pace of the last minute", |lag| lag.drain_seconds),
];

impl GroupReadings {
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let parts = || {
            self.partitions.iter().map(|g| {
                let [topic, partition] = partition_labels(&g.topic, g.partition);
                ([("group", g.group.clone()), topic, partition], g)
            })
        };
        let wholes = || self.groups.iter().map(|g| ([("group", g.group.clone())], &g.lag));

        for (name, help, number) in NUMBERS {
            gauge(encoder, name, help, self.groups.iter().map(|g| ([("group", g.group.clone())], number(g))))?;
        }
        let committed = parts().map(|(labels, g)| (labels, g.committed_offset));
        gauge(encoder, "group_committed_offset", "The next record that the group reads", committed)?;
        let help = "Retained records from the committed offset to the high watermark";
        gauge(encoder, "group_lag_records", help, parts().map(|(labels, g)| (labels, g.lag.records)))?;
        gauge(encoder, "group_total_lag_records", help, wholes().map(|(labels, lag)| (labels, lag.records)))?;
        let help = "Bytes of the batches with these records";
        let bytes = parts().filter_map(|(labels, g)| Some((labels, g.lag.bytes?)));
        gauge(encoder, "group_lag_bytes", help, bytes)?;
        let bytes = wholes().filter_map(|(labels, lag)| Some((labels, lag.bytes?)));
        gauge(encoder, "group_total_lag_bytes", help, bytes)?;
        for (name, help, seconds) in SECONDS {
            let samples = parts().filter_map(|(labels, g)| Some((labels, seconds(&g.lag)?)));
            gauge(encoder, &format!("group_{name}"), help, samples)?;
            let samples = wholes().filter_map(|(labels, lag)| Some((labels, seconds(lag)?)));
            gauge(encoder, &format!("group_total_{name}"), help, samples)?;
        }
        Ok(())
    }
}
