//! One process: opens the broker, then its doors, and closes them in the other order.

use crate::admin::{self, Inspect, Readiness};
use crate::announce::{Ready, announce};
use crate::config::Config;
use crate::metrics::{Metrics, Readings};
use crate::shutdown::Shutdown;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Why the broker could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
}

/// Serves until `shutdown`, then drains.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), ServeError> {
    let address = config.broker.admin;
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    announce(&Ready {
        listen: config.broker.listen,
        admin: listener.local_addr().map_err(failed)?,
        data_dir: config.broker.data_dir,
        ephemeral: config.broker.ephemeral,
        topics: 0,
        partitions: 0,
        durability: config.topics.options.durability,
    });
    let door = admin::serve(listener, Arc::new(Metrics::default()), Arc::new(Nothing(shutdown.clone())));
    tokio::select! {
        ended = door => ended.map_err(failed),
        () = shutdown.draining() => Ok(()),
    }
}

/// Stands where the broker will.
struct Nothing(Shutdown);

impl Inspect for Nothing {
    fn readiness(&self) -> Readiness {
        Readiness::from(&self.0)
    }

    fn readings(&self) -> Pin<Box<dyn Future<Output = Readings> + Send + '_>> {
        Box::pin(async { Readings::default() })
    }
}
