//! How the table of producers survives a restart: `producers.snapshot`, and the frame headers behind it.
//!
//! The file is only a cache, and is not synced. What makes it safe to believe is the order: it is written when every
//! frame it speaks of is durable, so a log never ends before it. One that is damaged, or speaks of offsets that the log
//! does not have, is not used; then the headers of all retained frames are read instead.

use crate::planted::{Bug, is_planted};
use crate::storage::atomic_file;
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::{FileSystem, OpenMode};
use crate::storage::frame_walk::FrameWalk;
use crate::storage::log_state::LogState;
use crate::storage::producers::{Producer, ProducerTable, RememberedBatch};
use crate::types::{Offset, ProducerId};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Snapshot {
    version: u32,
    /// The frames before this offset are in it.
    next_offset: Offset,
    producers: Vec<SavedProducer>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedProducer {
    id: ProducerId,
    epoch: u16,
    batches: Vec<RememberedBatch>,
}

/// The text of a snapshot, to be stored once everything before `next_offset` is durable.
pub(super) fn encode(table: &ProducerTable, next_offset: Offset) -> String {
    let saved = |(id, producer): (ProducerId, Producer)| SavedProducer {
        id,
        epoch: producer.epoch,
        batches: producer.recent().to_vec(),
    };
    let producers = table.in_log().into_iter().map(saved).collect();
    let snapshot = Snapshot { version: VERSION, next_offset, producers };
    serde_json::to_string(&snapshot).expect("structs of numbers are JSON") + "\n"
}

/// Stores a snapshot. That it failed costs time at the next start, nothing else.
pub(super) fn store(fs: &dyn FileSystem, directory: &Path, text: &str) {
    if let Err(error) = atomic_file::replace_unsynced(fs, &path_in(directory), text) {
        tracing::warn!(%error, "the producers of a log were not saved; they are read from the log when needed");
    }
}

/// Makes the snapshot durable, if there is one: its bytes; its name is with the next sync of the directory.
pub(super) fn make_durable(fs: &dyn FileSystem, directory: &Path) -> Result<(), StorageError> {
    let path = path_in(directory);
    match fs.open(&path, OpenMode::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        opened => opened.context("open", &path)?.sync_data().context("sync", &path),
    }
}

/// The table of the log as it stands now.
pub(super) fn rebuild(log: &LogState) -> Result<ProducerTable, StorageError> {
    if is_planted(Bug::DedupNotRebuilt) {
        return Ok(ProducerTable::default());
    }
    let segments = log.segments();
    let first = segments.first().map_or(log.log_end(), |segment| segment.base_offset());
    let (mut table, from) =
        load(&*log.fs, &log.directory, first, log.log_end()).unwrap_or_else(|| (ProducerTable::default(), first));
    let begin = segments.partition_point(|segment| segment.base_offset() <= from).saturating_sub(1);
    for segment in segments.iter().skip(begin) {
        let position = segment.with_index(|index| index.position_of_offset(from.max(segment.base_offset())));
        // Without an index, which damage may be the cause of, the walk begins at the first frame.
        let mut frames = FrameWalk::new(segment, position.ok());
        while let Some(frame) = frames.next()? {
            let header = frame.header;
            if header.next_offset() <= from {
                continue;
            }
            if header.record_count != header.last_offset_delta.saturating_add(1) {
                // Compaction was here, and where batches ended cannot be told any more. Better not to know a producer
                // than to take what it sends for something else.
                table = ProducerTable::default();
            } else if let Some(stamp) = header.producer {
                let batch = RememberedBatch {
                    base_sequence: stamp.base_sequence,
                    record_count: header.record_count,
                    base_offset: header.base_offset,
                    append_time_ms: header.append_time_ms,
                };
                table.apply(stamp.id, stamp.epoch, batch);
                table.keep();
            }
        }
    }
    Ok(table)
}

/// The snapshot, and up to where it speaks, if it can be used: the frames behind it must all be there.
fn load(fs: &dyn FileSystem, directory: &Path, first: Offset, end: Offset) -> Option<(ProducerTable, Offset)> {
    let path = path_in(directory);
    let text = atomic_file::read(fs, &path)
        .inspect_err(|error| tracing::warn!(%error, "the saved producers of a log are not used"))
        .ok()??;
    let snapshot: Snapshot = serde_json::from_str(&text).ok()?;
    if snapshot.version != VERSION || !(first..=end).contains(&snapshot.next_offset) {
        tracing::warn!(path = %path.display(), next_offset = %snapshot.next_offset, %first, %end, "not used: it is not of this log");
        return None;
    }
    let mut table = ProducerTable::default();
    for SavedProducer { id, epoch, batches } in snapshot.producers {
        let mut batches = batches.into_iter();
        let mut producer = Producer::new(epoch, batches.next()?);
        batches.for_each(|batch| producer.push(batch));
        table.restore(id, producer);
    }
    Some((table, snapshot.next_offset))
}

fn path_in(directory: &Path) -> PathBuf {
    directory.join("producers.snapshot")
}
