//! What queues handed out, what was said about it, and what became of each message.
//!
//! A message is an offset of a log, for one queue. A delivery is heard when a worker gets it; what is said about it is
//! noted before it is sent and when it is confirmed. So a settlement that was only asked for may or may not have
//! happened, and a delivery that nobody heard may have counted: both are given the benefit of the doubt.

use super::checker::QueueCounts;
use super::event::{Delivered, Letter, Said};
use super::logs::Logs;
use super::payload::key_of;
use super::{Anomaly, Event};
use std::collections::{BTreeMap, HashMap};

/// All queues of a history.
#[derive(Debug, Default)]
pub(super) struct Queues {
    by_number: BTreeMap<u16, Queue>,
    workers: HashMap<u32, Worker>,
    downs: u32,
    pub(super) counts: QueueCounts,
}

#[derive(Debug)]
struct Queue {
    name: String,
    attempts_max: u32,
    keeps_order: bool,
    /// Records with other keys are none of its messages; empty = all are.
    only_keys: Vec<u32>,
    messages: HashMap<(u16, u64), Message>,
    /// The messages of each key that were heard and whose end nobody has asked for, in a queue that keeps order.
    unresolved: HashMap<(u16, u32), Vec<u64>>,
    /// The furthest message of each key that was heard.
    furthest: HashMap<(u16, u32), u64>,
    /// Every message of a log below this was looked at, when it was done.
    done_below: BTreeMap<u16, u64>,
    /// Done, and only a dead letter explains it.
    needs_letter: Vec<(u16, u64)>,
    /// The first message was not known to be done when the last one of its key was handed out: only a dead
    /// letter explains it, after attempts that nobody heard.
    overtaken: Vec<(u16, u64, u64)>,
    /// Those from before the queue was last audited: their letters are among those that are read after that.
    to_judge: Vec<(u16, u64, u64)>,
    /// Messages of each log whose ack was confirmed, and how many those were when the queue was about to be asked.
    acked: BTreeMap<u16, u64>,
    acked_before: BTreeMap<u16, u64>,
    /// How many messages of a log are done, below the frontier of the queue, as it says.
    to_account: Vec<(u16, u64, u64)>,
}

/// Someone who takes messages: a stream, or calls whose leases end by time.
#[derive(Debug)]
struct Worker {
    opened_after: u32,
    is_stream: bool,
    is_open: bool,
}

#[derive(Debug, Default)]
struct Message {
    deliveries: Vec<Delivery>,
    acked: Option<u32>,
    /// Acks that were asked for and not refused.
    acks: u32,
    rejects: u32,
    has_letter: bool,
}

#[derive(Debug)]
struct Delivery {
    worker: u32,
    attempt: u32,
    /// Downs before it was heard.
    heard_after: u32,
    kept_until_ms: u64,
    said: Option<Said>,
}

type Found<'a> = &'a mut dyn FnMut(Anomaly);

