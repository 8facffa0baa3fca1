//! The numbers that make sending again safe: which identity and sequence each batch of a partition carries.
//!
//! Pure state, no I/O. A batch keeps its numbers however often it is sent, so the broker appends it once. Only batches
//! that are certainly not in the log get new ones: behind one that was refused for good, or when the broker has lost
//! what was before them. Under the same identity that is done only while nothing of the partition was on a stream that
//! broke: an old request that is still on its way could otherwise pass for a new one. Otherwise a fresh identity is
//! taken, and a named producer, which has only one, stops.

use super::batch::Batch;
use crate::client::{ClientError, Refusal};
use std::collections::{BTreeMap, VecDeque};

/// Batches of one partition that may be unanswered: the broker remembers as many.
const IN_FLIGHT_MAX: usize = 5;

/// With what a producer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: u64,
    pub(super) epoch: u32,
}

/// The numbers of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) identity: Identity,
    pub(super) base_sequence: u32,
}

/// What to do with a batch that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It has failed.
    Fail,
    /// It is sent again; `pause`: after a while, and nothing else before.
    Again { pause: bool },
    /// The producer has failed, with everything it holds.
    Stop,
}

/// What it takes to give new numbers to batches that need them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    Identity,
    /// A named producer cannot have another identity.
    Impossible,
}

#[derive(Debug)]
struct Lane {
    identity: Identity,
    next_sequence: u32,
    in_flight: usize,
    /// Something of it was on a stream that broke, and may still be on its way into the log.
    doubtful: bool,
    plan: Option<Plan>,
}

/// New numbers, once nothing of the lane is in flight.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// For the batches sealed from this one on.
    first: u64,
    /// Beginning with this sequence.
    from: u32,
    /// Not under the present identity.
    fresh: bool,
}

/// One lane for each partition.
#[derive(Debug)]
pub(super) struct Lanes {
    identity: Identity,
    is_named: bool,
    by_partition: BTreeMap<u32, Lane>,
    /// Some lane may have a plan.
    planned: bool,
}

impl Lanes {
    pub(super) fn new(identity: Identity, is_named: bool) -> Self {
        Self { identity, is_named, by_partition: BTreeMap::new(), planned: false }
    }

    /// Whether another batch may be sent to a partition.
    pub(super) fn has_room(&self, partition: u32) -> bool {
        self.by_partition.get(&partition).is_none_or(|lane| lane.in_flight < IN_FLIGHT_MAX && lane.plan.is_none())
    }

    /// A batch is about to be sent. It gets its numbers the first time.
    pub(super) fn stamp(&mut self, batch: &mut Batch) -> Stamp {
        let lane = self.lane(batch.partition);
        lane.in_flight += 1;
        *batch.stamp.get_or_insert_with(|| {
            let stamp = Stamp { identity: lane.identity, base_sequence: lane.next_sequence };
            lane.next_sequence = lane.next_sequence.wrapping_add(batch.record_count);
            stamp
        })
    }

    /// The broker has answered, whatever.
    pub(super) fn answered(&mut self, batch: &Batch) {
        let lane = self.lane(batch.partition);
        lane.in_flight = lane.in_flight.saturating_sub(1);
    }

    /// The records are in the log.
    pub(super) fn acknowledged(&mut self, batch: &Batch) {
        // It was never on a stream that broke, so everything that was came before it and is in the log.
        if !batch.in_doubt {
            self.lane(batch.partition).doubtful = false;
        }
    }

