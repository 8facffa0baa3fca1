//! The two loops of a sender: as fast as the acknowledgements come, and at a rate whatever comes.
//!
//! Closed loop: so many blocks are on their way; the next is sent when the oldest is acknowledged. Its latency is from
//! handing the block to the client until the acknowledgement of all of it. Open loop: records are due at times of a
//! [`Schedule`]; the latency of each is from that time, however late it was sent.

use super::error::BenchError;
use super::latency::Latencies;
use super::pacer::{PreciseTimer, Schedule, TOGETHER};
use super::payload::BlockBuffer;
use super::reading::Lag;
use super::stage::{Phase, RunClock, Stage};
use super::target::Sender;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A sender that is too far ahead of a reader looks again after this long.
const LAG_PAUSE: Duration = Duration::from_millis(1);

/// What one sender is to do.
#[derive(Debug, Clone)]
pub(super) struct SendPlan {
    pub(super) stage: Arc<Stage>,
    pub(super) clock: RunClock,
    /// Its number, from 0.
    pub(super) sender: u32,
    /// The partitions it sends to in turn, and how many records it sent to each before.
    pub(super) partitions: Vec<(u32, u64)>,
    pub(super) record_bytes: usize,
    pub(super) batch_records: u32,
    pub(super) in_flight: usize,
    pub(super) pace: Pace,
}

/// How fast.
#[derive(Debug, Clone)]
pub(super) enum Pace {
    /// As fast as acknowledgements come, and not too far ahead of readers that are to keep up.
    Closed { lag: Option<Lag> },
    /// As fast as acknowledgements come, until this many blocks were sent, whatever the stage.
    Blocks(u64),
    /// At times of the schedule.
    Open(Schedule),
}

/// What one sender has done.
#[derive(Debug)]
pub(super) struct Sent {
    /// Acknowledged, from the beginning.
    pub(super) acked: u64,
    /// Acknowledged in the measured time.
    pub(super) acked_measured: u64,
    /// Records that were due and not sent when the time was over: the system did not keep up.
    pub(super) owed: u64,
    pub(super) latencies: Latencies,
    /// As in the plan, moved on.
    pub(super) partitions: Vec<(u32, u64)>,
}

/// One sender at work.
struct Sending<S> {
    sender: S,
    plan: SendPlan,
    buffer: BlockBuffer,
    turn: usize,
    /// Of each block on its way: when it was meant to be sent, first and last record, and how many records.
    waiting: VecDeque<(u64, u64, u32)>,
    sent: Sent,
}

/// Sends until the stage is over (or the blocks are), then waits for what is on its way.
pub(super) async fn send<S: Sender>(sender: S, plan: SendPlan) -> Result<Sent, BenchError<S::Error>> {
    let buffer = BlockBuffer::new(plan.sender, plan.batch_records, plan.record_bytes);
    let sent =
        Sent { acked: 0, acked_measured: 0, owed: 0, latencies: Latencies::new(), partitions: plan.partitions.clone() };
    let pace = plan.pace.clone();
    let mut sending = Sending { sender, plan, buffer, turn: 0, waiting: VecDeque::new(), sent };
    match pace {
        Pace::Closed { lag } => sending.closed(u64::MAX, lag.as_ref()).await?,
        Pace::Blocks(blocks) => sending.closed(blocks, None).await?,
        Pace::Open(schedule) => sending.open(schedule).await?,
    }
    while !sending.waiting.is_empty() {
        sending.settle().await?;
    }
    Ok(sending.sent)
}

impl<S: Sender> Sending<S> {
    async fn closed(&mut self, blocks_max: u64, lag: Option<&Lag>) -> Result<(), BenchError<S::Error>> {
        let mut blocks = 0;
        while blocks < blocks_max && (blocks_max < u64::MAX || self.plan.stage.phase() != Phase::Over) {
            if self.waiting.len() >= self.plan.in_flight {
                self.settle().await?;
                continue;
            }
            if let Some(lag) = lag {
                if lag.is_too_far() {
                    if self.waiting.is_empty() {
                        tokio::time::sleep(LAG_PAUSE).await;
                    } else {
                        self.settle().await?;
                    }
                    continue;
                }
                lag.sends_block();
            }
            let now_ns = self.plan.clock.now_ns();
            self.block(self.plan.batch_records, |_| now_ns, now_ns, now_ns).await?;
            blocks += 1;
        }
        Ok(())
    }

    async fn open(&mut self, schedule: Schedule) -> Result<(), BenchError<S::Error>> {
        let timer = PreciseTimer::new().map_err(BenchError::Timer)?;
        let together_ns = u64::try_from(TOGETHER.as_nanos()).unwrap_or(u64::MAX);
        let mut done: u64 = 0;
        loop {
            let now_ns = self.plan.clock.now_ns();
            let due = schedule.due_by(now_ns) - done;
            if self.plan.stage.phase() == Phase::Over {
                self.sent.owed = due;
                return Ok(());
            }
            if due > 0 {
                let count = u32::try_from(due).unwrap_or(u32::MAX).min(self.plan.batch_records);
                let intended_ns = |number: u32| schedule.due_ns(done + u64::from(number));
                let (first, last) = (intended_ns(0), intended_ns(count - 1));
                self.block(count, intended_ns, first, last).await?;
                done += u64::from(count);
                continue;
            }
            let wait_ns = (schedule.due_ns(done) - now_ns).max(together_ns);
            tokio::select! {
                waited = timer.wait(wait_ns) => waited.map_err(BenchError::Timer)?,
                settled = self.sender.settled(), if !self.waiting.is_empty() => {
                    settled.map_err(BenchError::system("sending"))?;
                    self.take_settled();
                }
            }
        }
    }

    /// Sends one block to the partition whose turn it is.
    async fn block(
        &mut self,
        count: u32,
        intended_ns: impl Fn(u32) -> u64,
        first_ns: u64,
        last_ns: u64,
    ) -> Result<(), BenchError<S::Error>> {
        let (partition, sequence) = &mut self.sent.partitions[self.turn];
        let block = self.buffer.stamp(*sequence, count, intended_ns);
        self.sender.send(*partition, block).await.map_err(BenchError::system("sending"))?;
        *sequence += u64::from(count);
        self.turn = (self.turn + 1) % self.sent.partitions.len();
        self.waiting.push_back((first_ns, last_ns, count));
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), BenchError<S::Error>> {
        self.sender.settled().await.map_err(BenchError::system("sending"))?;
        self.take_settled();
        Ok(())
    }

    fn take_settled(&mut self) {
        let Some((first_ns, last_ns, count)) = self.waiting.pop_front() else {
            unreachable!("only what was sent is acknowledged");
        };
        let now_ns = self.plan.clock.now_ns();
        self.sent.acked += u64::from(count);
        let stage = &self.plan.stage;
        if stage.phase() == Phase::Measured {
            self.sent.acked_measured += u64::from(count);
        }
        let is_measured = match self.plan.pace {
            Pace::Open(_) => stage.measures(last_ns),
            Pace::Closed { .. } | Pace::Blocks(_) => stage.phase() == Phase::Measured,
        };
        if is_measured {
            // Records of one block of an open loop are due at most the width of the pacer apart, or are late together.
            let middle_ns = first_ns.midpoint(last_ns);
            self.sent.latencies.record(now_ns.saturating_sub(middle_ns), count.into());
        }
    }
}
