//! Being told to stop: Ctrl-C, or the signal that a service manager sends.
//!
//! Both mean the same to a command: finish what is begun, say how far it came, and go.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from when it is made. Who waits more than once keeps one: a signal between two waits is not missed.
#[derive(Debug)]
pub(super) struct Interrupts(Option<(Signal, Signal)>);

impl Interrupts {
    /// Begins to listen. Without a handler a signal ends the process in its own way, which is an end too.
    pub(super) fn listen() -> Self {
        Self(signal(SignalKind::terminate()).ok().zip(signal(SignalKind::interrupt()).ok()))
    }

    /// Waits for the next signal to stop, unless one came since the last wait.
    pub(super) async fn next(&mut self) {
        let Some((terminate, interrupt)) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

/// Waits for the next signal to stop. Signals that came before the call do not count.
pub(super) async fn interrupt() {
    Interrupts::listen().next().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, getpid, kill_process};

    /// A worker that was told to stop while it settled a message went on for ever: nobody listened at that moment.
    #[tokio::test]
    async fn a_signal_between_two_waits_is_not_missed() {
        let mut interrupts = Interrupts::listen();
        for signal in [Signal::TERM, Signal::INT] {
            kill_process(getpid(), signal).expect("a process may signal itself");
            interrupts.next().await;
        }
    }
}
