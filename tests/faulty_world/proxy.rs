//! Between clients and their broker, on the loopback: passes everything on, or only requests, or nothing, or cuts.
//!
//! It knows bytes and no calls. While replies are held back, requests go on to the broker, which carries them out; cut
//! then, their clients never hear of it, and ask again.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What is passed on. A connection lives in one epoch.
#[derive(Debug, Clone, Copy)]
struct State {
    requests: bool,
    replies: bool,
    epoch: u64,
}

/// A proxy that listens. Dropped, it cuts everything.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// Begins to pass on everything to the broker at `broker`.
    pub(crate) async fn start(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (state, states) = watch::channel(State { requests: true, replies: true, epoch: 0 });
        let serving = tokio::spawn(serve(listener, broker, states));
        Self { address, state, serving }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds everything back, both ways. Nobody is told.
    pub(crate) fn freeze(&self) {
        self.state.send_modify(|state| (state.requests, state.replies) = (false, false));
    }

    /// Passes on what was held back, and everything that follows.
    pub(crate) fn thaw(&self) {
        self.state.send_modify(|state| (state.requests, state.replies) = (true, true));
    }

    /// Holds back what the broker says.
    pub(crate) fn hold_replies(&self) {
        self.state.send_modify(|state| state.replies = false);
    }

    /// Closes every connection with what was held back on it. New ones pass on everything.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| *state = State { requests: true, replies: true, epoch: state.epoch + 1 });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, broker: SocketAddr, states: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let states = states.clone();
        connections.spawn(async move {
            // A broker that is gone refuses; then so does this.
            let Ok(broker) = TcpStream::connect(broker).await else { return };
            let _ = (client.set_nodelay(true), broker.set_nodelay(true));
            let ((from_client, to_client), (from_broker, to_broker)) = (client.into_split(), broker.into_split());
            let epoch = states.borrow().epoch;
            tokio::select! {
                () = pump(from_client, to_broker, states.clone(), epoch, |state| state.requests) => {}
                () = pump(from_broker, to_client, states, epoch, |state| state.replies) => {}
            }
        });
    }
}

/// Passes on bytes as long as that is allowed, until either side or the epoch ends.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut states: watch::Receiver<State>,
    epoch: u64,
    passes: fn(&State) -> bool,
) {
    let mut buffer = vec![0; 64 << 10];
    let mut ends = states.clone();
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            _ = ends.wait_for(|state| state.epoch != epoch) => return,
        };
        let state = states.wait_for(|state| state.epoch != epoch || passes(state)).await.map(|state| *state);
        if read == 0 || state.is_ok_and(|state| state.epoch != epoch) || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
