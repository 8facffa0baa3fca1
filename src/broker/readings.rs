//! The state of every partition and group, as metrics want it.

use crate::broker::Broker;
use crate::metrics::{GroupReading, OpenFilesReading, PartitionReading, Readings};

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
        let mut readings = Readings { files, ..Readings::default() };
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
            }
        }
        for group in self.list_groups("").await.unwrap_or_default() {
            let Ok(described) = self.describe_group(group.name.as_str()).await else { continue };
            for (partition, offsets) in described.description.partitions.iter().zip(&described.offsets) {
                let (Some(committed), Some(offsets)) = (&partition.committed, offsets) else { continue };
                readings.groups.push(GroupReading {
                    group: group.name.to_string(),
                    topic: committed.topic.clone(),
                    partition: committed.partition,
                    committed_offset: committed.offset.0,
                    // What retention has deleted is not waiting for anybody.
                    lag_records: offsets.high_watermark.records_since(committed.offset.max(offsets.log_start)),
                });
            }
        }
        readings
    }
}
