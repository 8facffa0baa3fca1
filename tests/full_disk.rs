//! A full disk: appends are refused with the advice to wait, everything else goes on, and space is all it takes.
//!
//! The disks are a tmpfs and an ext4 of a few MiB, and mounting one needs rights (root, or sudo without a password). So this is a test
//! binary of its own that a plain `cargo test` leaves out and `.ci/run` asks for: `cargo test --test full_disk`. Without
//! the rights it fails, unless `MILLSTREAM_NO_MOUNT=1` says that this machine has none.

#[path = "process/broker.rs"]
#[expect(dead_code, reason = "shared with tests/process.rs, which uses all of it")]
mod broker;
#[path = "kill/changes.rs"]
mod changes;
#[path = "history/mod.rs"]
#[expect(dead_code, reason = "the tests of the checker are with the kill loop")]
mod history;
#[path = "kill/load.rs"]
#[expect(dead_code, reason = "the kill loop uses all of it")]
mod load;
#[path = "kill/producers.rs"]
mod producers;
#[path = "kill/readers.rs"]
mod readers;
#[path = "kill/redrives.rs"]
mod redrives;
#[path = "kill/schedules.rs"]
mod schedules;
#[path = "kill/workers.rs"]
mod workers;
#[path = "full_disk/working_queues.rs"]
mod working_queues;
#[path = "kill/world.rs"]
mod world;

use broker::{Broker, Launch, reason_of};
use bytes::BytesMut;
use millstream::client::admin::{DiskStatus, TopicSettings};
use millstream::client::{Client, PartitionOffset, PartitionReader};
use millstream::proto::ProduceRequest;
use millstream::proto::producer_service_client::ProducerServiceClient;
use millstream::types::record_set::encode_record;
use millstream::types::{Offset, TopicName, TopicPartition};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Says that this machine cannot mount.
const NO_MOUNT: &str = "MILLSTREAM_NO_MOUNT";

const TMPFS: &str = "size=24m,mode=0777";

/// A file system in a file needs its own room too.
const EXT4_BYTES: u64 = 48 << 20;

/// The mark below which the broker refuses records. Its default is more than these disks hold.
const FREE_BYTES_MIN: u64 = 8 << 20;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Tmpfs,
    Ext4,
}

/// A small disk; unmounted when it goes.
#[derive(Debug)]
struct SmallDisk {
    mount_point: tempfile::TempDir,
    /// What an ext4 is in; empty for a tmpfs.
    image: tempfile::NamedTempFile,
}

impl SmallDisk {
    /// `None` if this machine cannot mount, and says so.
    fn mount(kind: Kind) -> Option<Self> {
        if std::env::var_os(NO_MOUNT).is_some() {
            println!("nothing is tested: {NO_MOUNT} is set");
            return None;
        }
        let image = tempfile::NamedTempFile::new().expect("a file");
        let disk = Self { mount_point: tempfile::tempdir().expect("a directory"), image };
        let mounted = match kind {
            Kind::Tmpfs => as_root("mount", &["-t", "tmpfs", "-o", TMPFS, "millstream-test"], disk.path()),
            Kind::Ext4 => disk.mount_image(),
        };
        assert!(mounted, "a {kind:?} cannot be mounted; run as root, or set {NO_MOUNT}=1 to do without this test");
        Some(disk)
    }

    fn mount_image(&self) -> bool {
        let image = &self.image;
        image.as_file().set_len(EXT4_BYTES).expect("a sparse file");
        let path = image.path().to_str().expect("temporary paths are text");
        // Without a reserve for root, which would be nobody's here.
        let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-J", "size=4", path]).status();
        made.is_ok_and(|status| status.success())
            && as_root("mount", &["-t", "ext4", "-o", "loop", path], self.path())
            && as_root("chmod", &["0777"], self.path())
    }

    fn path(&self) -> &Path {
        self.mount_point.path()
    }

    /// Where the broker has its data: a directory on the disk.
    fn data_dir(&self) -> std::path::PathBuf {
        self.path().join("data")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        as_root("umount", &["--lazy"], self.path());
    }
}

/// Runs a command as root, or with sudo; whether it succeeded.
fn as_root(command: &str, arguments: &[&str], path: &Path) -> bool {
    let succeeds =
        |mut command: Command| command.args(arguments).arg(path).output().is_ok_and(|output| output.status.success());
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", command]);
    succeeds(Command::new(command)) || succeeds(sudo)
}

