//! Rounds of a disk that fails while records are appended, and a broker that is started again on the same mount.
//!
//! After a failed sync the kernel drops the error and keeps the bytes: a second sync succeeds, and whoever reads sees
//! what is not on the disk. So a broker must neither try again nor believe what it reads after a restart. What it serves
//! is therefore compared with the disk itself, from a copy taken below the file system.

use crate::broker::{Broker, Launch, connect};
use crate::faults::actor::{Actor, GROUP, Order};
use crate::faults::lines::Lines;
use crate::faults::observed::{Observed, Partition};
use crate::faults::random::Random;
use crate::nbd_disk::NbdDisk;
use millstream::client::ClientError;
use millstream::client::admin::TopicSettings;
use millstream::types::Durability;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const PARTITIONS: u32 = 3;

/// Everything that was asked or acknowledged, ever.
const AT_THE_END: u64 = u64::MAX;

/// What all rounds found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) rounds: u64,
    /// Records acknowledged as synced.
    pub(crate) acked: usize,
    /// Rounds after which the file system had to be mounted again.
    pub(crate) remounts: u64,
    /// What was acknowledged and is not served, or served and was never sent.
    pub(crate) lost: Vec<String>,
    /// What is served and is not on the disk.
    pub(crate) phantoms: Vec<String>,
    /// Brokers that did not end as they should, answers that they should not give, partitions offline.
    pub(crate) wrong: Vec<String>,
}

impl Findings {
    pub(crate) fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.phantoms.is_empty() && self.wrong.is_empty()
    }
}

/// Runs rounds, until something is found: what comes after a broken promise says nothing new.
pub(crate) async fn run(launch: impl Fn(&Path) -> Launch, directory: &Path, seed: u64, rounds: u64) -> Findings {
    let mut disk = NbdDisk::failing(directory);
    let launch = launch(&disk.data_dir());
    let broker = launch.start();
    let moment = AtomicU64::new(0);
    let actor = Actor::new(broker.address(), seed, move || moment.fetch_add(1, Ordering::Relaxed)).await;
    let (lines, random) = (Lines::new(seed), Random::new(seed ^ 0xe10));
    let mut run = Run { actor, lines, random, findings: Findings::default() };
    run.create_topics().await;
    let mut broker = Some(broker);
    for round in 0..rounds {
        run.findings.rounds += 1;
        run.append_while_healthy().await;
        run.fail(broker.take().expect("it runs"), &disk).await;
        disk.heal();
        if disk.has_given_up() {
            run.findings.remounts += 1;
            disk.remount();
        }
        let restarted = match launch.try_start() {
            Ok(restarted) => restarted,
            Err(ended) => {
                run.findings.wrong.push(format!("round {round}: the broker does not start again: {}", ended.stderr));
                break;
            }
        };
        run.actor.reconnect(restarted.address()).await;
        run.compare_with_history_and_medium(round, &disk).await;
        broker = Some(restarted);
        if !run.findings.is_clean() {
            break;
        }
    }
    let synced = |ack: &(u64, Durability)| ack.1 == Durability::Synced;
    run.findings.acked = run.actor.history.sends.iter().filter_map(|send| send.ack).filter(synced).count();
    run.findings
}

struct Run {
    actor: Actor,
    lines: Lines,
    random: Random,
    findings: Findings,
}

impl Run {
    async fn create_topics(&mut self) {
        let settings = TopicSettings { segment_bytes: Some(1 << 20), ..TopicSettings::default() };
        self.actor.create_topic("synced", PARTITIONS, &settings).await.expect("created");
    }

    /// A few records, each for a partition of its own choice; now and then so large that a segment is full.
    fn orders(&mut self) -> Vec<Order> {
        (0..=self.random.below(5))
            .map(|_| {
                let partition = u32::try_from(self.random.below(PARTITIONS.into())).expect("small");
                let len = if self.random.percent(15) { 190_000 } else { 10 + self.random.below(6_000) };
                Order { life: 0, partition, len: usize::try_from(len).expect("64-bit"), durability: None }
            })
            .collect()
    }

    async fn append_while_healthy(&mut self) {
        for _ in 0..5 {
            let orders = self.orders();
            let failures = self.actor.produce(&orders).await;
            assert!(failures.is_empty(), "the disk is healthy: {failures:?}");
        }
        self.commit().await.expect("the disk is healthy");
    }

    /// Commits up to the end of a partition, if that is new.
    async fn commit(&mut self) -> Result<(), ClientError> {
        let partition = u32::try_from(self.random.below(PARTITIONS.into())).expect("small");
        let end = self.actor.end(0, partition);
        let is_new = self.actor.history.commits.iter().all(|mark| mark.partition != partition || mark.offset < end);
        if is_new { self.actor.commit(0, partition, end).await } else { Ok(()) }
    }

