//! What the broker counts, and its text for Prometheus.
//!
//! Two kinds. Counters grow where things happen: one small function per observation, on handles that are resolved
//! once ([`Metrics::topic`]), so that an observation is an atomic add. Readings ([`Readings`]) are taken from the
//! state itself when someone asks, so they cannot drift from it; whoever owns the state hands them to
//! [`Metrics::render`].
//!
//! Labels are topics, partitions, groups and reasons of errors, never clients or keys: the number of series is bounded
//! by what the operator created. No globals: a [`Metrics`] is passed to whoever observes.

use crate::types::{TimestampMs, TopicName, TopicPartition};
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::time::Duration;

mod expired;
mod groups;
mod readings;
mod requests;
mod schedules;

use expired::ExpiredUnread;
pub use groups::{GroupReading, GroupReadings, GroupTotals, LagReading};
pub use readings::{
    CoordinatorReading, LetterReading, OpenFilesReading, PartitionReading, QueueReading, QueueTotals, Readings,
};
pub use requests::RequestCounted;
use requests::RequestMetrics;
pub use schedules::ScheduleReading;

/// Upper bounds of the sync histogram, in seconds: 50 us (a disk with a protected cache) to 6.5 s (one that fails).
const SYNC_SECONDS_BUCKETS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_6, 0.003_2, 0.006_4, 0.012_8, 0.025_6, 0.051_2, 0.102_4,
    0.204_8, 0.409_6, 0.819_2, 1.638_4, 3.276_8, 6.553_6,
];

/// Upper bounds of the compaction histogram, in seconds.
const COMPACTION_SECONDS_BUCKETS: [f64; 8] = [0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 36_000.0];

