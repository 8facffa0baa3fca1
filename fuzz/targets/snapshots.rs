//! Journals that are replayed at the start, of groups, of producers and of schedules: arbitrary entries are refused by name or become
//! state, and the snapshot of that state is replayed to the same state. (`producers.snapshot` of a log is read by the
//! target `segment_recovery`.)
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream::clock::ManualClock;
use millstream::group::{GroupCoordinator, GroupError, TopicPartitions, TopicsSnapshot};
use millstream::partition::journal::{Journal, JournalEntry, JournalError};
use millstream::producer::{ProducerError, ProducerRegistry};
use millstream::schedule::{Entry as ScheduleEntry, Replayed, ScheduleError};
use millstream::types::{Offset, TopicId, TopicName};
use millstream_fuzz::bounded;
use std::pin::Pin;
use std::sync::Arc;

/// One entry: free bytes, or one of the shapes that there are with numbers and names near those that matter.
#[derive(Debug, Arbitrary)]
enum Entry<'a> {
    Free { key: &'a [u8], value: Option<&'a [u8]> },
    Floor { generation: u64 },
    Group { name: u8, generation: Option<u64> },
    Offset { group: u8, topic: u8, partition: u32, value: Option<(u64, i64, &'a str)> },
    FreeValue { kind: u8, value: &'a str },
    ProducerIds { below: u64 },
    ProducerName { name: u8, value: Option<(u64, u16, i64)> },
    Schedule { id: u8, due_ms: i64, cron: Option<&'a str>, record: &'a [u8] },
}

impl Entry<'_> {
    fn encode(&self) -> JournalEntry {
        let of = |key: String, value: Option<String>| JournalEntry { key: key.into(), value: value.map(Bytes::from) };
        let id = |topic: &u8| uuid::Uuid::from_u128((topic % 4).into());
        match self {
            Self::Free { key, value } => {
                JournalEntry { key: Bytes::copy_from_slice(key), value: value.map(Bytes::copy_from_slice) }
            }
            Self::Floor { generation } => of("generations".into(), Some(format!("{{\"floor\":{generation}}}"))),
            Self::Group { name, generation } => {
                let value = generation.map(|generation| format!("{{\"generation\":{generation}}}"));
                of(format!("group/g{}", name % 4), value)
            }
            Self::Offset { group, topic, partition, value } => {
                let key = format!("offset/g{}/{}/{partition}", group % 4, id(topic));
                let value = value.map(|(offset, time_ms, metadata)| {
                    let metadata = metadata.replace(['"', '\\'], "").replace(char::is_control, "");
                    let topic = topic % 4;
                    format!(
                        "{{\"topic\":\"t{topic}\",\"offset\":{offset},\"metadata\":\"{metadata}\",\
                         \"committed_at_ms\":{time_ms}}}"
                    )
                });
                of(key, value)
            }
            Self::FreeValue { kind, value } => {
                let key = match kind % 5 {
                    0 => "generations".to_owned(),
                    1 => "group/g1".to_owned(),
                    2 => format!("offset/g1/{}/0", id(&1)),
                    3 => "ids".to_owned(),
                    _ => "name/p1".to_owned(),
                };
                of(key, Some((*value).to_owned()))
            }
            Self::ProducerIds { below } => of("ids".into(), Some(format!("{{\"reserved_below\":{below}}}"))),
            Self::ProducerName { name, value } => {
                let value =
                    value.map(|(id, epoch, at)| format!("{{\"id\":{id},\"epoch\":{epoch},\"used_at_ms\":{at}}}"));
                of(format!("name/p{}", name % 4), value)
            }
            Self::Schedule { id, due_ms, cron, record } => {
                let text = |text: &str| text.replace(['"', '\\'], "").replace(char::is_control, "");
                let recurrence = cron.map(|cron| {
                    let cron = text(cron);
                    format!(",\"recurrence\":{{\"cron\":\"{cron}\",\"time_zone\":\"UTC\",\"missed\":\"skip\"}}")
                });
                let recurrence = recurrence.unwrap_or_default();
                let line = format!("{{\"topic\":\"t\",\"due_ms\":{due_ms},\"created_at_ms\":0{recurrence}}}\n");
                let value = [line.as_bytes(), record].concat();
                JournalEntry { key: format!("s{}", id % 4).into(), value: Some(value.into()) }
            }
        }
    }
}

/// A journal that takes everything.
struct Nowhere;

impl Journal for Nowhere {
    fn append(&self, _: Vec<JournalEntry>) -> Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }
}

