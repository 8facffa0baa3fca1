//! One process: binds its doors, opens the broker, serves, and closes all in the other order.

use crate::admin::{self, Inspect, Readiness};
use crate::announce::{Ready, announce};
use crate::broker::{Broker, BrokerError, BrokerOptions, ScrubOptions};
use crate::clock::{AdvancingClock, SharedClock, SystemClock};
use crate::config::Config;
use crate::grpc::{self, DoorOptions, Listener};
use crate::metrics::{Metrics, Readings};
use crate::process_limits::ProcessLimits;
use crate::shutdown::{RemovedAtExit, Shutdown};
use crate::storage::data_dir::DataDir;
use crate::storage::real_file_system::RealFileSystem;
use crate::topic::Catalog;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;

/// Why the broker could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}; is another broker running? choose another address with --{flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// There is no place for the data of an ephemeral broker.
    #[error("cannot make a temporary directory")]
    Temporary(#[source] std::io::Error),
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] BrokerError),
    /// The gRPC door failed.
    #[error("the gRPC server failed")]
    Grpc(#[from] tonic::transport::Error),
    /// A log failed in a way that only a restart mends. What was acknowledged is safe.
    #[error("stopped, because what the disk holds is no longer certain: {0}")]
    Disk(String),
}

/// Serves until `shutdown`, then drains and closes.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), ServeError> {
    let metrics = Arc::new(Metrics::default());
    let limits = ProcessLimits::raise();
    let open_files_max = limits.open_files_max(config.limits.open_files_max);
    let connections_max = limits.connections_max(config.limits.connections_max, open_files_max);
    tracing::info!(files = limits.files, maps = limits.maps, open_files_max, connections_max, "limits of this process");
    let listen = config.broker.listen;
    let listen_failed = |source| ServeError::Listen { address: listen, flag: "listen", source };
    let listener = Listener::bind(listen, connections_max, Arc::clone(&metrics)).await;
    let listener = listener.map_err(listen_failed)?;
    let listen = listener.local_addr().map_err(listen_failed)?;

    let inspector = Arc::new(Inspector { broker: OnceLock::new(), shutdown: shutdown.clone() });
    let address = config.broker.admin;
    let admin_failed = |source| ServeError::Listen { address, flag: "admin", source };
    let admin_socket = TcpListener::bind(address).await.map_err(admin_failed)?;
    let admin_address = admin_socket.local_addr().map_err(admin_failed)?;
    let door: Arc<dyn Inspect> = Arc::clone(&inspector) as _;
    let admin_door = tokio::spawn(admin::serve(admin_socket, Arc::clone(&metrics), door));

    // Kept to the end: dropping it deletes an ephemeral broker's data.
    let temporary = if config.broker.ephemeral { Some(temporary_directory(&shutdown)?) } else { None };
    let data_dir = temporary.as_ref().map_or(config.broker.data_dir.clone(), |dir| dir.path().to_owned());
    let options = broker_options(&config, data_dir.clone(), open_files_max);
    let fs = Arc::new(RealFileSystem);
    let clock: SharedClock =
        if config.broker.manual_clock { Arc::new(AdvancingClock::default()) } else { Arc::new(SystemClock) };
    let broker = Broker::open(options, fs, clock, metrics, shutdown.clone()).await?;
    let _ = inspector.broker.set(Arc::clone(&broker));
    broker.start_upkeep(Duration::from_millis(config.broker.retention_check_ms));
    announce(&ready(&broker, &config, listen, admin_address, data_dir));

    let options = DoorOptions { streams_per_connection_max: config.limits.streams_per_connection_max };
    tokio::select! {
        ended = grpc::serve(listener, Arc::clone(&broker), options) => ended?,
        () = shutdown.overdue() => tracing::warn!("calls under way were given up, the drain took too long"),
        cause = broker.failure() => return Err(ServeError::Disk(cause)),
    }
    let closed = broker.close().await;
    admin_door.abort();
    closed?;
    tracing::info!("stopped: everything is on disk");
    Ok(())
}

/// Whether a data directory that exists could be served: its format is known and its catalog is whole. Reads only.
pub fn check_data_dir(path: &Path) -> Result<(), ServeError> {
    DataDir::check(&RealFileSystem, path).map_err(BrokerError::Files)?;
    Catalog::load(&RealFileSystem, &path.join("catalog.json")).map_err(BrokerError::Files)?;
    Ok(())
}

fn temporary_directory(shutdown: &Shutdown) -> Result<RemovedAtExit, ServeError> {
    let made = tempfile::Builder::new().prefix("millstream-").tempdir().map_err(ServeError::Temporary)?;
    Ok(shutdown.remove_at_exit(made.keep()))
}

fn broker_options(config: &Config, data_dir: PathBuf, open_files_max: usize) -> BrokerOptions {
    BrokerOptions {
        data_dir,
        ephemeral: config.broker.ephemeral,
        auto_create_topics: config.broker.auto_create_topics,
        storage_threads: config.storage_threads(),
        open_files_max,
        default_partitions: config.topics.default_partitions,
        topic_defaults: config.topics.options.clone(),
        produce_in_flight_bytes_max: config.limits.produce_in_flight_bytes_max,
        disk_free_bytes_min: config.broker.disk_free_bytes_min,
        group_offsets_retention_ms: config.groups.offsets_retention_ms,
        scrub: ScrubOptions {
            bytes_per_second: config.broker.scrub_bytes_per_second,
            interval_ms: config.broker.scrub_interval_ms,
        },
    }
}

fn ready(broker: &Broker, config: &Config, listen: SocketAddr, admin: SocketAddr, data_dir: PathBuf) -> Ready {
    let (topics, _) = broker.list_topics("", "", usize::MAX, false);
    Ready {
        listen,
        admin,
        data_dir,
        ephemeral: config.broker.ephemeral,
        topics: topics.len(),
        partitions: topics.iter().map(|topic| topic.entry.partitions as usize).sum(),
        durability: config.topics.options.durability,
    }
}

/// What the admin door sees, also before there is a broker.
struct Inspector {
    broker: OnceLock<Arc<Broker>>,
    shutdown: Shutdown,
}

impl Inspect for Inspector {
    fn readiness(&self) -> Readiness {
        if self.broker.get().is_none() { Readiness::Starting } else { Readiness::from(&self.shutdown) }
    }

    fn readings(&self) -> Pin<Box<dyn Future<Output = Readings> + Send + '_>> {
        Box::pin(async {
            match self.broker.get() {
                Some(broker) => broker.readings().await,
                None => Readings::default(),
            }
        })
    }
}
