//! Calls that wait for the reply to their request.
//!
//! ```text
//! Requests (the one owner) -> WaitingCall   one caller that waits; forgotten when it is dropped
//!                          -> Claim         one reply on its way; given back when it is dropped undelivered
//! ReplyToken                                what connects the two, as text in a header of the request
//! ```
//!
//! Promises: a call gets one reply at most, the first; a reply that counts as delivered is in the hands of its call; the
//! calls that wait are bounded, and so are those remembered as replied to. All of it is memory of one run: whoever asks
//! for a reply after a restart is told that nobody waits. Unknown here: records, topics, time. The broker appends, and
//! decides how long to wait.

mod error;
mod recent;
mod token;

pub use error::{RequestError, Unawaited};
pub use token::{CallId, ReplyTo, ReplyToken};

use crate::limits;
use crate::planted::{Bug, is_planted};
use bytes::Bytes;
use recent::RecentCalls;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use uuid::Uuid;

/// What a caller waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The encoded record.
    pub record: Bytes,
    /// Why the work has failed for good, if it has.
    pub failure: Option<String>,
}

/// Every call that waits for a reply. The lock is held for a few lines and never across an await.
#[derive(Debug)]
pub struct Requests {
    /// Names this run of the broker: calls of another one are over.
    run: Uuid,
    waiting_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    waiting: HashMap<CallId, oneshot::Sender<Reply>>,
    /// Those with a reply, or with one on its way.
    replied: RecentCalls,
}

/// The caller's side: dropped when it has its reply, or has gone.
#[derive(Debug)]
pub struct WaitingCall {
    requests: Arc<Requests>,
    token: ReplyToken,
    reply: oneshot::Receiver<Reply>,
}

/// The replier's side: nobody else can reply to this call while it lives.
#[derive(Debug)]
pub struct Claim {
    requests: Arc<Requests>,
    call: CallId,
    /// `None` if nobody waits.
    caller: Option<oneshot::Sender<Reply>>,
    is_settled: bool,
}

impl Default for Requests {
    fn default() -> Self {
        Self::new(limits::WAITING_REQUESTS_MAX, limits::REPLIED_REQUESTS_REMEMBERED)
    }
}

impl Requests {
    fn new(waiting_max: usize, remembered_max: usize) -> Self {
        let state = State { waiting: HashMap::new(), replied: RecentCalls::new(remembered_max) };
        Self { run: Uuid::new_v4(), waiting_max, state: Mutex::new(state) }
    }

    /// Begins to wait: the token of the call may be shown to anybody from now on.
    pub fn open(self: &Arc<Self>, reply_to: Option<ReplyTo>) -> Result<WaitingCall, RequestError> {
        let token = ReplyToken { run: self.run, call: CallId::random(), reply_to };
        let (caller, reply) = oneshot::channel();
        let mut state = self.state();
        if state.waiting.len() >= self.waiting_max {
            return Err(RequestError::TooManyWaiting { limit: self.waiting_max });
        }
        state.waiting.insert(token.call, caller);
        drop(state);
        Ok(WaitingCall { requests: Arc::clone(self), token, reply })
    }

    /// Takes the right to reply. A call that names a reply topic can be replied to when nobody waits for it, also in
    /// another run; any other one cannot.
    pub fn claim(self: &Arc<Self>, token: &ReplyToken) -> Result<Claim, RequestError> {
        let call = token.call;
        let mut state = self.state();
        if state.replied.contains(call) {
            return Err(RequestError::AlreadyGiven);
        }
        let waits = if is_planted(Bug::ReplyToAnotherCall) { state.any_but(call) } else { call };
        let caller = state.waiting.remove(&waits).filter(|caller| !caller.is_closed());
        if caller.is_none() && token.reply_to.is_none() {
            let cause = if token.run == self.run { Unawaited::CallerGone } else { Unawaited::BrokerRestarted };
            return Err(RequestError::NotAwaited { cause });
        }
        state.replied.insert(call);
        drop(state);
        Ok(Claim { requests: Arc::clone(self), call, caller, is_settled: false })
    }

    /// A panic while it was held leaves a map that is whole: each change of it is one call.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A call that waits, this one only if there is no other.
    fn any_but(&self, call: CallId) -> CallId {
        self.waiting.keys().copied().find(|other| *other != call).unwrap_or(call)
    }
}

impl WaitingCall {
    /// What the reply is to be given with.
    pub fn token(&self) -> &ReplyToken {
        &self.token
    }

    /// The reply, when it comes. May be interrupted.
    pub async fn reply(&mut self) -> Reply {
        match (&mut self.reply).await {
            Ok(reply) => reply,
            // A claim gives the sender back rather than dropping it while this side listens.
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops waiting, and answers what came at the last moment: a reply that its giver was told is delivered is here.
    pub fn give_up(mut self) -> Option<Reply> {
        self.reply.close();
        self.reply.try_recv().ok()
    }
}

impl Drop for WaitingCall {
    fn drop(&mut self) {
        // First, so that a claim that is given back at this moment sees it, or else is found below.
        self.reply.close();
        self.requests.state().waiting.remove(&self.token.call);
    }
}

impl Claim {
    /// Hands the reply over; whether its caller still waited. Either way this call has its reply now.
    pub fn deliver(mut self, reply: Reply) -> bool {
        self.is_settled = true;
        self.caller.take().is_some_and(|caller| caller.send(reply).is_ok())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let mut state = self.requests.state();
        state.replied.remove(self.call);
        if let Some(caller) = self.caller.take().filter(|caller| !caller.is_closed()) {
            state.waiting.insert(self.call, caller);
        }
    }
}

#[cfg(test)]
mod tests;
