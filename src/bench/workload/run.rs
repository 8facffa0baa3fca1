//! One measured stretch of a workload: its stage, its crew, and the figures of its parts.

use super::super::crew::{Crew, Role};
use super::super::error::BenchError;
use super::super::latency::Latencies;
use super::super::pacer::Schedule;
use super::super::reading::{Goal, Lag, Read, read_all, read_over_and_over};
use super::super::result::{Measured, Part};
use super::super::sending::{Pace, SendPlan, Sent, send};
use super::super::stage::{Length, RunClock, Span, Stage, conduct};
use super::super::tally::{Begin, Tally};
use super::super::target::{ReadFrom, ReaderOptions, SenderOptions, Target};
use super::Bench;
use crate::units::format_duration_ms;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Partitions of a sender, with the records it sent to each.
pub(super) type Share = Vec<(u32, u64)>;

/// A backlog is written in batches of about this size, so many on their way.
const FILL_BATCH_BYTES: usize = 128 << 10;
const FILL_IN_FLIGHT: u32 = 4;

/// The number of the sender that writes backlogs; the others follow.
const FILLER: u32 = 0;

/// How fast senders send.
#[derive(Debug, Clone)]
pub(super) enum Rhythm {
    /// As acknowledgements come.
    Closed(Option<Lag>),
    /// So many records a second, all senders together.
    Rate(u64),
}

/// One measured stretch.
pub(super) struct Run<'b, T: Target> {
    bench: &'b Bench<T>,
    topic: &'b str,
    clock: RunClock,
    stage: Arc<Stage>,
    crew: Crew<T::Error>,
    goal: Arc<Goal>,
}

impl<'b, T: Target> Run<'b, T> {
    pub(super) fn new(bench: &'b Bench<T>, topic: &'b str) -> Self {
        let clock = RunClock::start();
        let stage = Arc::new(Stage::new(clock));
        let crew = Crew::new(&stage);
        Self { bench, topic, clock, stage, crew, goal: Goal::new() }
    }

    pub(super) fn stage(&self) -> &Arc<Stage> {
        &self.stage
    }

    pub(super) fn clock(&self) -> RunClock {
        self.clock
    }

    /// Opens all senders, then lets them begin together.
    pub(super) async fn start_senders(
        &mut self,
        shares: &[Share],
        rhythm: &Rhythm,
    ) -> Result<(), BenchError<T::Error>> {
        let load = &self.bench.load;
        let linger = match rhythm {
            Rhythm::Closed(_) => load.linger,
            Rhythm::Rate(_) => Some(load.linger.unwrap_or(Duration::ZERO)),
        };
        let options = SenderOptions {
            topic: self.topic.to_owned(),
            in_flight: load.in_flight,
            batch_records: load.batch_records,
            record_bytes: load.record_bytes,
            linger,
            idempotent: load.idempotent,
        };
        let mut senders = Vec::with_capacity(shares.len());
        for _ in shares {
            let sender = self.bench.target.open_sender(&options).await;
            senders.push(sender.map_err(BenchError::system("opening a producer"))?);
        }
        let start_ns = self.clock.now_ns();
        for (number, (sender, share)) in (0..).zip(senders.into_iter().zip(shares)) {
            let pace = match rhythm {
                Rhythm::Closed(lag) => Pace::Closed { lag: lag.clone() },
                Rhythm::Rate(rate) => Pace::Open(Schedule::new(start_ns, *rate, number, load.producers)),
            };
            let plan = SendPlan {
                stage: Arc::clone(&self.stage),
                clock: self.clock,
                sender: FILLER + 1 + number,
                partitions: share.clone(),
                record_bytes: load.record_bytes,
                batch_records: load.batch_records,
                in_flight: load.in_flight as usize,
                pace,
            };
            self.crew.sender(number, send(sender, plan));
        }
        Ok(())
    }