impl Queues {
    pub(super) fn take(&mut self, event: &Event, logs: &Logs, found: Found<'_>) {
        match event {
            Event::Down | Event::Cut => self.downs += 1,
            Event::Queue { queue, name, attempts_max, keeps_order, only_keys } => {
                self.by_number.insert(*queue, Queue::new(name, *attempts_max, *keeps_order, only_keys));
            }
            Event::WorkerOpened { worker, is_stream } => {
                let opened = Worker { opened_after: self.downs, is_stream: *is_stream, is_open: true };
                self.workers.insert(*worker, opened);
            }
            Event::WorkerClosed { worker } => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.is_open = false;
                }
            }
            // What they are told of from now on was sent before, and others may have it by then.
            Event::Frozen => self.workers.values_mut().for_each(|worker| worker.is_open = false),
            Event::Received(delivered) => {
                self.counts.received += 1;
                self.receive(*delivered, logs, found);
            }
            Event::SettleAsked { worker, queue, log, offset, attempt, said } => {
                self.asked(*worker, *queue, (*log, *offset), *attempt, *said);
            }
            Event::SettleDone { queue, log, offset, attempt, said } => {
                self.counts.settled += 1;
                if *said == Said::Ack {
                    self.acked(*queue, (*log, *offset), *attempt, logs, found);
                }
            }
            Event::SettleRepeated { count } => self.counts.repeats += u64::from(*count),
            Event::SettleRefused { queue, log, offset, said } => {
                let queue = self.by_number.get_mut(queue).expect("a queue is named first");
                let message = queue.messages.get_mut(&(*log, *offset)).expect("it was received");
                self.counts.refused += 1;
                message.acks -= u32::from(*said == Said::Ack);
                message.rejects -= u32::from(*said == Said::Reject);
            }
            Event::QueueAsked { queue } => {
                let queue = self.by_number.get_mut(queue).expect("a queue is named first");
                queue.acked_before = queue.acked.clone();
            }
            Event::QueueAudited { queue, log, done_below, frontier, open } => {
                let queue = self.by_number.get_mut(queue).expect("a queue is named first");
                queue.check_done(*log, *done_below, logs, found);
                queue.to_account.push((*log, *frontier, frontier.saturating_sub(*open)));
            }
            Event::DeadLetters { queue, letters } => {
                let queue = self.by_number.get_mut(queue).expect("a queue is named first");
                self.counts.dead += queue.check_letters(letters, logs, found);
                queue.check_accounts(logs, found);
            }
            Event::Drained { queue, log, end } => {
                let queue = self.by_number.get_mut(queue).expect("a queue is named first");
                let done = queue.done_below.get(log).copied().unwrap_or_default();
                if done < *end {
                    let (log, name) = (logs.name(*log), queue.name.clone());
                    found(Anomaly::NotDone { queue: name, log, done, end: *end });
                }
            }
            _ => {}
        }
    }

    fn receive(&mut self, heard: Delivered, logs: &Logs, found: Found<'_>) {
        let Self { by_number, workers, downs, .. } = self;
        let Delivered { worker, queue, log, offset, record, attempt, heard_ms, kept_until_ms } = heard;
        let queue = by_number.get_mut(&queue).expect("a queue is named first");
        let at = (log, offset);
        let place = |queue: &Queue| (queue.name.clone(), logs.name(at.0), at.1);
        let (name, log, offset) = place(queue);
        if queue.attempts_max > 0 && attempt > queue.attempts_max {
            found(Anomaly::TooManyAttempts { queue: name.clone(), log: log.clone(), offset, attempt });
        }
        if queue.matches(at, record.map(key_of), logs) == Some(false) {
            found(Anomaly::FilterIgnored { queue: name.clone(), log: log.clone(), offset });
        }
        let message = queue.messages.entry(at).or_default();
        if message.acked.is_some_and(|acked| attempt > acked) || (message.has_letter && attempt > queue.attempts_max) {
            found(Anomaly::DeliveredWhenDone { queue: name.clone(), log: log.clone(), offset, attempt });
        }
        let Worker { opened_after, is_open, .. } = *workers.get(&worker).expect("a worker is opened first");
        // What a broker that is gone, or a connection that was cut or frozen, has sent may be heard late.
        let is_overtaken = message.deliveries.iter().any(|other| other.attempt > attempt);
        let is_late = opened_after < *downs || !is_open || is_overtaken;
        for other in &message.deliveries {
            let holder = workers.get(&other.worker).expect("it was opened");
            let is_with_stream = holder.is_stream && holder.is_open && holder.opened_after == *downs;
            let is_held = is_with_stream || other.kept_until_ms > heard_ms;
            if is_held && other.said.is_none() && other.heard_after == *downs && !is_late {
                let (one, other) = (other.worker, worker);
                found(Anomaly::TwoLeases { queue: name.clone(), log: log.clone(), offset, one, other });
            }
            let is_of_earlier_life = other.heard_after < opened_after;
            let least = if other.said == Some(Said::Release) { other.attempt } else { other.attempt + 1 };
            if is_of_earlier_life && attempt < least {
                let before = other.attempt;
                found(Anomaly::AttemptsLost { queue: name.clone(), log: log.clone(), offset, before, attempt });
            }
        }
        let alike = message.deliveries.iter().filter(|other| other.attempt == attempt);
        let (alike, released) = (alike.clone().count(), alike.filter(|d| d.said == Some(Said::Release)).count());
        if alike > released {
            found(Anomaly::AttemptRepeated { queue: name.clone(), log: log.clone(), offset, attempt });
        }
        message.deliveries.push(Delivery { worker, attempt, heard_after: *downs, kept_until_ms, said: None });
        if queue.keeps_order
            && !is_late
            && let Some(record) = record
        {
            queue.check_order(at, key_of(record), &log, found);
        }
    }

    fn asked(&mut self, worker: u32, number: u16, at: (u16, u64), attempt: u32, said: Said) {
        let queue = self.by_number.get_mut(&number).expect("a queue is named first");
        let message = queue.messages.get_mut(&at).expect("it was received");
        message.acks += u32::from(said == Said::Ack);
        message.rejects += u32::from(said == Said::Reject);
        let mut deliveries = message.deliveries.iter_mut().rev();
        let delivery = deliveries.find(|delivery| delivery.worker == worker && delivery.attempt == attempt);
        delivery.expect("it was received").said = Some(said);
        if said == Said::Ack || said == Said::Reject {
            for open in queue.unresolved.iter_mut().filter(|((log, _), _)| *log == at.0).map(|(_, open)| open) {
                open.retain(|offset| *offset != at.1);
            }
        }
    }

    fn acked(&mut self, number: u16, at: (u16, u64), attempt: u32, logs: &Logs, found: Found<'_>) {
        self.counts.acked += 1;
        let queue = self.by_number.get_mut(&number).expect("a queue is named first");
        let name = queue.name.clone();
        let message = queue.messages.get_mut(&at).expect("it was received");
        if message.deliveries.iter().any(|delivery| delivery.attempt > attempt) {
            found(Anomaly::AckOfOldLease { queue: name.clone(), log: logs.name(at.0), offset: at.1, attempt });
        }
        if message.has_letter {
            found(Anomaly::AckedAndDead { queue: name, log: logs.name(at.0), offset: at.1 });
        }
        if message.acked.replace(attempt).is_none() {
            *queue.acked.entry(at.0).or_default() += 1;
        }
    }
}