type TopicLabel = [(&'static str, String); 1];
type ReasonLabel = [(&'static str, &'static str); 1];

/// Every counter of one broker.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    produced_records: Family<TopicLabel, Counter>,
    produced_bytes: Family<TopicLabel, Counter>,
    fetched_records: Family<TopicLabel, Counter>,
    fetched_bytes: Family<TopicLabel, Counter>,
    produce_requests: Counter,
    produce_errors: Family<ReasonLabel, Counter>,
    append_drains: Counter,
    append_drained_batches: Counter,
    in_place_write_seconds: Histogram,
    sync_seconds: Histogram,
    compacted_records: Family<TopicLabel, Counter>,
    compacted_bytes: Family<TopicLabel, Counter>,
    compaction_last_time: Family<TopicLabel, Gauge>,
    compaction_seconds: Histogram,
    upkeep_seconds: Histogram,
    connections: Gauge,
    produce_in_flight_bytes: Gauge,
    requests: RequestMetrics,
    expired_unread: ExpiredUnread,
    retention_suspended: Gauge,
    disk_free_bytes: Gauge,
    disk_refuses_produce: Gauge,
    scrub_bytes: Counter,
    scrub_ended: Gauge,
}

/// The counters of one topic, resolved. Cheap to clone; hold one per topic or partition.
#[derive(Debug, Clone)]
pub struct TopicMetrics {
    produced_records: Counter,
    produced_bytes: Counter,
    fetched_records: Counter,
    fetched_bytes: Counter,
}

/// One open connection; counted until dropped.
#[derive(Debug)]
pub struct ConnectionCounted(Gauge);

/// Bytes of a produce call that is under way; counted until dropped.
#[derive(Debug)]
pub struct InFlightCounted(Gauge, i64);

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("millstream");
        let metrics = Self {
            produced_records: counters(&mut registry, "produced_records", "Records appended, by topic"),
            produced_bytes: counters(&mut registry, "produced_bytes", "Bytes of record sets appended, by topic"),
            fetched_records: counters(&mut registry, "fetched_records", "Records sent to readers, by topic"),
            fetched_bytes: counters(&mut registry, "fetched_bytes", "Bytes of record sets sent to readers, by topic"),
            compacted_records: counters(
                &mut registry,
                "compacted_records",
                "Records that compaction removed, by topic",
            ),
            compacted_bytes: counters(&mut registry, "compacted_bytes", "Bytes that compaction gave back, by topic"),
            compaction_last_time: Family::default(),
            compaction_seconds: Histogram::new(COMPACTION_SECONDS_BUCKETS),
            produce_errors: counters(&mut registry, "produce_errors", "Produce requests refused or failed, by reason"),
            produce_requests: Counter::default(),
            append_drains: Counter::default(),
            append_drained_batches: Counter::default(),
            in_place_write_seconds: Histogram::new(SYNC_SECONDS_BUCKETS),
            sync_seconds: Histogram::new(SYNC_SECONDS_BUCKETS),
            upkeep_seconds: Histogram::new(SYNC_SECONDS_BUCKETS),
            connections: Gauge::default(),
            produce_in_flight_bytes: Gauge::default(),
            requests: RequestMetrics::default(),
            expired_unread: ExpiredUnread::default(),
            retention_suspended: Gauge::default(),
            disk_free_bytes: Gauge::default(),
            disk_refuses_produce: Gauge::default(),
            scrub_bytes: Counter::default(),
            scrub_ended: Gauge::default(),
            registry: Registry::default(),
        };
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Which broker this is", version);
        let help = "Produce requests received, refused ones included";
        registry.register("produce_requests", help, metrics.produce_requests.clone());
        registry.register("append_drains", "Times a partition's inbox was drained", metrics.append_drains.clone());
        let help = "Batches written by drains; divided by the drains, how many shared one write and one sync";
        registry.register("append_drained_batches", help, metrics.append_drained_batches.clone());
        let help = "Time that one write took which the thread that waited for it did itself";
        registry.register("in_place_write_seconds", help, metrics.in_place_write_seconds.clone());
        registry.register("sync_seconds", "Time that one sync of a segment took", metrics.sync_seconds.clone());
        let help = "Time that one pass of compaction over a partition took";
        registry.register("compaction_seconds", help, metrics.compaction_seconds.clone());
        let help = "When a partition of a topic was last compacted, in seconds since 1970";
        registry.register("compaction_last_timestamp_seconds", help, metrics.compaction_last_time.clone());
        let help = "Time that one round of upkeep over all partitions took";
        registry.register("upkeep_seconds", help, metrics.upkeep_seconds.clone());
        registry.register("connections", "Connections open now", metrics.connections.clone());
        let help = "Bytes of records received and not answered yet";
        registry.register("produce_in_flight_bytes", help, metrics.produce_in_flight_bytes.clone());
        metrics.requests.register(&mut registry);
        registry.register_collector(Box::new(metrics.expired_unread.clone()));
        let help = "1 while retention by time is suspended, because the clock jumped";
        registry.register("retention_suspended", help, metrics.retention_suspended.clone());
        registry.register(
            "disk_free_bytes",
            "Free bytes of the disk of the data directory",
            metrics.disk_free_bytes.clone(),
        );
        let help = "1 while records are refused because less than disk_free_bytes_min is free";
        registry.register("disk_refuses_produce", help, metrics.disk_refuses_produce.clone());
        registry.register("scrub_bytes", "Bytes of sealed segments read again", metrics.scrub_bytes.clone());
        let help = "When the last pass over all sealed segments ended, in seconds since 1970; 0 = not yet";
        registry.register("scrub_ended_timestamp_seconds", help, metrics.scrub_ended.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// The counters of `topic`.
    pub fn topic(&self, topic: &TopicName) -> TopicMetrics {
        let label = topic_label(topic);
        TopicMetrics {
            produced_records: self.produced_records.get_or_create_owned(&label),
            produced_bytes: self.produced_bytes.get_or_create_owned(&label),
            fetched_records: self.fetched_records.get_or_create_owned(&label),
            fetched_bytes: self.fetched_bytes.get_or_create_owned(&label),
        }
    }

    /// Forgets a topic that was deleted. Handles still held count on, unseen.
    pub fn forget_topic(&self, topic: &TopicName) {
        let label = topic_label(topic);
        for family in [
            &self.produced_records,
            &self.produced_bytes,
            &self.fetched_records,
            &self.fetched_bytes,
            &self.compacted_records,
            &self.compacted_bytes,
        ] {
            family.remove(&label);
        }
        self.compaction_last_time.remove(&label);
        self.expired_unread.forget_topic(topic);
    }

    /// Forgets a group that was deleted.
    pub fn forget_group(&self, group: &str) {
        self.expired_unread.forget_group(group);
    }

    /// So many records of `at` were deleted before `group` had read them.
    pub fn expired_unread(&self, group: &str, at: &TopicPartition, records: u64) {
        self.expired_unread.add(group, at, records);
    }

    /// So much of the disk is free, and whether records are refused for it.
    pub fn set_disk(&self, free_bytes: u64, refuses_produce: bool) {
        self.disk_free_bytes.set(i64::try_from(free_bytes).unwrap_or(i64::MAX));
        self.disk_refuses_produce.set(refuses_produce.into());
    }

    /// So many bytes are about to be read again.
    pub fn scrubbed(&self, bytes: u64) {
        self.scrub_bytes.inc_by(bytes);
    }

    /// A pass over all sealed segments ended.
    pub fn scrub_ended(&self, at_ms: TimestampMs) {
        self.scrub_ended.set(at_ms / 1000);
    }

    /// Retention by time is suspended, or goes on.
    pub fn set_retention_suspended(&self, suspended: bool) {
        self.retention_suspended.set(suspended.into());
    }

    /// A produce request arrived.
    pub fn produce_requested(&self) {
        self.produce_requests.inc();
    }

    /// A produce request was refused or failed. `reason` is one of the constants of `docs/errors.md`.
    pub fn produce_failed(&self, reason: &'static str) {
        self.produce_errors.get_or_create(&[("reason", reason)]).inc();
    }

    /// A partition's writer drained its inbox and wrote `batches` in one go.
    pub fn append_drained(&self, batches: u64) {
        self.append_drains.inc();
        self.append_drained_batches.inc_by(batches);
    }

    /// One write by a thread that is not a storage thread took `elapsed`.
    pub fn written_in_place(&self, elapsed: Duration) {
        self.in_place_write_seconds.observe(elapsed.as_secs_f64());
    }

    /// One sync took `elapsed`.
    pub fn synced(&self, elapsed: Duration) {
        self.sync_seconds.observe(elapsed.as_secs_f64());
    }

    /// A pass of compaction over one partition of `topic` ended at `now_ms`, after `elapsed`.
    pub fn compacted(&self, topic: &TopicName, records: u64, bytes: u64, elapsed: Duration, now_ms: TimestampMs) {
        let label = topic_label(topic);
        self.compacted_records.get_or_create(&label).inc_by(records);
        self.compacted_bytes.get_or_create(&label).inc_by(bytes);
        self.compaction_last_time.get_or_create(&label).set(now_ms / 1000);
        self.compaction_seconds.observe(elapsed.as_secs_f64());
    }

    /// One round of upkeep over all partitions took `elapsed`.
    pub fn upkept(&self, elapsed: Duration) {
        self.upkeep_seconds.observe(elapsed.as_secs_f64());
    }

    /// A connection was accepted; it is counted as open until the answer is dropped.
    pub fn connection_opened(&self) -> ConnectionCounted {
        self.connections.inc();
        ConnectionCounted(self.connections.clone())
    }

    /// A produce call holds `bytes` of records until the answer is dropped.
    pub fn produce_in_flight(&self, bytes: usize) -> InFlightCounted {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.produce_in_flight_bytes.inc_by(bytes);
        InFlightCounted(self.produce_in_flight_bytes.clone(), bytes)
    }

    /// Everything counted so far together with `readings`, in the text format of `OpenMetrics`.
    pub fn render(&self, readings: Readings) -> String {
        let mut read = Registry::with_prefix("millstream");
        read.register_collector(Box::new(readings));
        let mut page = String::new();
        let written = text::encode_registry(&mut page, &self.registry)
            .and_then(|()| text::encode_registry(&mut page, &read))
            .and_then(|()| text::encode_eof(&mut page));
        written.expect("writing to a string cannot fail");
        page
    }
}

impl TopicMetrics {
    /// A batch was appended.
    #[inline]
    pub fn produced(&self, records: u64, bytes: u64) {
        self.produced_records.inc_by(records);
        self.produced_bytes.inc_by(bytes);
    }

    /// A batch, or part of one, was sent to a reader.
    #[inline]
    pub fn fetched(&self, records: u64, bytes: u64) {
        self.fetched_records.inc_by(records);
        self.fetched_bytes.inc_by(bytes);
    }
}

impl Drop for ConnectionCounted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Drop for InFlightCounted {
    fn drop(&mut self) {
        self.0.dec_by(self.1);
    }
}

fn topic_label(topic: &TopicName) -> TopicLabel {
    [("topic", topic.as_str().to_owned())]
}

/// A registered family of counters. The text format appends `_total` to its name.
fn counters<L>(registry: &mut Registry, name: &str, help: &str) -> Family<L, Counter>
where
    L: prometheus_client::encoding::EncodeLabelSet
        + std::hash::Hash
        + Eq
        + Clone
        + Send
        + Sync
        + std::fmt::Debug
        + 'static,
{
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).expect("a valid name")
    }

    #[test]
    fn observations_are_on_the_page_and_names_say_the_unit() {
        let metrics = Metrics::default();
        let orders = metrics.topic(&topic("orders"));
        orders.produced(3, 100);
        metrics.topic(&topic("orders")).produced(2, 50);
        orders.fetched(1, 10);
        metrics.produce_requested();
        metrics.produce_failed("TOPIC_NOT_FOUND");
        metrics.append_drained(64);
        metrics.synced(Duration::from_micros(60));
        metrics.written_in_place(Duration::from_micros(6));
        let page = metrics.render(Readings::default());
        for line in [
            "millstream_produced_records_total{topic=\"orders\"} 5",
            "millstream_produced_bytes_total{topic=\"orders\"} 150",
            "millstream_fetched_records_total{topic=\"orders\"} 1",
            "millstream_fetched_bytes_total{topic=\"orders\"} 10",
            "millstream_produce_requests_total 1",
            "millstream_produce_errors_total{reason=\"TOPIC_NOT_FOUND\"} 1",
            "millstream_append_drains_total 1",
            "millstream_append_drained_batches_total 64",
            "millstream_in_place_write_seconds_count 1",
            "millstream_sync_seconds_count 1",
            "millstream_sync_seconds_bucket{le=\"0.0001\"} 1",
            concat!("millstream_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(page.lines().any(|found| found == line), "no line {line} in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn what_is_over_is_not_counted_any_more() {
        let metrics = Metrics::default();
        let held = (metrics.connection_opened(), metrics.produce_in_flight(1000));
        let page = metrics.render(Readings::default());
        assert!(
            page.contains("millstream_connections 1\n") && page.contains("millstream_produce_in_flight_bytes 1000\n")
        );
        drop(held);
        let page = metrics.render(Readings::default());
        assert!(page.contains("millstream_connections 0\n") && page.contains("millstream_produce_in_flight_bytes 0\n"));
    }

    #[test]
    fn deleted_topics_leave_the_page() {
        let metrics = Metrics::default();
        let handle = metrics.topic(&topic("orders"));
        metrics.forget_topic(&topic("orders"));
        handle.produced(1, 1);
        assert!(!metrics.render(Readings::default()).contains("orders"));
    }

    #[test]
    fn what_expired_unread_is_counted_by_group_and_leaves_with_its_group_or_topic() {
        let metrics = Metrics::default();
        let at = |name, partition| TopicPartition { topic: topic(name), partition };
        metrics.expired_unread("billing", &at("orders", 1), 5);
        metrics.expired_unread("billing", &at("orders", 1), 2);
        metrics.expired_unread("audit", &at("orders", 1), 9);
        metrics.expired_unread("audit", &at("clicks", 0), 4);
        let line = |group, topic, partition, records| {
            format!(
                "millstream_group_records_expired_unread_total{{group=\"{group}\",topic=\"{topic}\",\
                 partition=\"{partition}\"}} {records}\n"
            )
        };
        let page = metrics.render(Readings::default());
        assert!(
            page.contains(&line("billing", "orders", 1, 7)) && page.contains(&line("audit", "orders", 1, 9)),
            "{page}"
        );
        metrics.forget_group("billing");
        metrics.forget_topic(&topic("orders"));
        let page = metrics.render(Readings::default());
        assert!(!page.contains("billing") && !page.contains("orders"), "{page}");
        assert!(page.contains(&line("audit", "clicks", 0, 4)), "{page}");
    }

    /// A group that is behind in one partition.
    fn billing() -> GroupReadings {
        let lag = LagReading {
            records: 10,
            bytes: Some(1_000),
            span_seconds: Some(1.5),
            oldest_age_seconds: Some(60.0),
            drain_seconds: None,
        };
        let group = GroupReading {
            group: "billing".to_owned(),
            topic: topic("orders"),
            partition: 2,
            committed_offset: 80,
            lag,
        };
        let total = GroupTotals {
            group: "billing".to_owned(),
            members: 3,
            members_away: 1,
            partitions_kept: 2,
            is_paused: true,
            lag,
        };
        GroupReadings { groups: vec![total], partitions: vec![group] }
    }

    fn work() -> (QueueReading, QueueTotals) {
        let queue = QueueReading {
            queue: "work".to_owned(),
            topic: topic("orders"),
            partition: 2,
            backlog: 11,
            leased: 12,
            waiting: 13,
            available: 14,
            dying: 15,
        };
        let (delivered, acked, failed, dead_lettered, filtered) = (21, 22, 23, 24, 25);
        let (queue_name, is_paused) = ("work".to_owned(), true);
        let totals = QueueTotals { queue: queue_name, delivered, acked, failed, dead_lettered, filtered, is_paused };
        (queue, totals)
    }

    #[test]
    fn readings_are_gauges_by_partition_and_group() {
        let partition = PartitionReading {
            topic: topic("orders"),
            partition: 2,
            log_start_offset: 5,
            high_watermark: 90,
            log_end_offset: 100,
            log_bytes: 4096,
            segments: 1,
        };
        let (queue, totals) = work();
        let files = OpenFilesReading { open: 7, unsynced: 2, open_max: 512, evictions: 33 };
        let page = Metrics::default().render(Readings {
            partitions: vec![partition],
            groups: billing(),
            queues: vec![queue],
            letters: vec![LetterReading { topic: topic("work.dlq"), open: 16 }],
            queue_totals: vec![totals],
            schedules: ScheduleReading { schedules: 16, retrying: 17, delivered: 18, failed: 19, left_out: 20 },
            coordinators: vec![CoordinatorReading { journal: "__groups", is_online: false }],
            files,
            scrub_damaged_ranges: 3,
        });
        for line in [
            "# TYPE millstream_partition_log_bytes gauge",
            "millstream_scrub_damaged_ranges 3",
            "millstream_schedules 16",
            "millstream_schedules_retrying 17",
            "millstream_schedule_deliveries_total 18",
            "millstream_schedule_delivery_failures_total 19",
            "millstream_schedule_occurrences_left_out_total 20",
            "millstream_coordinator_online{journal=\"__groups\"} 0",
            "millstream_partition_log_start_offset{topic=\"orders\",partition=\"2\"} 5",
            "millstream_partition_high_watermark{topic=\"orders\",partition=\"2\"} 90",
            "millstream_partition_log_end_offset{topic=\"orders\",partition=\"2\"} 100",
            "millstream_partition_log_bytes{topic=\"orders\",partition=\"2\"} 4096",
            "millstream_partition_segments{topic=\"orders\",partition=\"2\"} 1",
            "millstream_group_committed_offset{group=\"billing\",topic=\"orders\",partition=\"2\"} 80",
            "millstream_queue_backlog_messages{queue=\"work\",topic=\"orders\",partition=\"2\"} 11",
            "millstream_queue_leased_messages{queue=\"work\",topic=\"orders\",partition=\"2\"} 12",
            "millstream_queue_waiting_messages{queue=\"work\",topic=\"orders\",partition=\"2\"} 13",
            "millstream_queue_available_messages{queue=\"work\",topic=\"orders\",partition=\"2\"} 14",
            "millstream_queue_dying_messages{queue=\"work\",topic=\"orders\",partition=\"2\"} 15",
            "millstream_dead_letters_open{topic=\"work.dlq\"} 16",
            "millstream_queue_delivered_messages_total{queue=\"work\"} 21",
            "millstream_queue_acked_messages_total{queue=\"work\"} 22",
            "millstream_queue_failed_deliveries_total{queue=\"work\"} 23",
            "millstream_queue_dead_letters_total{queue=\"work\"} 24",
            "millstream_queue_filtered_messages_total{queue=\"work\"} 25",
            "millstream_queue_paused{queue=\"work\"} 1",
            "millstream_open_files 7",
            "millstream_open_files_unsynced 2",
            "millstream_open_files_max 512",
            "millstream_open_files_evictions_total 33",
            "millstream_group_lag_records{group=\"billing\",topic=\"orders\",partition=\"2\"} 10",
            "millstream_group_lag_seconds{group=\"billing\",topic=\"orders\",partition=\"2\"} 1.5",
            "millstream_group_members{group=\"billing\"} 3",
            "millstream_group_members_away{group=\"billing\"} 1",
            "millstream_group_partitions_kept{group=\"billing\"} 2",
            "millstream_group_paused{group=\"billing\"} 1",
            "millstream_group_total_lag_bytes{group=\"billing\"} 1000",
            "millstream_group_total_oldest_unread_seconds{group=\"billing\"} 60.0",
        ] {
            assert!(page.lines().any(|found| found == line), "no line {line} in\n{page}");
        }
        assert!(!page.contains("drain_seconds{"), "what is not known is no sample");
    }
}