    /// Opens a reader that follows the topic, and lets it begin.
    pub(super) async fn start_reader(
        &mut self,
        who: String,
        from: ReadFrom,
        group: Option<String>,
        lag: Option<(Lag, usize)>,
    ) -> Result<(), BenchError<T::Error>> {
        let options = ReaderOptions { topic: self.topic.to_owned(), group, from };
        let reader = self.bench.target.open_reader(&options).await.map_err(BenchError::system("subscribing"))?;
        let begin = if from == ReadFrom::Beginning { Begin::AtZero } else { Begin::Anywhere };
        let tally = self.tally(begin).with_latencies();
        self.crew.reader(Role::Tail, read_all(reader, who, tally, Arc::clone(&self.goal), lag));
        Ok(())
    }

    /// Lets a reader read what is there, again and again; each time in a new group, if in one.
    pub(super) fn start_backlog_reader(&mut self, who: String, records: u64, in_groups: bool) {
        let (target, topic) = (self.bench.target.clone(), self.topic.to_owned());
        let (name, passes) = (who.replace(' ', "-"), AtomicU32::new(0));
        let open = move || {
            let (target, topic) = (target.clone(), topic.clone());
            let group = in_groups.then(|| format!("{topic}-{name}-{}", passes.fetch_add(1, Ordering::Relaxed)));
            let options = ReaderOptions { topic, group, from: ReadFrom::Beginning };
            async move { target.open_reader(&options).await }
        };
        let tally = self.tally(Begin::AtZero);
        let reading = read_over_and_over::<T::Reader, _>(open, records, who, tally, Arc::clone(&self.stage));
        self.crew.reader(Role::Backlog, reading);
    }

    fn tally(&self, begin: Begin) -> Tally {
        let load = &self.bench.load;
        Tally::new(&self.stage, self.clock, load.producers + 1, load.record_bytes, begin)
    }

    /// Conducts the only stretch of a workload, and tells whoever waits.
    pub(super) async fn measure(&mut self) -> Result<Span, BenchError<T::Error>> {
        let length = self.bench.load.length;
        let ms = |time: Duration| format_duration_ms(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        (self.bench.notice)(&format!("measuring for {} after {}", ms(length.duration), ms(length.warm_up)));
        self.conduct(length).await
    }

    pub(super) async fn conduct(&mut self, length: Length) -> Result<Span, BenchError<T::Error>> {
        let process_id = self.bench.target.process_id();
        let conductor = conduct(Arc::clone(&self.stage), length, process_id, self.bench.stop.clone());
        self.crew.work(conductor).await
    }

    /// Waits for all, and checks that readers at the end saw what was acknowledged.
    pub(super) async fn finish(mut self) -> Result<Finished, BenchError<T::Error>> {
        let sent = self.crew.senders_done().await?;
        let acked = sent.iter().map(|sent| sent.acked).sum();
        self.goal.set(acked);
        let (tail, backlog): (Vec<_>, Vec<_>) =
            self.crew.readers_done().await?.into_iter().partition(|(role, _)| *role == Role::Tail);
        let reads = |reads: Vec<(Role, Read)>| reads.into_iter().map(|(_, read)| read).collect();
        let finished = Finished { sent, acked, tail: reads(tail), backlog: reads(backlog) };
        for read in &finished.tail {
            read.check(acked)?;
        }
        Ok(finished)
    }
}

/// What everyone in a stretch has done.
pub(super) struct Finished {
    pub(super) sent: Vec<Sent>,
    pub(super) acked: u64,
    tail: Vec<Read>,
    backlog: Vec<Read>,
}

impl Finished {
    /// The shares of the senders, moved on.
    pub(super) fn shares(&self) -> Vec<Share> {
        self.sent.iter().map(|sent| sent.partitions.clone()).collect()
    }

    /// Figures of what the senders did.
    pub(super) fn produced(&self, seconds: f64, record_bytes: usize) -> Part {
        let acked = self.sent.iter().map(|sent| sent.acked_measured).sum();
        let mut part = Part::new("produce", acked, seconds, record_bytes);
        part.latency = merged(self.sent.iter().map(|sent| &sent.latencies)).and_then(|all| all.summary());
        part.owed = self.sent.iter().map(|sent| sent.owed).sum();
        part
    }

