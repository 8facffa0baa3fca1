//! How schedules stand, at the moment of a scrape.

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// How many there are, and what was done since the broker started.
#[derive(Debug, Default, Clone, Copy)]
pub struct ScheduleReading {
    /// Schedules there are now.
    pub schedules: u64,
    /// Of these, those whose delivery has failed and is tried again.
    pub retrying: u64,
    /// Records delivered.
    pub delivered: u64,
    /// Deliveries that failed.
    pub failed: u64,
    /// Occurrences left out because they were missed.
    pub left_out: u64,
}

impl ScheduleReading {
    pub(super) fn encode(self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, value) in [
            ("schedules", "Schedules there are", self.schedules),
            ("schedules_retrying", "Schedules whose delivery has failed and is tried again", self.retrying),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        for (name, help, value) in [
            ("schedule_deliveries", "Records of schedules that were appended to their topics", self.delivered),
            ("schedule_delivery_failures", "Deliveries of schedules that failed, each as often as it did", self.failed),
            ("schedule_occurrences_left_out", "Missed occurrences that were left out, as asked", self.left_out),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        Ok(())
    }
}
