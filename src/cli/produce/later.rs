//! Records that are delivered later: they go to the schedules of the broker, many in one call.
//!
//! What was answered is durable; a call whose answer did not come may have added its records or not, and the report says
//! of how many that is. Nothing is sent twice.

use crate::cli::exit::CliError;
use crate::cli::time::format_time;
use crate::client::admin::{AddedSchedule, NewSchedule, When};
use crate::client::{Client, ClientError, NewRecord};
use crate::limits::{SCHEDULE_RECORD_BYTES_MAX, SCHEDULES_PER_CALL_MAX};
use crate::types::record_set::Record;
use crate::types::{TimestampMs, TopicName};
use bytes::Bytes;

/// Records that are sent together are no more bytes than this, or one.
const CALL_BYTES: usize = 1 << 20;

/// Takes records, and adds a schedule for each.
pub(super) struct Later {
    client: Client,
    topic: TopicName,
    when: When,
    partition: Option<u32>,
    /// Not sent yet, each with the partition it names itself.
    waiting: Vec<(Record, Option<u32>)>,
    waiting_bytes: usize,
    /// Sent, and not answered: only the broker knows whether it has them.
    in_doubt: usize,
    added: u64,
    /// The first and the last moment at which something is due, and what the first schedule is called.
    due: Option<(TimestampMs, TimestampMs)>,
    first_id: String,
}

impl Later {
    /// Takes records for `topic`; `partition` is that of records that name none.
    pub(super) fn new(client: Client, topic: TopicName, when: When, partition: Option<u32>) -> Self {
        let (waiting, due, first_id) = (Vec::new(), None, String::new());
        Self { client, topic, when, partition, waiting, waiting_bytes: 0, in_doubt: 0, added: 0, due, first_id }
    }

    /// Takes the record of this line; sends those before it first if they are enough for a call.
    pub(super) async fn put(&mut self, record: &NewRecord<'_>, line: u64) -> Result<(), CliError> {
        let headers = record.headers.iter().map(|(name, value)| name.len() + value.len());
        let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + headers.sum::<usize>();
        if bytes > SCHEDULE_RECORD_BYTES_MAX {
            let what = format!("{bytes} bytes; a record that is delivered later may have {SCHEDULE_RECORD_BYTES_MAX}");
            return Err(CliError::Input { line, what });
        }
        if self.waiting_bytes + bytes > CALL_BYTES || self.waiting.len() == SCHEDULES_PER_CALL_MAX {
            self.flush().await?;
        }
        self.waiting_bytes += bytes;
        self.waiting.push((owned(record), record.partition));
        Ok(())
    }

    /// Sends what is waiting; it is durable when this returns.
    pub(super) async fn flush(&mut self) -> Result<(), CliError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        // Taken out before the call: should it be cut off, the same records must not be sent again.
        let records = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        self.in_doubt = records.len();
        let answer = self.add(&records).await;
        // What was refused was not added.
        if matches!(answer, Ok(_) | Err(ClientError::Refused(_))) {
            self.in_doubt = 0;
        }
        self.note(&answer?);
        Ok(())
    }

    async fn add(&self, records: &[(Record, Option<u32>)]) -> Result<Vec<AddedSchedule>, ClientError> {
        let headers: Vec<Vec<(&str, &[u8])>> = records
            .iter()
            .map(|(record, _)| record.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect())
            .collect();
        let schedules: Vec<_> = records
            .iter()
            .zip(&headers)
            .map(|((record, partition), headers)| NewSchedule {
                id: None,
                topic: &self.topic,
                record: NewRecord {
                    key: record.key.as_deref(),
                    value: record.value.as_deref(),
                    headers,
                    timestamp: record.timestamp,
                    partition: partition.or(self.partition),
                    message_id: record.message_id.as_deref(),
                },
                when: self.when.clone(),
            })
            .collect();
        self.client.add_schedules(&schedules).await
    }

    fn note(&mut self, added: &[AddedSchedule]) {
        for schedule in added {
            let (first, last) = self.due.unwrap_or((schedule.due, schedule.due));
            self.due = Some((first.min(schedule.due), last.max(schedule.due)));
            if self.added == 0 {
                self.first_id.clone_from(&schedule.id);
            }
            self.added += 1;
        }
    }

    /// What is done, for a person.
    pub(super) fn report(&self) -> String {
        let what = match (self.added, self.due) {
            (_, None) => "no record was added to the schedules".to_owned(),
            (1, Some((due, _))) => format!("1 record is due {}, as schedule {}", format_time(due), self.first_id),
            (added, Some((first, last))) if first == last => format!("{added} records are due {}", format_time(first)),
            (added, Some((first, last))) => {
                format!("{added} records are due from {} to {}", format_time(first), format_time(last))
            }
        };
        match self.in_doubt {
            0 => what,
            doubt => format!("{what}; of {doubt} more it is not known: look with millstream schedule list"),
        }
    }

    /// For an error that came after a success.
    pub(super) fn done(&self) -> Option<String> {
        match self.added {
            0 => None,
            1 => Some("1 record was added to the schedules".to_owned()),
            added => Some(format!("{added} records were added to the schedules")),
        }
    }
}

fn owned(record: &NewRecord<'_>) -> Record {
    let headers = record.headers.iter().map(|(name, value)| ((*name).to_owned(), Bytes::copy_from_slice(value)));
    Record {
        key: record.key.map(Bytes::copy_from_slice),
        value: record.value.map(Bytes::copy_from_slice),
        headers: headers.collect(),
        timestamp: record.timestamp,
        message_id: record.message_id.map(str::to_owned),
    }
}