impl Queue {
    fn new(name: &str, attempts_max: u32, keeps_order: bool, only_keys: &[u32]) -> Self {
        Self {
            name: name.to_owned(),
            attempts_max,
            keeps_order,
            only_keys: only_keys.to_vec(),
            messages: HashMap::new(),
            unresolved: HashMap::new(),
            furthest: HashMap::new(),
            done_below: BTreeMap::new(),
            needs_letter: Vec::new(),
            overtaken: Vec::new(),
            to_judge: Vec::new(),
            acked: BTreeMap::new(),
            acked_before: BTreeMap::new(),
            to_account: Vec::new(),
        }
    }

    /// Whether what is there is a message of this queue, by the key it was heard with or else is known to have.
    fn matches(&self, (log, offset): (u16, u64), key: Option<u32>, logs: &Logs) -> Option<bool> {
        match key {
            _ if self.only_keys.is_empty() => Some(true),
            Some(key) => Some(self.only_keys.contains(&key)),
            None => Some(self.only_keys.contains(&logs.key_at(log, offset)?)),
        }
    }

    /// Everything that was handed out or passed over is done or open: enqueued = acked + dead + passed over + open.
    fn check_accounts(&mut self, logs: &Logs, found: Found<'_>) {
        for (log, frontier, done) in std::mem::take(&mut self.to_account) {
            let least = self.acked_before.get(&log).copied().unwrap_or_default();
            // What is not known to match may have been passed over.
            let may_be_done = |offset: &u64| {
                let message = self.messages.get(&(log, *offset));
                message.is_some_and(|message| message.acks > 0 || message.has_letter)
                    || self.matches((log, *offset), None, logs) != Some(true)
            };
            let most = (0..frontier).filter(may_be_done).count() as u64;
            if done < least || done > most {
                let (queue, log) = (self.name.clone(), logs.name(log));
                found(Anomaly::Unaccounted { queue, log, done, least, most });
            }
        }
    }