/// What was acknowledged of one topic with one partition: record number i has offset i and consists of its number.
struct Topic {
    name: TopicName,
    sizes: Vec<usize>,
}

impl Topic {
    async fn create(client: &Client, name: &str) -> Self {
        let name = TopicName::new(name).expect("valid");
        let settings = TopicSettings { segment_bytes: Some(1 << 20), ..TopicSettings::default() };
        client.create_topic(&name, 1, &settings).await.expect("created");
        Self { name, sizes: Vec::new() }
    }

    fn value(number: usize, bytes: usize) -> Vec<u8> {
        let mut value = number.to_le_bytes().repeat(bytes.div_ceil(8));
        value.truncate(bytes);
        value
    }

    fn partition(&self) -> TopicPartition {
        TopicPartition { topic: self.name.clone(), partition: 0 }
    }

    /// Appends one record.
    async fn append(&mut self, producers: &mut ProducerServiceClient<Channel>, bytes: usize) -> Result<(), Status> {
        let mut records = BytesMut::new();
        let value = Self::value(self.sizes.len(), bytes);
        encode_record(&mut records, None, Some(&value), std::iter::empty(), None);
        let topic = self.name.to_string();
        let request = ProduceRequest { topic, partition: Some(0), records: records.freeze(), ..Default::default() };
        let answer = producers.produce(request).await?.into_inner();
        let [result] = &answer.results[..] else { panic!("one partition, one result: {answer:?}") };
        assert_eq!(result.base_offset, self.sizes.len() as u64, "a refused record leaves no gap");
        self.sizes.push(bytes);
        Ok(())
    }

    /// Appends until the disk is full to the last small record. Gives the refusal.
    async fn fill(&mut self, producers: &mut ProducerServiceClient<Channel>) -> Status {
        let mut refused = None;
        for bytes in [200_000, 10_000, 500, 1] {
            refused = loop {
                match self.append(producers, bytes).await {
                    Ok(()) => assert!(self.sizes.len() < 1_000_000, "the disk is never full"),
                    Err(status) => break Some(status),
                }
            };
        }
        refused.expect("the loop ends with one")
    }

    /// Reads everything from an offset on; every acknowledged record is there as it was sent.
    async fn check(&self, client: &Client, from: u64) {
        let end = Offset(self.sizes.len() as u64);
        let (_, partitions) = client.topic(&self.name).await.expect("the topic is there");
        assert_eq!(partitions[0].high_watermark, end, "{}: what is acknowledged, and nothing else", self.name);
        let mut reader = PartitionReader::new(client, self.partition(), Offset(from)..end);
        let mut next = usize::try_from(from).expect("small");
        while let Some(batch) = reader.next().await.expect("reads go on") {
            for record in batch.records() {
                assert_eq!(record.offset.0, next as u64);
                assert!(record.value.expect("it has one") == Self::value(next, self.sizes[next]), "offset {next}");
                next += 1;
            }
        }
        assert_eq!(next as u64, end.0);
    }
}

async fn produce_client(broker: &Broker) -> ProducerServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", broker.address())).expect("an address");
    ProducerServiceClient::new(endpoint.connect().await.expect("the broker serves"))
}

#[track_caller]
fn assert_disk_full(status: &Status) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("DISK_FULL"), "{status:?}");
    let retry = details.retry_info().and_then(|retry| retry.retry_delay);
    assert!(retry.is_some_and(|delay| !delay.is_zero()), "it says when to try again: {status:?}");
}

/// A group whose first commit ever is made on a full disk, and which must go on.
async fn commit(client: &Client, topic: &Topic, offset: u64) {
    let offsets = vec![PartitionOffset::new(topic.partition(), Offset(offset))];
    let refused = client.commit_offsets("readers", offsets).await.expect("commits go on");
    assert!(refused.is_empty(), "{refused:?}");
    let committed = client.fetch_offsets("readers", &[]).await.expect("the group is there");
    assert_eq!(committed.first().map(|committed| committed.offset.0), Some(offset));
}

fn launch(disk: &SmallDisk) -> Launch {
    Launch::new(&disk.data_dir())
        .variable("MILLSTREAM_BROKER_DISK_FREE_BYTES_MIN", &FREE_BYTES_MIN.to_string())
        .variable("MILLSTREAM_BROKER_RETENTION_CHECK_MS", "100")
}

