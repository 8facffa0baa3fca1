//! Everything in a data directory is read and checked against `docs/storage-format.md`.
//!
//! Stops at nothing: a problem is handed to the caller and the rest is looked at. While a broker runs, only what cannot
//! change is looked at: sealed segments, and the files that are replaced as a whole.

use crate::inspect::InspectError;
use crate::inspect::data_directory::{DataDirectory, LogPlace, Selection, topic_id};
use crate::inspect::log_files::{LogFiles, is_leftover, segment_path};
use crate::inspect::problem::{Problem, ProblemKind};
use crate::inspect::verify_log::verify_log;
use crate::storage::StorageError;
use crate::storage::data_dir::DataDir;
use crate::storage::file_system::OpenMode;
use crate::topic::Catalog;
use std::path::Path;

/// What the verification tells while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something is wrong.
    Problem(Problem),
    /// So many more bytes were read.
    Read(u64),
}

/// What was looked at.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Logs.
    pub partitions: u64,
    /// Segment files.
    pub segments: u64,
    /// Frames that are whole.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of segment files that were read.
    pub bytes: u64,
    /// What was found wrong.
    pub problems: u64,
}

/// What checking of one part works with: what was seen so far, and who is told.
pub(super) struct Findings<'v> {
    pub(super) totals: Totals,
    on: &'v mut dyn FnMut(Event),
}

impl Findings<'_> {
    pub(super) fn problem(&mut self, problem: Problem) {
        self.totals.problems += 1;
        (self.on)(Event::Problem(problem));
    }

    pub(super) fn read(&mut self, bytes: u64) {
        self.totals.bytes += bytes;
        (self.on)(Event::Read(bytes));
    }

    /// An error of the file system, or of reading a small file, as a problem.
    pub(super) fn error(&mut self, corrupt: ProblemKind, path: &Path, error: &StorageError) {
        self.problem(match error {
            StorageError::Corrupt { path, position, what } => Problem::new(corrupt, path, what.as_str()).at(*position),
            StorageError::Io { path, source, .. } => {
                Problem::new(ProblemKind::Unreadable, path, format!("it cannot be read: {source}"))
            }
            error => Problem::new(ProblemKind::Unreadable, path, error.to_string()),
        });
    }
}

/// Verifies what `selection` means. Problems go to `on`; an error says that nothing could be verified.
pub fn verify(
    directory: &DataDirectory,
    selection: &Selection,
    on: &mut dyn FnMut(Event),
) -> Result<Totals, InspectError> {
    let mut findings = Findings { totals: Totals::default(), on };
    let places = match selection {
        Selection::All => verify_directory(directory, &mut findings)?,
        selection => directory.find(selection)?,
    };
    for place in &places {
        // Asked each time: a broker may start while this runs, which can take long.
        let in_use = directory.is_in_use()?;
        verify_log(directory, place, in_use, &mut findings);
    }
    Ok(findings.totals)
}

/// About how many bytes there are to read; what cannot be read counts as nothing.
pub fn bytes_to_read(directory: &DataDirectory, selection: &Selection) -> u64 {
    let places = directory.find(selection).or_else(|_| directory.places_on_disk()).unwrap_or_default();
    let len = |path: &Path| directory.fs.open(path, OpenMode::Read).and_then(|file| file.len()).unwrap_or(0);
    let of_log = |place: &LogPlace| {
        let files = LogFiles::list(&*directory.fs, &place.directory).unwrap_or_default();
        files.segments.iter().map(|base| len(&segment_path(&place.directory, *base))).sum::<u64>()
    };
    places.iter().map(of_log).sum()
}

/// What is above the logs; gives the logs that there should be.
fn verify_directory(directory: &DataDirectory, findings: &mut Findings<'_>) -> Result<Vec<LogPlace>, InspectError> {
    let format_path = directory.path().join("format.json");
    match DataDir::check(&*directory.fs, directory.path()) {
        Err(error @ StorageError::Corrupt { .. }) => findings.error(ProblemKind::Format, &format_path, &error),
        result => result?,
    }
    let known = ["lock", "format.json", "catalog.json", "upkeep.json", "topics", "lost+found"];
    report_unknown(directory, directory.path(), findings, &|name| known.contains(&name) || is_leftover(name));
    let catalog_path = directory.path().join("catalog.json");
    match Catalog::load(&*directory.fs, &catalog_path) {
        Ok(catalog) => {
            verify_topic_directories(directory, &catalog, findings);
            Ok(directory.places_of(&catalog))
        }
        Err(error @ StorageError::Corrupt { .. }) => {
            findings.error(ProblemKind::Catalog, &catalog_path, &error);
            Ok(directory.places_on_disk()?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Directories below `topics` that the catalog does not name.
fn verify_topic_directories(directory: &DataDirectory, catalog: &Catalog, findings: &mut Findings<'_>) {
    let entry = |name: &str| topic_id(name).and_then(|id| catalog.topics.values().find(|entry| entry.id == id));
    let is_deleting = |name: &str| topic_id(name).is_some_and(|id| catalog.deleting.contains(&id));
    let topics = directory.topics_path();
    if catalog.topics.is_empty() && directory.fs.list(&topics).is_err() {
        return;
    }
    report_unknown(directory, &topics, findings, &|name| entry(name).is_some() || is_deleting(name));
    for topic in catalog.topics.values() {
        let is_partition = |name: &str| {
            name.parse::<u32>().is_ok_and(|number| number < topic.partitions && number.to_string() == name)
        };
        report_unknown(directory, &topics.join(topic.id.to_string()), findings, &is_partition);
    }
}

/// Names in `parent` that are not known. That `parent` itself is missing shows where its logs are looked for.
fn report_unknown(
    directory: &DataDirectory,
    parent: &Path,
    findings: &mut Findings<'_>,
    is_known: &dyn Fn(&str) -> bool,
) {
    let mut names = directory.fs.list(parent).unwrap_or_default();
    names.sort_unstable();
    for name in names.iter().filter(|name| !is_known(name)) {
        let what = "nothing names it; the broker leaves it alone";
        findings.problem(Problem::new(ProblemKind::UnknownFile, &parent.join(name), what));
    }
}
