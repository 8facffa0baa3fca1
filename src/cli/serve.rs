//! `millstream serve`: from flags to a running broker, and from its end to an exit code.
//!
//! Exit codes: 0 a clean stop (a signal is one), 1 the broker could not start or had to stop, 2 the configuration is
//! wrong. Errors are one line on standard error, `millstream: what: why`; the rest of what the broker says is its log.

use crate::config::{self, Config, ConfigError, Loaded, LogFormat, LogLevel, Setting, Sources};
use crate::server::{self, ServeError};
use crate::shutdown::{self, Shutdown};
use std::error::Error;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Exit code of a refused configuration; clap uses the same for wrong usage.
const EXIT_CODE_CONFIG: u8 = 2;

/// Runs the broker.
///
/// Every value can also come from a file or the environment; flags win. All keys with their meaning are in
/// config/millstream.toml.
#[derive(Debug, Default, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub struct ServeArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_CONFIG")]
    config: Option<PathBuf>,
    /// Directory of all data [default: ./millstream-data].
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<String>,
    /// Address of the gRPC door [default: 127.0.0.1:7171].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Address of the admin door: metrics and health [default: 127.0.0.1:7172].
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
    /// Keep data in a temporary directory that is deleted at the end; create topics when they are first produced to.
    #[arg(long)]
    ephemeral: bool,
    /// Let the clock be moved forward, for tests (millstream broker advance-clock). Only with --ephemeral.
    #[arg(long)]
    manual_clock: bool,
    /// Listen on an address that other machines can reach, although there is no TLS and no authentication yet.
    #[arg(long)]
    insecure_listen: bool,
    /// Least important events to write: error, warn, info, debug, trace [default: info].
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Check the configuration and the data directory, then exit.
    #[arg(long)]
    check: bool,
    /// Print the configuration that results from all sources, with the source of each value, then exit.
    #[arg(long)]
    print_config: bool,
}

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
enum DataDirError {
    #[error("the data directory {} cannot be read", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the data directory {} cannot be created: {} is not a directory", path.display(), parent.display())]
    NoParent { path: PathBuf, parent: PathBuf },
    #[error(transparent)]
    Unusable(ServeError),
}

/// Why the broker ended other than by a clean stop.
#[derive(Debug, thiserror::Error)]
enum EndError {
    #[error("cannot start the threads of the runtime")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Server(#[from] ServeError),
}

/// Runs `millstream serve` to its end.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the command line")]
pub fn run(args: ServeArgs) -> ExitCode {
    let (check, print_config) = (args.check, args.print_config);
    let loaded = match args.load() {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&error, EXIT_CODE_CONFIG),
    };
    if print_config {
        print!("{}", loaded.to_toml());
        return ExitCode::SUCCESS;
    }
    if check {
        return match check_data_dir(&loaded.config) {
            Ok(()) => {
                eprintln!("millstream: the configuration is valid");
                ExitCode::SUCCESS
            }
            Err(error) => refuse(&error, 1),
        };
    }
    start_log(&loaded.config);
    match serve(loaded.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error, 1),
    }
}

impl ServeArgs {
    fn load(self) -> Result<Loaded, ConfigError> {
        // Variables that are not text cannot be ours.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        config::load(&Sources { file: self.config.clone(), environment, flags: self.settings() })
    }

    /// What the flags set.
    fn settings(self) -> Vec<Setting> {
        let on = |given: bool| given.then(|| "true".to_owned());
        let given = [
            ("--data-dir", "broker.data_dir", self.data_dir),
            ("--listen", "broker.listen", self.listen),
            ("--admin", "broker.admin", self.admin),
            ("--ephemeral", "broker.ephemeral", on(self.ephemeral)),
            ("--manual-clock", "broker.manual_clock", on(self.manual_clock)),
            ("--insecure-listen", "broker.insecure_listen", on(self.insecure_listen)),
            ("--log-level", "log.level", self.log_level),
        ];
        given.into_iter().filter_map(|(flag, key, value)| Some(Setting { flag, key, value: value? })).collect()
    }
}