    /// Trips the disk and appends. No answer may be an acknowledgement, and the broker must end and say why.
    async fn fail(&mut self, broker: Broker, disk: &NbdDisk) {
        disk.trip();
        // Something else than an append may be the first to fail.
        let failed = match self.random.below(8) {
            0 | 1 => self.commit().await,
            2 => {
                let name = format!("new-{}", self.findings.rounds);
                let settings = TopicSettings::default();
                self.actor.create_topic(&name, 1, &settings).await.map(drop)
            }
            3 => {
                let end = self.actor.end(0, 0);
                self.actor.delete_records(0, 0, end - end.min(3)).await
            }
            _ => Ok(()),
        };
        self.note(failed.as_ref().err());
        let (orders, first) = (self.orders(), self.actor.history.sends.len());
        let failures = self.actor.produce(&orders).await;
        let mut is_in_doubt = false;
        for status in failures {
            let error = status.into();
            self.note(Some(&error));
            is_in_doubt |= !says_that_nothing_was_done(&error);
        }
        let acked = self.actor.history.sends[first..].iter().filter(|send| send.ack.is_some()).count();
        if acked > 0 || !is_in_doubt {
            // Whether that was a lie shows when the disk is looked at. And where not even a new segment could be begun,
            // nothing is in doubt. This broker will not end by itself.
            broker.kill();
            return;
        }
        let ended = broker.wait();
        // When ext4 itself met the error first, it takes no more writes.
        let cause = |line: &str| line.contains("Input/output error") || line.contains("Read-only file system");
        let says_why = ended.stderr.lines().any(|line| line.starts_with("millstream: ") && cause(line));
        if ended.code != Some(1) || !says_why {
            self.findings.wrong.push(format!("the broker ended with {:?}: {}", ended.code, ended.stderr));
        }
    }

    /// What an error says while the disk fails: that the outcome is unknown, or that nothing was done, which is held to.
    fn note(&mut self, error: Option<&ClientError>) {
        let is_honest = match error {
            None | Some(ClientError::ConnectionLost { .. }) => true,
            Some(error @ ClientError::Refused(refusal)) => {
                let is_unknown = ["OUTCOME_UNKNOWN", "GROUPS_STOPPED"].contains(&refusal.reason.as_str());
                is_unknown || says_that_nothing_was_done(error)
            }
            Some(_) => false,
        };
        if !is_honest {
            self.findings.wrong.push(format!("an append to a failing disk: {error:?}"));
        }
    }

    async fn compare_with_history_and_medium(&mut self, round: u64, disk: &NbdDisk) {
        let served = match Observed::of(&self.actor.client, GROUP, &self.lines).await {
            Ok(served) => served,
            Err(why) => return self.findings.lost.push(format!("round {round}: {why}")),
        };
        let judgement = self.actor.history.judge(&served, AT_THE_END);
        let in_round = |what: String| format!("round {round}: {what}");
        self.findings.lost.extend(judgement.broken.into_iter().map(in_round));
        self.findings.wrong.extend(judgement.refused.into_iter().map(in_round));

        let medium = disk.medium();
        let broker = match Launch::new(&medium.data_dir()).try_start() {
            Ok(broker) => broker,
            // What the broker before vouched for is not there.
            Err(ended) => {
                let what = format!("round {round}: the disk itself cannot be served: {}", ended.stderr);
                return self.findings.phantoms.push(what);
            }
        };
        let on_disk = Observed::of(&connect(broker.address()).await, GROUP, &self.lines).await;
        broker.kill();
        match on_disk {
            Ok(on_disk) => self.findings.phantoms.extend(phantoms(&served, &on_disk).into_iter().map(in_round)),
            Err(why) => self.findings.wrong.push(format!("round {round}: the disk itself: {why}")),
        }
    }
}

fn says_that_nothing_was_done(error: &ClientError) -> bool {
    let says_so = |word: &String| word == "true";
    error.refusal().is_some_and(|refusal| refusal.metadata.get("no_side_effects").is_some_and(says_so))
}

/// What is served and is not on the disk.
fn phantoms(served: &Observed, on_disk: &Observed) -> Vec<String> {
    let mut found = Vec::new();
    for (topic, partitions) in &served.topics {
        let none = Vec::new();
        let below = on_disk.topics.get(topic).unwrap_or(&none);
        for (number, partition) in partitions.iter().enumerate() {
            let (Partition::Serves { records, .. }, Some(Partition::Serves { records: durable, .. })) =
                (partition, below.get(number))
            else {
                found.push(format!("{topic}/{number} is {partition:?} and, on the disk, {:?}", below.get(number)));
                continue;
            };
            if !durable.starts_with(records) {
                let (served, durable) = (records.len(), durable.len());
                found.push(format!("{topic}/{number} serves {served} records, {durable} are on the disk"));
            }
        }
    }
    for (at, offset) in &served.commits {
        if on_disk.commits.get(at) < Some(offset) {
            found.push(format!("the group is at {offset} in {at:?}, and at {:?} on the disk", on_disk.commits.get(at)));
        }
    }
    found
}
