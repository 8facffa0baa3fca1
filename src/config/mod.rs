//! What the operator may choose: [`Config`], its defaults, and where each value came from.
//!
//! Sources, each overriding the one before: defaults, the file, environment variables, flags ([`load`]). A value that
//! is refused names its source, its key and what is allowed ([`ConfigError`]); an unknown key is an error, because a
//! misspelt limit that is silently ignored is no limit. Every key stands once in `keys.rs`, and once, explained, in
//! `config/millstream.toml`; a test holds the two together with the defaults here.
//!
//! Only the command line and the server read [`Config`]; every other module takes its own small options.

mod error;
mod keys;
mod load;

pub use error::{ConfigError, Origin};
pub use load::{Loaded, Setting, Sources, load};

use crate::limits;
use crate::topic::TopicOptions;
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Everything an operator may choose, checked.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The broker and its addresses.
    pub broker: BrokerConfig,
    /// Bounds on what clients may take of the broker.
    pub limits: LimitsConfig,
    /// What a topic is given when its creator does not say.
    pub topics: TopicsConfig,
    /// How consumer groups are kept.
    pub groups: GroupsConfig,
    /// What is written to standard error.
    pub log: LogConfig,
}

/// `[broker]`: where it keeps data, where it listens, how it stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the configuration")]
pub struct BrokerConfig {
    /// The data directory; relative to the working directory of the broker.
    pub data_dir: PathBuf,
    /// Address of the gRPC door. Port 0 = any free port.
    pub listen: SocketAddr,
    /// Address of the admin door (metrics, health). Port 0 = any free port.
    pub admin: SocketAddr,
    /// Serve on other than loopback addresses although there is neither TLS nor authentication.
    pub insecure_listen: bool,
    /// Keep data in a directory of its own that is deleted at the end; `data_dir` is not used.
    pub ephemeral: bool,
    /// Let the clock be moved forward by whoever asks. For tests: only with `ephemeral`.
    pub manual_clock: bool,
    /// Create a topic when a client first produces to it. Follows `ephemeral` when no source sets it.
    pub auto_create_topics: bool,
    /// Threads that serve connections; 0 = one for each core but one, see [`Config::network_threads`].
    pub network_threads: u32,
    /// Threads that do disk work; 0 = one for each core, see [`Config::storage_threads`].
    pub storage_threads: u32,
    /// How long a stop waits for calls under way.
    pub drain_timeout_ms: u64,
    /// How often retention looks for segments to delete.
    pub retention_check_ms: u64,
    /// Records are refused while less of the disk is free.
    pub disk_free_bytes_min: u64,
    /// How fast sealed segments are read again to find damage; 0 = not at all.
    pub scrub_bytes_per_second: u64,
    /// How long after one pass over all of them the next begins.
    pub scrub_interval_ms: u64,
}

/// `[limits]`: at a limit the broker answers `RESOURCE_EXHAUSTED` or stops reading; it never buffers past it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitsConfig {
    /// Connections open at one time.
    pub connections_max: u32,
    /// Calls open at one time on one connection.
    pub streams_per_connection_max: u32,
    /// Bytes of records that were received and are not answered yet, over all connections.
    pub produce_in_flight_bytes_max: u64,
    /// Segment files open at one time; 0 = half of what the system allows.
    pub open_files_max: u32,
}

/// `[topics]`: the defaults of new topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicsConfig {
    /// Partitions of a new topic.
    pub default_partitions: u32,
    /// Options of a new topic; each is a key of the same name.
    #[serde(flatten)]
    pub options: TopicOptions,
}

/// `[groups]`: how consumer groups are kept.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct GroupsConfig {
    /// Groups that nobody has used for so long are deleted with their committed offsets; 0 = never.
    pub offsets_retention_ms: u64,
}

/// `[log]`: what the broker says on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogConfig {
    /// The least important events that are still written.
    pub level: LogLevel,
    /// How they are written.
    pub format: LogFormat,
}

/// How important an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something is broken and needs a person.
    Error,
    /// Something is odd and may need a person.
    Warn,
    /// What an operator wants to know of a normal day.
    Info,
    /// What a developer wants to know of one call.
    Debug,
    /// Everything.
    Trace,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./millstream-data"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7171)),
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 7172)),
            insecure_listen: false,
            ephemeral: false,
            manual_clock: false,
            auto_create_topics: false,
            network_threads: 0,
            storage_threads: 0,
            drain_timeout_ms: 30_000,
            retention_check_ms: 5_000,
            disk_free_bytes_min: 64 << 20,
            scrub_bytes_per_second: limits::SCRUB_BYTES_PER_SECOND_DEFAULT,
            scrub_interval_ms: 7 * 86_400_000,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            streams_per_connection_max: 256,
            produce_in_flight_bytes_max: 256 << 20,
            open_files_max: 0,
        }
    }
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self { default_partitions: 1, options: TopicOptions::default() }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text }
    }
}

impl Config {
    /// How many threads serve connections: as configured, or one for each core but one, which is left to the threads
    /// that do disk work. A thread more than there are cores for costs each call a wake-up.
    pub fn network_threads(&self) -> usize {
        match self.broker.network_threads {
            0 => (cores() - 1).max(1),
            chosen => chosen as usize,
        }
    }

    /// How many threads do disk work: as configured, or one for each core, within 2 and 16. Below 2 one slow sync
    /// would hold every partition; above 16 the disk, not the threads, is what is waited for.
    pub fn storage_threads(&self) -> usize {
        match self.broker.storage_threads {
            0 => cores().clamp(2, 16),
            chosen => chosen as usize,
        }
    }

    /// Whether either door can be reached from another machine.
    pub fn is_exposed(&self) -> bool {
        !(self.broker.listen.ip().is_loopback() && self.broker.admin.ip().is_loopback())
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