    /// Figures of what the readers at the end did.
    pub(super) fn followed(&self, seconds: f64, record_bytes: usize) -> Part {
        part_of("tail", &self.tail, seconds, record_bytes)
    }

    /// Figures of what the readers of old records did.
    pub(super) fn read_back(&self, name: &str, seconds: f64, record_bytes: usize) -> Part {
        part_of(name, &self.backlog, seconds, record_bytes)
    }
}

fn part_of(name: &str, reads: &[Read], seconds: f64, record_bytes: usize) -> Part {
    let records = reads.iter().map(|read| read.counts.records_measured).sum();
    let mut part = Part::new(name, records, seconds, record_bytes);
    part.latency = merged(reads.iter().filter_map(|read| read.latencies.as_ref())).and_then(|all| all.summary());
    part
}

fn merged<'l>(latencies: impl Iterator<Item = &'l Latencies>) -> Option<Latencies> {
    latencies.fold(None, |all, some| {
        let mut all: Latencies = all.unwrap_or_default();
        all.merge(some);
        Some(all)
    })
}

/// The figures of a stretch; what was used is divided by the records of the last part.
pub(super) fn measured(span: &Span, parts: Vec<Part>) -> Measured {
    let reads = parts.iter().filter(|part| part.name != "produce");
    let records = match reads.map(|part| part.records).sum() {
        0 => parts.iter().map(|part| part.records).sum(),
        read => read,
    };
    Measured { seconds: span.seconds, parts, broker: span.system, client: span.client, records }
}

/// Checks that the topic holds what was acknowledged, if the system can say.
pub(super) async fn check_count<T: Target>(
    bench: &Bench<T>,
    topic: &str,
    acked: u64,
) -> Result<(), BenchError<T::Error>> {
    let found = bench.target.record_count(topic).await.map_err(BenchError::system("counting records"))?;
    match found {
        Some(found) if found != acked => {
            Err(BenchError::Miscounted { who: "the topic holds".to_owned(), acked, found })
        }
        _ => Ok(()),
    }
}

/// A backlog that grows.
pub(super) struct Filler<'b, T> {
    bench: &'b Bench<T>,
    topic: &'b str,
    share: Share,
    pub(super) records: u64,
}

impl<'b, T: Target> Filler<'b, T> {
    pub(super) fn new(bench: &'b Bench<T>, topic: &'b str) -> Self {
        let share = (0..bench.load.partitions).map(|partition| (partition, 0)).collect();
        Self { bench, topic, share, records: 0 }
    }

    /// Writes about so many bytes of records, into all partitions evenly.
    pub(super) async fn write(&mut self, bytes: u64) -> Result<(), BenchError<T::Error>> {
        let load = &self.bench.load;
        let batch_records = u32::try_from(FILL_BATCH_BYTES / load.record_bytes).unwrap_or(u32::MAX).max(1);
        let blocks = bytes.div_ceil(u64::from(batch_records) * load.record_bytes as u64);
        let options = SenderOptions {
            topic: self.topic.to_owned(),
            in_flight: FILL_IN_FLIGHT,
            batch_records,
            record_bytes: load.record_bytes,
            linger: None,
            idempotent: load.idempotent,
        };
        let sender = self.bench.target.open_sender(&options).await.map_err(BenchError::system("opening a producer"))?;
        let clock = RunClock::start();
        let plan = SendPlan {
            stage: Arc::new(Stage::new(clock)),
            clock,
            sender: FILLER,
            partitions: self.share.clone(),
            record_bytes: load.record_bytes,
            batch_records,
            in_flight: FILL_IN_FLIGHT as usize,
            pace: Pace::Blocks(blocks),
        };
        let mut stop = self.bench.stop.clone();
        let sent = tokio::select! {
            sent = send(sender, plan) => sent?,
            () = stop.wait() => {
                return Err(BenchError::Stopped("while the backlog was written"));
            }
        };
        self.records += sent.acked;
        self.share = sent.partitions;
        Ok(())
    }
}