fuzz_target!(|entries: Vec<Entry<'_>>| {
    let entries: Vec<JournalEntry> = entries.iter().map(Entry::encode).collect();
    let bytes: usize =
        entries.iter().map(|entry| 64 + entry.key.len() + entry.value.as_ref().map_or(0, Bytes::len)).sum();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime with a clock");
    bounded(64 * bytes + (1 << 20), || {
        runtime.block_on(replay_groups(entries.clone()));
        runtime.block_on(replay_producers(&entries));
        replay_schedules(&entries);
    });
});

async fn replay_groups(entries: Vec<JournalEntry>) {
    let topics: TopicsSnapshot = (0..3)
        .map(|number| {
            let name = TopicName::new(&format!("t{number}")).expect("valid");
            (name, TopicPartitions { id: TopicId(uuid::Uuid::from_u128(number)), partitions: 3 })
        })
        .collect();
    let topics = Arc::new(topics);
    let start = |entries| {
        GroupCoordinator::start(Arc::new(Nowhere), entries, Arc::new(ManualClock::new(1)), Arc::clone(&topics))
    };
    let coordinator = match start(entries) {
        Ok(coordinator) => coordinator,
        Err(GroupError::Corrupt { .. }) => return,
        Err(error) => panic!("not named as damage: {error}"),
    };
    let groups = coordinator.list(String::new()).await.expect("the task runs");
    let snapshot = coordinator.snapshot().await.expect("the task runs");
    let again = start(snapshot.clone()).expect("a snapshot is a journal");
    assert_eq!(again.list(String::new()).await.expect("the task runs"), groups);
    assert_eq!(again.snapshot().await.expect("the task runs"), snapshot, "a snapshot says all there is");
}

async fn replay_producers(entries: &[JournalEntry]) {
    let start =
        |entries: &[JournalEntry]| ProducerRegistry::start(Arc::new(Nowhere), entries, Arc::new(ManualClock::new(1)));
    let registry = match start(entries) {
        Ok(registry) => registry,
        Err(ProducerError::Corrupt { .. }) => return,
        Err(error) => panic!("not named as damage: {error}"),
    };
    let snapshot = registry.snapshot();
    let again = start(&snapshot).expect("a snapshot is a journal");
    assert_eq!(again.snapshot(), snapshot, "a snapshot says all there is");
    if let (Ok(first), Ok(second)) = (registry.init(None).await, registry.init(None).await) {
        assert_ne!(first.id, second.id, "an id is never given twice");
    }
}

/// Every entry is refused by name or comes back as it was, and says when it comes next, or not.
fn replay_schedules(entries: &[JournalEntry]) {
    let mut replayed = Replayed::default();
    for (offset, entry) in (0..).zip(entries) {
        match replayed.take(Offset(offset), &entry.key, entry.value.as_ref()) {
            Ok(()) => {}
            Err(ScheduleError::Corrupt { .. }) => continue,
            Err(error) => panic!("not named as damage: {error}"),
        }
        let Some(value) = &entry.value else { continue };
        let decoded = ScheduleEntry::decode(&entry.key, value).expect("it was just taken");
        let JournalEntry { key, value } = decoded.encode();
        assert_eq!(ScheduleEntry::decode(&key, &value.expect("it has one")), Ok(decoded.clone()));
        if let Ok(Some(next)) = decoded.schedule.next(0, true) {
            assert!(next.due_ms > decoded.schedule.due_ms);
        }
    }
}
