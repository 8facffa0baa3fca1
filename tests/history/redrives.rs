//! Dead letters that were sent back: none is resolved without being there, and none comes twice but in doubt.
//!
//! A letter is an offset of the dead letter topic of a queue. Where it came back to, audits find in the logs, and after
//! that they read all letters with what their broker says of them: so a letter that is resolved is in a log by then. A
//! redrive that was cut off may have sent letters and not noted it; what it told of was noted.

use super::event::Letter;
use super::logs::Logs;
use super::{Anomaly, Event, RecordId};
use std::collections::{BTreeMap, BTreeSet};

/// The letters of all queues of a history.
#[derive(Debug, Default)]
pub(super) struct Redrives {
    by_queue: BTreeMap<u16, Letters>,
    /// Copies that audits have met.
    pub(super) redriven: u64,
}

#[derive(Debug, Default)]
struct Letters {
    by_place: BTreeMap<u64, State>,
    /// Redrives that were asked for, and those of them that did not end in order.
    asked: u32,
    in_doubt: u32,
    /// Copies that were not compared with their letters yet.
    unread: Vec<Copy>,
}

#[derive(Debug, Default)]
struct State {
    is_read: bool,
    told: Option<(u16, u64)>,
    places: BTreeSet<(u16, u64)>,
}

/// A record that says which letter it was.
#[derive(Debug, Clone, Copy)]
struct Copy {
    log: u16,
    offset: u64,
    record: Option<RecordId>,
    at: u64,
}

type Found<'a> = &'a mut dyn FnMut(Anomaly);

impl Redrives {
    pub(super) fn take(&mut self, event: &Event, logs: &Logs, found: Found<'_>) {
        match event {
            Event::RedriveAsked { queue } => {
                let letters = self.by_queue.entry(*queue).or_default();
                letters.asked += 1;
                letters.in_doubt += 1;
            }
            Event::RedriveTold { queue, at, log, offset } => {
                let letters = self.by_queue.entry(*queue).or_default();
                letters.by_place.entry(*at).or_default().told = Some((*log, *offset));
            }
            Event::RedriveDone { queue } => self.by_queue.entry(*queue).or_default().in_doubt -= 1,
            Event::CameBack { log, offset, record, queue, at } => {
                let copy = Copy { log: *log, offset: *offset, record: *record, at: *at };
                let letters = self.by_queue.entry(*queue).or_default();
                self.redriven += u64::from(letters.meet(*queue, copy, logs, found));
            }
            Event::DeadLetters { queue, letters } => {
                self.by_queue.entry(*queue).or_default().read(*queue, letters, logs, found);
            }
            _ => {}
        }
    }
}

impl Letters {
    /// Notes where a letter is; whether that is new.
    fn meet(&mut self, queue: u16, copy: Copy, logs: &Logs, found: Found<'_>) -> bool {
        let Copy { log, offset, at, .. } = copy;
        let state = self.by_place.entry(at).or_default();
        if !state.places.insert((log, offset)) {
            return false;
        }
        let most = 1 + self.in_doubt as usize;
        let why = match state.told {
            Some(told) if told < (log, offset) => format!("it was told of at {}", told.1),
            _ if state.places.len() > most => format!("{} copies, {most} explained", state.places.len()),
            _ => String::new(),
        };
        if !why.is_empty() {
            found(Anomaly::RedrivenAgain { queue, at, log: logs.name(log), offset, why });
        }
        self.unread.push(copy);
        true
    }

    /// All letters there are, after all logs were read.
    fn read(&mut self, queue: u16, letters: &[Letter], logs: &Logs, found: Found<'_>) {
        for copy in std::mem::take(&mut self.unread) {
            let letter = letters.iter().find(|letter| letter.at == copy.at);
            let why = match letter {
                _ if self.asked == 0 => "nobody asked for it",
                None => "there is no such letter",
                Some(letter) if letter.record != copy.record => "that is another record",
                Some(letter) if letter.log != copy.log => "that came from elsewhere",
                Some(_) => continue,
            };
            let Copy { log, offset, at, .. } = copy;
            found(Anomaly::RedriveInvented { queue, at, log: logs.name(log), offset, why: why.to_owned() });
        }
        let there: BTreeMap<u64, bool> = letters.iter().map(|letter| (letter.at, letter.is_resolved)).collect();
        for (at, is_resolved) in &there {
            let state = self.by_place.entry(*at).or_default();
            state.is_read = true;
            if *is_resolved && state.places.is_empty() {
                found(Anomaly::LetterLost { queue, at: *at, why: "it did not come back".to_owned() });
            }
        }
        for (at, state) in &self.by_place {
            let (at, is_resolved) = (*at, there.get(at).copied());
            if state.is_read && is_resolved.is_none() {
                found(Anomaly::LetterLost { queue, at, why: "it was read, and is not there".to_owned() });
            }
            let Some(told) = state.told else { continue };
            if is_resolved == Some(false) {
                found(Anomaly::LetterOpenAgain { queue, at });
            }
            if !state.places.contains(&told) {
                let why = format!("it is not at {} offset {}", logs.name(told.0), told.1);
                found(Anomaly::LetterLost { queue, at, why });
            }
        }
    }
}
