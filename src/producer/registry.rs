//! The handle by which everyone else gets and checks identities.
//!
//! Changes are made one at a time: decided, made durable, applied, and only then answered. Each life of a named producer
//! has a semaphore, and every batch that is queued holds a permit of it until it is answered; the next life takes them
//! all before its identity is given out, and so waits for what is still under way.

use super::error::ProducerError;
use super::journal_entries::{encode, replay};
use super::state::{Event, Identities, Identity, ProducerName};
use crate::clock::SharedClock;
use crate::partition::journal::{Journal, JournalEntry};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Batches of one producer that may be under way; more than the broker's in-flight budget has room for.
const UNDER_WAY_MAX: u32 = 1 << 28;

/// The identities of producers.
pub struct ProducerRegistry {
    state: RwLock<State>,
    journal: Arc<dyn Journal>,
    clock: SharedClock,
    /// Held over a change, from its decision until it is durable and applied.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    identities: Identities,
    /// The present life of each named producer that was seen since the start.
    lives: HashMap<ProducerName, Arc<Semaphore>>,
}

impl std::fmt::Debug for ProducerRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProducerRegistry").field("state", &self.state).finish_non_exhaustive()
    }
}

impl ProducerRegistry {
    /// Takes up the state that `replayed` (every entry of the journal, oldest first) describes.
    pub fn start(
        journal: Arc<dyn Journal>,
        replayed: &[JournalEntry],
        clock: SharedClock,
    ) -> Result<Self, ProducerError> {
        let state = State { identities: replay(replayed)?, lives: HashMap::new() };
        Ok(Self { state: RwLock::new(state), journal, clock, changing: tokio::sync::Mutex::default() })
    }

    /// An identity for a producer: the next life of this name, or one that nobody else has. When it returns, no batch
    /// of an earlier life of the name is appended any more.
    pub async fn init(&self, name: Option<ProducerName>) -> Result<Identity, ProducerError> {
        if name.is_none()
            && let Some(identity) = self.write().identities.reserved_id()
        {
            return Ok(identity);
        }
        let changing = self.changing.lock().await;
        let Some(name) = name else { return self.fresh().await };
        let needs_id = self.read().identities.needs_id(&name);
        let fresh = if needs_id { Some(self.fresh().await?.id) } else { None };
        let (identity, before) = self.next_life(&name, fresh).await?;
        // Others may get their identities while this one waits.
        drop(changing);
        if let Some(before) = before {
            drop(before.acquire_many(UNDER_WAY_MAX).await);
        }
        Ok(identity)
    }

    /// Whether a batch with this identity may be queued. For a named producer: a permit to be held until the batch is
    /// answered.
    pub fn admit(&self, identity: Identity) -> Result<Option<OwnedSemaphorePermit>, ProducerError> {
        // The permit is taken under the lock: the next life is put in place under it, and then waits for all permits.
        let permit_of = |life: &Arc<Semaphore>| Arc::clone(life).try_acquire_owned().ok();
        {
            let state = self.read();
            let Some(name) = state.identities.admit(identity)? else { return Ok(None) };
            if let Some(life) = state.lives.get(name) {
                return Ok(permit_of(life));
            }
        }
        // The first batch of a named producer since the start.
        let mut state = self.write();
        let Some(name) = state.identities.admit(identity)?.cloned() else { return Ok(None) };
        Ok(permit_of(state.lives.entry(name).or_insert_with(new_life)))
    }

    /// The whole durable state as entries that replace everything the journal holds so far. To be called while nobody
    /// else calls.
    pub fn snapshot(&self) -> Vec<JournalEntry> {
        self.read().identities.snapshot().iter().map(encode).collect()
    }

    /// An id that nobody has; more are reserved if need be. The caller holds `changing`.
    async fn fresh(&self) -> Result<Identity, ProducerError> {
        loop {
            let reserve = {
                let mut state = self.write();
                if let Some(identity) = state.identities.reserved_id() {
                    return Ok(identity);
                }
                state.identities.decide_reserve()
            };
            self.journal(std::slice::from_ref(&reserve)).await?;
            self.write().identities.apply(&reserve);
        }
    }

    /// Makes the next life of a name durable and the present one; also the life before it. The caller holds `changing`.
    async fn next_life(
        &self,
        name: &ProducerName,
        fresh: Option<crate::types::ProducerId>,
    ) -> Result<(Identity, Option<Arc<Semaphore>>), ProducerError> {
        let events = {
            let state = self.read();
            let now_ms = self.clock.now_ms();
            // A name that was seen since the start may be in use however long ago it was asked for.
            state.identities.decide_named(name, fresh, now_ms, |name| state.lives.contains_key(name))?
        };
        self.journal(&events).await?;
        let mut state = self.write();
        for event in &events {
            state.identities.apply(event);
        }
        let before = state.lives.insert(name.clone(), new_life());
        let taken = events.iter().find_map(|event| match event {
            Event::NameTaken { named, .. } => Some(named.identity),
            _ => None,
        });
        Ok((taken.expect("it was decided that the name is taken"), before))
    }

    async fn journal(&self, events: &[Event]) -> Result<(), ProducerError> {
        let written = self.journal.append(events.iter().map(encode).collect()).await;
        written.map_err(|error| ProducerError::Unavailable { cause: error.to_string() })
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_life() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(UNDER_WAY_MAX as usize))
}