    /// The broker has refused. `earlier_waits`: a batch of the same partition, sealed before, is to be sent again.
    pub(super) fn refused(&mut self, batch: &mut Batch, error: &ClientError, earlier_waits: bool) -> Next {
        let is_named = self.is_named;
        self.planned = true;
        let lane = self.lane(batch.partition);
        let is_behind = earlier_waits || lane.plan.is_some();
        let Some(refusal) = error.refusal() else { return Next::Fail };
        let base = batch.stamp.map_or(0, |stamp| stamp.base_sequence);
        match refusal.reason.as_str() {
            "PRODUCER_FENCED" => Next::Stop,
            "OUT_OF_SEQUENCE" | "PRODUCER_UNKNOWN" if is_behind => Next::Again { pause: false },
            "OUT_OF_SEQUENCE" => match fact(refusal, "expected_sequence") {
                // The broker has less than we know to be acknowledged: it has lost that, and this batch is not there.
                Some(expected) if is_before(expected, base) => {
                    lane.plan(batch.sequence, expected, false);
                    Next::Again { pause: false }
                }
                _ if is_named => Next::Stop,
                _ => {
                    lane.plan(batch.sequence + 1, 0, true);
                    Next::Fail
                }
            },
            "PRODUCER_UNKNOWN" => {
                let never_given = fact(refusal, "base_sequence").is_none();
                let next = if batch.in_doubt { Next::Fail } else { Next::Again { pause: false } };
                let first = batch.sequence + u64::from(next == Next::Fail);
                lane.plan(first, 0, never_given || batch.in_doubt);
                next
            }
            "OUTCOME_UNKNOWN" => {
                batch.in_doubt = true;
                lane.doubtful = true;
                Next::Again { pause: true }
            }
            // The disk has failed and the broker stops; what became of the batch is known when it is back.
            "STORAGE_FAILED" if batch.in_doubt || earlier_waits => Next::Again { pause: true },
            _ if refusal.retryable => Next::Again { pause: true },
            _ => {
                lane.plan(batch.sequence + 1, base, false);
                Next::Fail
            }
        }
    }

    /// The stream broke: what was on it may or may not get into the log.
    pub(super) fn lost(&mut self, in_flight: &mut VecDeque<Batch>) {
        for batch in in_flight {
            batch.in_doubt = true;
            let lane = self.lane(batch.partition);
            (lane.in_flight, lane.doubtful) = (0, true);
        }
    }

    /// A batch that was to be sent again is not.
    pub(super) fn given_up(&mut self, batch: &Batch) {
        self.planned = true;
        let lane = self.lane(batch.partition);
        match batch.stamp {
            Some(stamp) if !batch.in_doubt => lane.plan(batch.sequence + 1, stamp.base_sequence, false),
            Some(_) => lane.doubtful = true,
            None => {}
        }
    }

    /// What is needed for [`Lanes::renumber`].
    pub(super) fn need(&self) -> Need {
        if !self.planned {
            return Need::Nothing;
        }
        let wants_identity = |lane: &Lane| lane.ready_plan().is_some_and(|plan| plan.fresh || lane.doubtful);
        match self.by_partition.values().any(wants_identity) {
            false => Need::Nothing,
            true if self.is_named => Need::Impossible,
            true => Need::Identity,
        }
    }

    /// Gives new numbers to those of `resend` that need them. Without a fresh identity only where the present one will
    /// do.
    pub(super) fn renumber(&mut self, resend: &mut VecDeque<Batch>, fresh: Option<Identity>) {
        if let Some(identity) = fresh {
            self.identity = identity;
        }
        if !std::mem::take(&mut self.planned) {
            return;
        }
        for (partition, lane) in &mut self.by_partition {
            self.planned |= lane.plan.is_some() && lane.in_flight > 0;
            let Some(plan) = lane.ready_plan() else { continue };
            match (plan.fresh || lane.doubtful, fresh) {
                (false, _) => lane.next_sequence = plan.from,
                (true, Some(identity)) => (lane.identity, lane.next_sequence) = (identity, 0),
                (true, None) => continue,
            }
            (lane.plan, lane.doubtful) = (None, false);
            for batch in resend.iter_mut() {
                if batch.partition == *partition && batch.sequence >= plan.first {
                    (batch.stamp, batch.in_doubt) = (None, false);
                }
            }
        }
    }

    fn lane(&mut self, partition: u32) -> &mut Lane {
        let identity = self.identity;
        self.by_partition.entry(partition).or_insert_with(|| Lane {
            identity,
            next_sequence: 0,
            in_flight: 0,
            doubtful: false,
            plan: None,
        })
    }
}

impl Lane {
    fn plan(&mut self, first: u64, from: u32, fresh: bool) {
        match &mut self.plan {
            // The earlier one covers all batches behind it.
            Some(plan) => plan.fresh |= fresh,
            plan => *plan = Some(Plan { first, from, fresh }),
        }
    }

    fn ready_plan(&self) -> Option<Plan> {
        self.plan.filter(|_| self.in_flight == 0)
    }
}

/// Whether a sequence comes before another; they count modulo 2^32.
fn is_before(sequence: u32, other: u32) -> bool {
    other.wrapping_sub(sequence).cast_signed() > 0
}

fn fact(refusal: &Refusal, name: &str) -> Option<u32> {
    refusal.metadata.get(name)?.parse().ok()
}
