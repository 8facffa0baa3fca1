//! Random lives of schedules beside a model that is a plain map: nothing is lost, nothing is handed out early or twice at
//! a time, and a restart at any moment changes nothing but what is under way.

use super::entry::{Entry, Schedule, tombstone};
use super::error::ScheduleError;
use super::ids::{Place, ScheduleId};
use super::state::{Change, Now, Outcome, Replayed, Schedules, Stage};
use crate::partition::journal::JournalEntry;
use crate::types::{Offset, TopicName};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const IDS: u8 = 6;

#[derive(Debug, Clone)]
enum Step {
    Add(u8, i64),
    Cancel(u8),
    Replace(u8, i64),
    /// Another time for what was read a while ago.
    ReplaceStale(u8),
    Take(usize),
    /// The next one under way is delivered; `Some` = and comes again.
    Deliver(Option<i64>),
    PutOff,
    Pass(i64),
    SetClock(i64),
    Restart,
    List(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = || 0..IDS;
    let step = prop_oneof![
        6 => (id(), 0..100_i64).prop_map(|(id, due)| Step::Add(id, due)),
        2 => id().prop_map(Step::Cancel),
        2 => (id(), 0..100_i64).prop_map(|(id, due)| Step::Replace(id, due)),
        1 => id().prop_map(Step::ReplaceStale),
        5 => (1..4_usize).prop_map(Step::Take),
        4 => prop::option::of(0..200_i64).prop_map(Step::Deliver),
        2 => Just(Step::PutOff),
        3 => (0..3_000_i64).prop_map(Step::Pass),
        1 => (-50..200_i64).prop_map(Step::SetClock),
        1 => Just(Step::Restart),
        1 => (1..4_usize).prop_map(Step::List),
    ];
    prop::collection::vec(step, 1..80)
}

/// The state, the log it was made of, and what it should be.
struct World {
    state: Schedules,
    log: Vec<JournalEntry>,
    now: Now,
    model: BTreeMap<ScheduleId, Place>,
    under_way: BTreeSet<Place>,
}

fn id(number: u8) -> ScheduleId {
    ScheduleId::new(&format!("s{number}")).expect("valid")
}

fn entry(id: ScheduleId, due_ms: i64) -> Entry {
    let schedule = Schedule {
        topic: TopicName::new(if due_ms % 2 == 0 { "even" } else { "odd" }).expect("valid"),
        partition: None,
        due_ms,
        recurrence: None,
        created_at_ms: 0,
        delivered: 0,
        last_delivered_ms: None,
    };
    Entry { id, schedule, record: Bytes::from_static(b"\x12\x01x") }
}

impl World {
    fn new() -> Self {
        let now = Now { monotonic_ms: 0, wall_ms: 0 };
        Self { state: Schedules::default(), log: Vec::new(), now, model: BTreeMap::new(), under_way: BTreeSet::new() }
    }

    fn enact(&mut self, changes: &[Change]) {
        for change in changes {
            let offset = Offset(self.log.len() as u64);
            self.state.apply(change, offset);
            match change {
                Change::Set(entry) => {
                    self.model.insert(entry.id.clone(), Place { due_ms: entry.schedule.due_ms, offset });
                    self.log.push(entry.encode());
                }
                Change::Remove(id) => {
                    self.model.remove(id);
                    self.log.push(tombstone(id));
                }
            }
        }
    }

    fn is_under_way(&self, id: &ScheduleId) -> bool {
        self.model.get(id).is_some_and(|place| self.under_way.contains(place))
    }

    /// A change of one that exists is refused while it is under way, and else done.
    fn change(&mut self, id: &ScheduleId, decided: Result<Vec<Change>, ScheduleError>) {
        match decided {
            Ok(changes) => {
                assert!(self.model.contains_key(id) && !self.is_under_way(id));
                self.enact(&changes);
            }
            Err(ScheduleError::NotFound { .. }) => assert!(!self.model.contains_key(id)),
            Err(ScheduleError::UnderWay { .. }) => assert!(self.is_under_way(id)),
            Err(error) => panic!("{error}"),
        }
    }

