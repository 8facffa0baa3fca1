//! Gauges that are read from the state of partitions, groups and queues at the moment of a scrape.

use super::groups::GroupReadings;
use super::schedules::ScheduleReading;
use crate::types::TopicName;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The state of every partition, group and queue, at one moment.
#[derive(Debug, Default, Clone)]
pub struct Readings {
    /// Every partition of every topic.
    pub partitions: Vec<PartitionReading>,
    /// Every group, and every partition that a group has committed to.
    pub groups: GroupReadings,
    /// Every partition of every queue.
    pub queues: Vec<QueueReading>,
    /// Every topic of dead letters.
    pub letters: Vec<LetterReading>,
    /// Every queue.
    pub queue_totals: Vec<QueueTotals>,
    /// All schedules.
    pub schedules: ScheduleReading,
    /// Every coordinator.
    pub coordinators: Vec<CoordinatorReading>,
    /// Damaged ranges that scrubs have found, of all partitions.
    pub scrub_damaged_ranges: u64,
    /// Segment files.
    pub files: OpenFilesReading,
}

/// Whether a coordinator serves.
#[derive(Debug, Clone, Copy)]
pub struct CoordinatorReading {
    /// The internal topic with its journal.
    pub journal: &'static str,
    /// Its journal could be read.
    pub is_online: bool,
}

/// How many segment files are open.
#[derive(Debug, Default, Clone, Copy)]
pub struct OpenFilesReading {
    /// Open now.
    pub open: u64,
    /// Of these, files with bytes that are not on disk: they cannot be closed for others.
    pub unsynced: u64,
    /// How many may be.
    pub open_max: u64,
    /// Closed to make room for others, ever.
    pub evictions: u64,
}

/// How one partition's log stands.
#[derive(Debug, Clone)]
pub struct PartitionReading {
    /// The topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: u32,
    /// First retained offset.
    pub log_start_offset: u64,
    /// Readers see offsets below this.
    pub high_watermark: u64,
    /// The offset the next record gets.
    pub log_end_offset: u64,
    /// Bytes of all segments.
    pub log_bytes: u64,
    /// Segments, the active one included.
    pub segments: u32,
}

/// How a topic of dead letters stands.
#[derive(Debug, Clone)]
pub struct LetterReading {
    /// The topic.
    pub topic: TopicName,
    /// Letters that are neither redriven nor purged.
    pub open: u64,
}

/// How far one queue is in one partition.
#[derive(Debug, Clone)]
pub struct QueueReading {
    /// The queue.
    pub queue: String,
    /// The topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: u32,
    /// Messages that were never handed out.
    pub backlog: u64,
    /// Messages with workers.
    pub leased: u64,
    /// Messages that failed, and are not yet due again.
    pub waiting: u64,
    /// Messages that were handed out or read before, and are with nobody now.
    pub available: u64,
    /// Messages on their way to the dead letter topic.
    pub dying: u64,
}

/// What one queue has done since the broker started, and whether it hands out.
#[derive(Debug, Clone)]
pub struct QueueTotals {
    /// The queue.
    pub queue: String,
    /// Messages handed out, each as often as it was.
    pub delivered: u64,
    /// Messages done.
    pub acked: u64,
    /// Deliveries that failed.
    pub failed: u64,
    /// Dead letters written.
    pub dead_lettered: u64,
    /// Messages that did not match its filter.
    pub filtered: u64,
    /// Whether it is paused, by a person or by its breaker.
    pub is_paused: bool,
}

