//! What was sent, what was acknowledged, and what the log must therefore hold.
//!
//! Every record is a numbered line of a [`Source`] and carries its number in a header, so that each record read can be
//! told to be one that was sent, unchanged, and copies of it can be counted.

use futures_util::FutureExt as _;
use millstream::client::{Client, NewRecord, PartitionReader, Producer, Receipt, RecordAck};
use millstream::types::{Offset, TopicName, TopicPartition};
use std::borrow::Cow;
use std::collections::HashMap;

/// The header that carries the line's number.
const LINE: &str = "line";

/// Numbered lines, each a record.
pub(crate) trait Source {
    fn key(&self, line: u32) -> Cow<'_, [u8]>;
    fn value(&self, line: u32) -> Cow<'_, [u8]>;
}

/// The numbers of the lines of each partition, by offset.
pub(crate) type LogLines = Vec<Vec<u32>>;

/// What became of each line, in the order they were sent.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    receipt: Receipt,
    ack: Option<RecordAck>,
    /// How often the broker was killed while this line was sent and not acknowledged: so often it may stand in the
    /// log once more.
    doubts: usize,
}

impl Entry {
    /// Takes the answer, if it is there.
    fn take_answer(&mut self) -> Option<RecordAck> {
        if self.ack.is_none()
            && let Some(answer) = self.receipt.wait().now_or_never()
        {
            self.ack = Some(answer.expect("a producer tries again until the broker is back"));
        }
        self.ack
    }
}

impl Ledger {
    /// The number of the next line.
    pub(crate) fn next_line(&self) -> u32 {
        u32::try_from(self.entries.len()).expect("fewer than 2^32 lines")
    }

    /// Sends the next line.
    pub(crate) async fn send(&mut self, producer: &Producer, source: &impl Source) {
        let line = self.next_line();
        let (key, value, number) = (source.key(line), source.value(line), line.to_string());
        let headers = [(LINE, number.as_bytes())];
        let record = NewRecord::value(&value).with_key(&key).with_headers(&headers);
        let receipt = producer.send(record).await.expect("lines are within the limits");
        self.entries.push(Entry { receipt, ack: None, doubts: 0 });
    }

    /// Waits until a line is acknowledged.
    pub(crate) async fn acknowledged(&mut self, line: u32) {
        let entry = &mut self.entries[line as usize];
        let answer = entry.receipt.wait().await;
        entry.ack = Some(answer.expect("a producer tries again until the broker is back"));
    }

    /// Waits until every line is acknowledged.
    pub(crate) async fn all_acknowledged(&mut self) {
        for line in 0..self.next_line() {
            self.acknowledged(line).await;
        }
    }

    /// To be called when the broker was killed, before the next one starts: takes the answers that have come. What is
    /// not acknowledged by now may be in the log or not, and comes again. Gives how many lines that are.
    pub(crate) fn doubt_unacknowledged(&mut self) -> usize {
        let mut count = 0;
        for entry in &mut self.entries {
            if entry.take_answer().is_none() {
                entry.doubts += 1;
                count += 1;
            }
        }
        count
    }

    /// Checks that every line stands where its acknowledgement says.
    #[track_caller]
    fn check_acknowledged(&self, log: &LogLines) {
        for (line, entry) in (0..).zip(&self.entries) {
            let RecordAck { partition, offset, .. } = entry.ack.expect("everything was acknowledged");
            let found = usize::try_from(offset.0).ok().and_then(|place| log[partition as usize].get(place));
            assert_eq!(found, Some(&line), "line {line} was acknowledged at {partition}/{offset}, and is not there");
        }
    }

    /// Checks the whole log, when everything is acknowledged: no line more often than a lost acknowledgement explains,
    /// and those of a key in the order they were sent, by first occurrence. Gives the number of extra copies.
    #[track_caller]
    pub(crate) fn check_whole(&self, log: &LogLines, source: &impl Source) -> usize {
        self.check_acknowledged(log);
        let mut copies = vec![0_usize; self.entries.len()];
        for lines in log {
            let mut last_of_key = HashMap::new();
            for line in lines {
                copies[*line as usize] += 1;
                if copies[*line as usize] == 1 {
                    let before = last_of_key.insert(source.key(*line), *line);
                    assert!(before < Some(*line), "line {line} stands behind {before:?}, which was sent later");
                }
            }
        }
        for (line, (copies, entry)) in copies.iter().zip(&self.entries).enumerate() {
            let most = 1 + entry.doubts;
            assert!(*copies <= most, "line {line} stands there {copies} times; {most} can be explained");
        }
        copies.iter().sum::<usize>() - self.entries.len()
    }
}

/// How far each partition of a topic goes.
pub(crate) async fn ends(client: &Client, topic: &TopicName) -> Vec<u64> {
    let (_, partitions) = client.topic(topic).await.expect("the topic is there");
    partitions.iter().map(|partition| partition.high_watermark.0).collect()
}

/// Reads every partition. Each record must be a line of `source`, unchanged.
pub(crate) async fn read_log(client: &Client, topic: &TopicName, source: &impl Source) -> LogLines {
    let mut log = Vec::new();
    for (number, end) in (0..).zip(ends(client, topic).await) {
        let partition = TopicPartition { topic: topic.clone(), partition: number };
        let mut reader = PartitionReader::new(client, partition, Offset(0)..Offset(end));
        let mut lines = Vec::new();
        while let Some(batch) = reader.next().await.expect("what is below the high watermark can be read") {
            for record in batch.records() {
                let offset = lines.len() as u64;
                assert_eq!(record.offset.0, offset, "no gap in partition {number}");
                let line = line_of(&record.headers).expect("every record is a line that was sent");
                assert_eq!(record.key.as_deref(), Some(&*source.key(line)), "key at {number}/{offset}");
                assert_eq!(record.value.as_deref(), Some(&*source.value(line)), "value at {number}/{offset}");
                lines.push(line);
            }
        }
        log.push(lines);
    }
    log
}

/// The number of the line that a record is.
pub(crate) fn line_of(headers: &[(String, bytes::Bytes)]) -> Option<u32> {
    let (_, number) = headers.iter().find(|(name, _)| name == LINE)?;
    std::str::from_utf8(number).ok()?.parse().ok()
}
