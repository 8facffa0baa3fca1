//! Being told to stop: Ctrl-C, or the signal that a service manager sends.
//!
//! Both mean the same to a command: finish what is begun, say how far it came, and go.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for the next signal to stop. Signals that came before the call do not count.
pub(super) async fn interrupt() {
    // Without a handler the signal ends the process in its own way, which is an end too.
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
