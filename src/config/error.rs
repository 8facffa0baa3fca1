//! Why a configuration was refused, and the source each value came from.
//!
//! Every message can be acted on without the manual: file and line (or variable, or flag), the key, the value, what
//! is allowed.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: the default.
    Default,
    /// A line of the configuration file, 1-based.
    File {
        /// The file.
        path: PathBuf,
        /// Its line.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line, such as `--listen`.
    Flag(&'static str),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}: not valid TOML: {what}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
        /// What the parser says.
        what: String,
    },
    /// No such key.
    #[error("{origin}: unknown key {key}; {advice}")]
    UnknownKey {
        /// Where it was given.
        origin: Origin,
        /// The key as given.
        key: String,
        /// The nearest key there is, or all there are.
        advice: String,
    },
    /// A value of the wrong type or out of bounds.
    #[error("{origin}: {key} is {value}; it must be {allowed}")]
    Value {
        /// Where it was given.
        origin: Origin,
        /// The key.
        key: String,
        /// The value as given.
        value: String,
        /// What is allowed, in words.
        allowed: String,
    },
    /// An address that other machines can reach, without the consent that this takes.
    #[error(
        "{origin}: {key} is {address}, which other machines can reach, and this version has neither TLS nor \
         authentication; listen on 127.0.0.1 or [::1], or accept the risk with broker.insecure_listen = true \
         (flag --insecure-listen)"
    )]
    InsecureListen {
        /// Where the address was given.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
    },
}