    fn take(&mut self, most: usize) {
        for due in self.state.take_due(self.now, most, u64::MAX) {
            assert!(due.place.due_ms <= self.now.wall_ms, "early");
            assert!(self.model.values().any(|place| *place == due.place), "of nothing");
            assert!(self.under_way.insert(due.place), "twice");
        }
    }

    fn deliver(&mut self, again: Option<i64>) {
        let Some(place) = self.under_way.pop_first() else { return };
        let id = self.model.iter().find(|(_, found)| **found == place).map(|(id, _)| id.clone()).expect("it is there");
        let next = again.map(|due_ms| entry(id.clone(), due_ms));
        let changes = self.state.decide_outcomes(&[Outcome { id, place, next, delivered: true }]);
        assert_eq!(changes.len(), 1);
        self.enact(&changes);
    }

    fn restart(&mut self) {
        let mut replayed = Replayed::default();
        for (offset, entry) in (0..).zip(&self.log) {
            replayed.take(Offset(offset), &entry.key, entry.value.as_ref()).expect("it is ours");
        }
        self.state = replayed.0;
        self.under_way.clear();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Add(number, due_ms) => {
                let before = self.model.contains_key(&id(number));
                match self.state.decide_add(vec![entry(id(number), due_ms)], 0) {
                    Ok(changes) => {
                        assert!(!before);
                        self.enact(&changes);
                    }
                    Err(error) => assert!(before && matches!(error, ScheduleError::Exists { .. })),
                }
            }
            Step::Cancel(number) => self.change(&id(number), self.state.decide_cancel(&id(number))),
            Step::Replace(number, due_ms) => {
                let place = self.model.get(&id(number)).copied().unwrap_or(Place { due_ms, offset: Offset::ZERO });
                let decided = self.state.decide_replace(place, entry(id(number), due_ms));
                self.change(&id(number), decided.map(|changes| changes.expect("the place is the present one")));
            }
            Step::ReplaceStale(number) => {
                let stale = Place { due_ms: 0, offset: Offset(u64::MAX) };
                let decided = self.state.decide_replace(stale, entry(id(number), 7));
                assert!(!matches!(decided, Ok(Some(_))), "it is not what it was any more");
            }
            Step::Take(most) => self.take(most),
            Step::Deliver(again) => self.deliver(again),
            Step::PutOff => {
                if let Some(place) = self.under_way.pop_first() {
                    self.state.put_off(vec![(place, "no room".into())], self.now);
                }
            }
            Step::Pass(ms) => {
                self.now.monotonic_ms += ms.cast_unsigned();
                self.now.wall_ms += ms;
            }
            Step::SetClock(ms) => self.now.wall_ms = ms,
            Step::Restart => self.restart(),
            Step::List(most) => self.list(most),
        }
    }

    /// Page by page, everything in order.
    fn list(&self, most: usize) {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.state.list(None, after, most);
            found.extend(page.found.iter().map(|listed| listed.place));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let expected: BTreeSet<Place> = self.model.values().copied().collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        let even = self.state.list(Some(&TopicName::new("even").expect("valid")), None, 100);
        assert!(even.found.iter().all(|listed| listed.place.due_ms % 2 == 0));
    }

    fn check(&self) {
        self.state.check();
        for number in 0..IDS {
            let found = self.state.find(&id(number)).ok();
            assert_eq!(found.as_ref().map(|listed| listed.place), self.model.get(&id(number)).copied());
            let is_under_way = found.is_some_and(|listed| listed.stage == Stage::UnderWay);
            assert_eq!(is_under_way, self.is_under_way(&id(number)));
        }
        assert_eq!(self.state.counts().schedules, self.model.len() as u64);
    }

    /// With time enough, everything is handed out.
    fn drain(&mut self) {
        self.now = Now { monotonic_ms: self.now.monotonic_ms + 100_000, wall_ms: 100_000 };
        self.take(usize::MAX);
        assert_eq!(self.under_way.len(), self.model.len());
        while !self.under_way.is_empty() {
            self.deliver(None);
        }
        self.check();
        assert_eq!(self.state.next_due_in(self.now), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn schedules_are_what_the_model_says_and_all_of_them_come(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(&step);
            world.check();
        }
        world.restart();
        world.check();
        world.drain();
    }
}