/// Starts the runtime, serves until told to stop, and stops.
fn serve(config: Config) -> Result<(), EndError> {
    if config.is_exposed() {
        let (listen, admin) = (config.broker.listen, config.broker.admin);
        tracing::warn!(%listen, %admin, "insecure_listen: whoever reaches this port can read, write and delete");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.network_threads())
        .enable_all()
        .build()
        .map_err(EndError::Runtime)?;
    let shutdown = Shutdown::new(Duration::from_millis(config.broker.drain_timeout_ms));
    runtime.block_on(async {
        tokio::spawn(shutdown::watch_signals(shutdown.clone()));
        server::run(config, shutdown).await
    })?;
    Ok(())
}

/// Sends events to standard error. Libraries are heard only when they warn: their debug events are per frame.
fn start_log(config: &Config) {
    let level = match config.log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "warn,millstream=info",
        LogLevel::Debug => "warn,millstream=debug",
        LogLevel::Trace => "warn,millstream=trace",
    };
    let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(level)).with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Text => log.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// Whether the data directory could be made, or is one that a broker of this version can serve.
fn check_data_dir(config: &Config) -> Result<(), DataDirError> {
    let path = config.broker.data_dir.as_path();
    if config.broker.ephemeral {
        return Ok(());
    }
    match std::fs::read_dir(path) {
        Ok(_) => server::check_data_dir(path).map_err(DataDirError::Unusable),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let existing = path.ancestors().skip(1).find(|parent| parent.exists());
            let parent = existing.filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
            if parent.is_dir() {
                Ok(())
            } else {
                Err(DataDirError::NoParent { path: path.into(), parent: parent.into() })
            }
        }
        Err(source) => Err(DataDirError::Unreadable { path: path.into(), source }),
    }
}

/// Says why on one line, with every cause.
#[expect(clippy::print_stderr, reason = "this is the command line")]
fn refuse(error: &dyn Error, exit_code: u8) -> ExitCode {
    eprintln!("millstream: {}", in_one_line(error));
    ExitCode::from(exit_code)
}

/// The error and its causes, `what: why: why`. A cause that the text already contains is not said twice.
fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !line.contains(&why) {
            let _ = write!(line, ": {why}");
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_every_other_source() {
        let load = |args: ServeArgs| {
            let environment = vec![("MILLSTREAM_LOG_LEVEL".to_owned(), "warn".to_owned())];
            config::load(&Sources { file: None, environment, flags: args.settings() })
        };
        let args = ServeArgs {
            listen: Some("127.0.0.1:0".to_owned()),
            log_level: Some("debug".to_owned()),
            ephemeral: true,
            ..ServeArgs::default()
        };
        let config = load(args).expect("valid").config;
        assert_eq!(config.broker.listen.port(), 0);
        assert_eq!(config.log.level, LogLevel::Debug);
        assert!(config.broker.ephemeral && config.broker.auto_create_topics);

        let args = ServeArgs { listen: Some("nowhere".to_owned()), ..ServeArgs::default() };
        let message = load(args).expect_err("not an address").to_string();
        assert!(message.starts_with("flag --listen: broker.listen is \"nowhere\"; it must be"), "{message}");
    }

    #[test]
    fn an_error_is_one_line_with_each_cause_once() {
        let missing = ServeArgs { config: Some("no/such.toml".into()), ..ServeArgs::default() };
        let error = missing.load().expect_err("there is no such file");
        let line = in_one_line(&error);
        assert!(line.starts_with("cannot read the configuration file no/such.toml: No such file"), "{line}");
        assert!(!line.contains('\n'));
    }

    #[test]
    fn a_data_directory_below_a_file_is_refused_before_anything_starts() {
        let file = tempfile::NamedTempFile::new().expect("the temporary directory can be written");
        let mut config = Config::default();
        config.broker.data_dir = file.path().to_owned();
        assert!(matches!(check_data_dir(&config), Err(DataDirError::Unreadable { .. })));
        config.broker.data_dir = PathBuf::from("surely/not/there/yet");
        assert!(check_data_dir(&config).is_ok());
        config.broker.ephemeral = true;
        config.broker.data_dir = file.path().to_owned();
        assert!(check_data_dir(&config).is_ok());
    }
}