    /// Of one key nothing comes before what stands in front of it is done, and nothing comes again behind what follows.
    fn check_order(&mut self, (log, offset): (u16, u64), key: u32, name: &str, found: Found<'_>) {
        let furthest = self.furthest.entry((log, key)).or_default();
        let unresolved = self.unresolved.entry((log, key)).or_default();
        if *furthest > offset {
            let (queue, log) = (self.name.clone(), name.to_owned());
            found(Anomaly::Overtaken { queue, log, offset, by: *furthest });
        }
        let ahead: Vec<u64> = unresolved.iter().copied().filter(|open| *open < offset).collect();
        unresolved.retain(|open| !ahead.contains(open));
        self.overtaken.extend(ahead.into_iter().map(|ahead| (log, ahead, offset)));
        *furthest = offset.max(*furthest);
        if !unresolved.contains(&offset) {
            unresolved.push(offset);
        }
    }

    /// Everything below is done: by an ack that somebody asked for, because it does not match, or else by a dead letter,
    /// which must then be there.
    fn check_done(&mut self, log: u16, done_below: u64, logs: &Logs, found: Found<'_>) {
        self.to_judge.append(&mut self.overtaken);
        let before = self.done_below.get(&log).copied().unwrap_or_default();
        if done_below < before {
            let (queue, log) = (self.name.clone(), logs.name(log));
            found(Anomaly::DoneWentBack { queue, log, before, done_below });
        }
        for offset in before..done_below {
            let message = self.messages.get(&(log, offset));
            if !message.is_some_and(|message| message.acks > 0 || message.has_letter) {
                self.needs_letter.push((log, offset));
            }
        }
        self.done_below.insert(log, done_below.max(before));
    }

    /// All dead letters there are, read after the queue was looked at. Gives how many messages are dead that were not
    /// known to be.
    fn check_letters(&mut self, letters: &[Letter], logs: &Logs, found: Found<'_>) -> u64 {
        let mut new = 0;
        for Letter { log, offset, attempts, is_rejected, record, .. } in letters {
            let is_none = self.matches((*log, *offset), None, logs) == Some(false);
            let message = self.messages.entry((*log, *offset)).or_default();
            new += u64::from(!message.has_letter);
            message.has_letter = true;
            let (queue, name) = (self.name.clone(), logs.name(*log));
            if is_none {
                let why = "it does not match".to_owned();
                found(Anomaly::LetterInvented { queue, log: name, offset: *offset, why });
            } else if logs.record_at(*log, *offset) != *record {
                found(Anomaly::LetterInvented {
                    queue,
                    log: name,
                    offset: *offset,
                    why: "it is another record".into(),
                });
            } else if message.acked.is_some() {
                found(Anomaly::AckedAndDead { queue, log: name, offset: *offset });
            } else if *is_rejected && message.rejects == 0 {
                let why = "nobody rejected it".to_owned();
                found(Anomaly::LetterInvented { queue, log: name, offset: *offset, why });
            } else if !*is_rejected && *attempts < self.attempts_max {
                let why = format!("it had {attempts} attempts of {}", self.attempts_max);
                found(Anomaly::LetterInvented { queue, log: name, offset: *offset, why });
            }
        }
        for (log, offset) in std::mem::take(&mut self.needs_letter) {
            let has_letter = self.messages.get(&(log, offset)).is_some_and(|message| message.has_letter);
            match self.matches((log, offset), None, logs) {
                Some(true) if !has_letter => {
                    found(Anomaly::MessageLost { queue: self.name.clone(), log: logs.name(log), offset });
                }
                Some(_) => {}
                // It came after the logs were read; the next reading says what it is.
                None => self.needs_letter.push((log, offset)),
            }
        }
        for (log, offset, by) in std::mem::take(&mut self.to_judge) {
            if !self.messages.get(&(log, offset)).is_some_and(|message| message.has_letter) {
                found(Anomaly::Overtaken { queue: self.name.clone(), log: logs.name(log), offset, by });
            }
        }
        new
    }
}