/// Name, help, and where the value stands.
type GaugeOf<T> = (&'static str, &'static str, fn(&T) -> u64);

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let gauges: [GaugeOf<PartitionReading>; 5] = [
            ("partition_log_start_offset", "First retained offset", |p| p.log_start_offset),
            ("partition_high_watermark", "Readers see offsets below this", |p| p.high_watermark),
            ("partition_log_end_offset", "The offset that the next record gets", |p| p.log_end_offset),
            ("partition_log_bytes", "Bytes of all segment files", |p| p.log_bytes),
            ("partition_segments", "Segment files", |p| u64::from(p.segments)),
        ];
        for (name, help, value) in gauges {
            let samples = self.partitions.iter().map(|p| (partition_labels(&p.topic, p.partition), value(p)));
            gauge(&mut encoder, name, help, samples)?;
        }

        self.groups.encode(&mut encoder)?;
        let gauges: [GaugeOf<QueueReading>; 5] = [
            ("queue_backlog_messages", "Messages that were never handed out", |q| q.backlog),
            ("queue_leased_messages", "Messages with workers", |q| q.leased),
            ("queue_waiting_messages", "Messages that failed and are not yet due again", |q| q.waiting),
            ("queue_available_messages", "Messages handed out or read before, with nobody now", |q| q.available),
            ("queue_dying_messages", "Messages on their way to the dead letter topic", |q| q.dying),
        ];
        for (name, help, value) in gauges {
            let samples = self.queues.iter().map(|q| {
                let [topic, partition] = partition_labels(&q.topic, q.partition);
                ([("queue", q.queue.clone()), topic, partition], value(q))
            });
            gauge(&mut encoder, name, help, samples)?;
        }
        let letters = self.letters.iter().map(|of| ([("topic", of.topic.to_string())], of.open));
        gauge(&mut encoder, "dead_letters_open", "Dead letters neither redriven nor purged", letters)?;
        self.encode_queue_totals(&mut encoder)?;
        self.schedules.encode(&mut encoder)?;
        let online = self.coordinators.iter().map(|c| ([("journal", c.journal)], u64::from(c.is_online)));
        gauge(&mut encoder, "coordinator_online", "1 if the calls that need this journal are served", online)?;
        let help = "Ranges of records in sealed segments that scrubs have found damaged";
        let metric = encoder.encode_descriptor("scrub_damaged_ranges", help, None, MetricType::Gauge)?;
        ConstGauge::new(self.scrub_damaged_ranges).encode(metric)?;

        let OpenFilesReading { open, unsynced, open_max, evictions } = self.files;
        for (name, help, value) in [
            ("open_files", "Segment files that are open", open),
            ("open_files_unsynced", "Open segment files with bytes that are not on disk", unsynced),
            ("open_files_max", "Segment files that may be open", open_max),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        let help = "Segment files that were closed to make room for others";
        let metric = encoder.encode_descriptor("open_files_evictions", help, None, MetricType::Counter)?;
        ConstCounter::new(evictions).encode(metric)
    }
}

impl Readings {
    fn encode_queue_totals(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counters: [GaugeOf<QueueTotals>; 5] = [
            ("queue_delivered_messages", "Messages handed out, each as often as it was", |q| q.delivered),
            ("queue_acked_messages", "Messages that were done", |q| q.acked),
            ("queue_failed_deliveries", "Deliveries that ended in a nack, a reject or a lost lease", |q| q.failed),
            ("queue_dead_letters", "Messages written to the dead letter topic", |q| q.dead_lettered),
            ("queue_filtered_messages", "Messages passed over because they do not match the filter", |q| q.filtered),
        ];
        for (name, help, value) in counters {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for totals in &self.queue_totals {
                let labels = [("queue", totals.queue.clone())];
                ConstCounter::new(value(totals)).encode(metric.encode_family(&labels)?)?;
            }
        }
        let paused = self.queue_totals.iter().map(|q| ([("queue", q.queue.clone())], u64::from(q.is_paused)));
        gauge(encoder, "queue_paused", "1 if nothing is handed out: by a person, or by the breaker", paused)
    }
}

pub(super) fn partition_labels(topic: &TopicName, partition: u32) -> [(&'static str, String); 2] {
    [("topic", topic.as_str().to_owned()), ("partition", partition.to_string())]
}

pub(super) fn gauge<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl Iterator<Item = (L, impl EncodeGaugeValue)>,
) -> Result<(), std::fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}