async fn disk_of(client: &Client) -> DiskStatus {
    client.server_info().await.expect("answers while the disk is full").disk
}

/// Appends one record as soon as it is taken; how long that took. A file system gives the space of a deleted file back in
/// its own time, and the broker looks once a second.
async fn append_when_there_is_room(topic: &mut Topic, producers: &mut ProducerServiceClient<Channel>) -> Duration {
    let begun = Instant::now();
    let mut attempts = tokio::time::interval(Duration::from_millis(20));
    while begun.elapsed() < Duration::from_secs(30) {
        attempts.tick().await;
        match topic.append(producers, 200_000).await {
            Ok(()) => return begun.elapsed(),
            Err(status) => assert_disk_full(&status),
        }
    }
    panic!("there is room, and nobody notices");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_tmpfs_refuses_appends_and_nothing_else() {
    fill_and_free(Kind::Tmpfs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_ext4_refuses_appends_and_nothing_else() {
    fill_and_free(Kind::Ext4).await;
}

async fn fill_and_free(kind: Kind) {
    let Some(disk) = SmallDisk::mount(kind) else { return };
    let broker = launch(&disk).start();
    let (client, mut producers) = (broker.client().await, produce_client(&broker).await);
    let mut load = Topic::create(&client, "load").await;
    let mut spare = Topic::create(&client, "spare").await;
    for _ in 0..20 {
        spare.append(&mut producers, 200_000).await.expect("there is room");
    }

    assert_disk_full(&load.fill(&mut producers).await);
    let full = disk_of(&client).await;
    assert!(full.refuses_produce && full.free_bytes > FREE_BYTES_MIN / 2, "{full:?}");
    load.check(&client, 0).await;
    spare.check(&client, 0).await;
    let mut late = Topic::create(&client, "late").await;
    assert_disk_full(&late.append(&mut producers, 200_000).await.expect_err("no room for a first record either"));
    for offset in 1..50 {
        commit(&client, &load, offset).await;
    }

    // Room by deleting records: whole segments of the beginning.
    let start = client.delete_records(&load.name, 0, Offset(30)).await.expect("records can be deleted").0;
    assert_eq!(start, 30);
    append_when_there_is_room(&mut load, &mut producers).await;
    assert!(!disk_of(&client).await.refuses_produce);
    load.check(&client, start).await;
    late.append(&mut producers, 1).await.expect("a refusal has left nothing in the way");

    // Room by deleting a topic.
    assert_disk_full(&load.fill(&mut producers).await);
    client.delete_topic(&spare.name).await.expect("a topic can be deleted");
    append_when_there_is_room(&mut load, &mut producers).await;
    load.check(&client, start).await;
    let refused = client.topic(&spare.name).await.expect_err("it is gone");
    assert_eq!(reason_of(&refused), "TOPIC_NOT_FOUND");

    // Room by retention, which goes on although the disk is full.
    assert_disk_full(&load.fill(&mut producers).await);
    let keep_less = TopicSettings { retention_bytes: Some(1 << 20), ..TopicSettings::default() };
    client.update_topic(&load.name, 0, &keep_less, &[]).await.expect("a topic can be altered");
    let resumed = append_when_there_is_room(&mut load, &mut producers).await;
    let keep_all = TopicSettings { retention_bytes: Some(0), ..TopicSettings::default() };
    client.update_topic(&load.name, 0, &keep_all, &[]).await.expect("a topic can be altered");
    let (_, partitions) = client.topic(&load.name).await.expect("the topic is there");
    let start = partitions[0].log_start_offset.0;
    load.check(&client, start).await;

    // Killed while it is full, the broker comes back with everything, and is as full as before.
    assert_disk_full(&load.fill(&mut producers).await);
    broker.kill();
    let broker = launch(&disk).start();
    let (client, mut producers) = (broker.client().await, produce_client(&broker).await);
    load.check(&client, start).await;
    late.check(&client, 0).await;
    assert_disk_full(&load.fill(&mut producers).await);
    commit(&client, &load, 60).await;
    broker.stop();

    // And stopped while it is full, as well.
    let broker = launch(&disk).start();
    load.check(&broker.client().await, start).await;
    broker.stop();
    println!(
        "{kind:?}: {} records acknowledged, 0 lost; refused with {} bytes free; taken again {resumed:?} after retention",
        load.sizes.len() + late.sizes.len() + spare.sizes.len(),
        full.free_bytes
    );
}
