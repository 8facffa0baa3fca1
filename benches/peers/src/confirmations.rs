//! Acknowledgements that are on their way, chunk by chunk, to systems that confirm many with one answer.

use futures_util::FutureExt as _;
use std::collections::VecDeque;
use std::future::{Future, pending, ready};
use std::pin::Pin;

/// Most chunks whose confirmation is not there.
const CHUNKS_MAX: usize = 8;

/// The confirmation of a chunk: of how many messages.
type Confirmation<E> = Pin<Box<dyn Future<Output = Result<u64, E>> + Send>>;

/// Confirmations that are waited for, oldest first.
pub struct Confirmations<E>(VecDeque<Confirmation<E>>);

impl<E> Default for Confirmations<E> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<E: Send + 'static> Confirmations<E> {
    /// Whether another chunk may be on its way.
    pub fn has_room(&self) -> bool {
        self.0.len() < CHUNKS_MAX
    }

    /// Sends a chunk's acknowledgements: the first step of the future does that (unconstrained, so that tokio asks for no
    /// pause before it). The rest is for [`Self::oldest`].
    pub fn begin(&mut self, confirmation: impl Future<Output = Result<u64, E>> + Send + 'static) -> Result<(), E> {
        let mut confirmation: Confirmation<E> = Box::pin(tokio::task::unconstrained(confirmation));
        match (&mut confirmation).now_or_never() {
            Some(confirmed) => self.0.push_back(Box::pin(ready(Ok(confirmed?)))),
            None => self.0.push_back(confirmation),
        }
        Ok(())
    }

    /// How many messages the oldest chunk had, once it is confirmed; without any it waits for ever. May be interrupted.
    pub async fn oldest(&mut self) -> Result<u64, E> {
        let Some(confirmation) = self.0.front_mut() else { return pending().await };
        let confirmed = confirmation.await;
        self.0.pop_front();
        confirmed
    }
}
