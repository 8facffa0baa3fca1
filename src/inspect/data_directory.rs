//! Which logs a data directory holds: by the name of their topic, or by path where the catalog is damaged.

use crate::inspect::InspectError;
use crate::storage::StorageError;
use crate::storage::data_dir::DataDir;
use crate::storage::error::IoContext as _;
use crate::storage::file_system::FileSystem;
use crate::storage::real_file_system::RealFileSystem;
use crate::storage::segment::header::LogId;
use crate::topic::Catalog;
use crate::types::{TopicId, TopicName};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A data directory that is only read.
#[derive(Debug, Clone)]
pub struct DataDirectory {
    pub(super) fs: Arc<dyn FileSystem>,
    path: PathBuf,
}

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Every partition of every topic.
    All,
    /// A topic, or one partition of it.
    Topic {
        /// Its name.
        topic: String,
        /// One partition; `None` for all of them.
        partition: Option<u32>,
    },
    /// One log directory, `topics/TOPIC-UUID/PARTITION`, from the data directory. Needs no catalog.
    Path(PathBuf),
}

/// Where the log of one partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlace {
    /// Whose log it is, as every segment in it must say.
    pub id: LogId,
    /// The topic's name; `None` where no catalog says it.
    pub topic: Option<TopicName>,
    /// Its directory.
    pub directory: PathBuf,
}

impl LogPlace {
    /// `orders/0`, or the topic's UUID in place of its name.
    pub fn label(&self) -> String {
        match &self.topic {
            Some(topic) => format!("{topic}/{}", self.id.partition),
            None => self.id.to_string(),
        }
    }
}

impl DataDirectory {
    /// Looks at the data directory at `path`, which must be there. Nothing in it is read yet.
    pub fn open(path: &Path) -> Result<Self, InspectError> {
        let fs: Arc<dyn FileSystem> = Arc::new(RealFileSystem);
        fs.list(path).context("list", path)?;
        Ok(Self { fs, path: path.into() })
    }

    /// The data directory at `path` on another file system than the machine's.
    pub fn with_file_system(fs: Arc<dyn FileSystem>, path: &Path) -> Self {
        Self { fs, path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a broker runs on it now.
    pub fn is_in_use(&self) -> Result<bool, InspectError> {
        Ok(DataDir::is_in_use(&self.path)?)
    }

    /// The logs that `selection` means, in order of name and partition.
    pub fn find(&self, selection: &Selection) -> Result<Vec<LogPlace>, InspectError> {
        match selection {
            Selection::Path(path) => Ok(vec![self.place_at(path)?]),
            Selection::All => Ok(self.places_of(&self.catalog().map_err(catalog_error)?)),
            Selection::Topic { topic, partition } => self.find_topic(topic, *partition),
        }
    }

    pub(super) fn catalog(&self) -> Result<Catalog, StorageError> {
        DataDir::check(&*self.fs, &self.path)?;
        Catalog::load(&*self.fs, &self.path.join("catalog.json"))
    }

    pub(super) fn topics_path(&self) -> PathBuf {
        self.path.join("topics")
    }

    fn find_topic(&self, topic: &str, partition: Option<u32>) -> Result<Vec<LogPlace>, InspectError> {
        let catalog = self.catalog().map_err(catalog_error)?;
        let Some((name, entry)) = catalog.topics.get_key_value(topic) else {
            return Err(InspectError::NoSuchTopic { topic: topic.to_owned(), directory: self.path.clone() });
        };
        let numbers = match partition {
            None => 0..entry.partitions,
            Some(number) if number < entry.partitions => number..number + 1,
            Some(partition) => {
                let (topic, partitions) = (topic.to_owned(), entry.partitions);
                return Err(InspectError::NoSuchPartition { topic, partition, partitions });
            }
        };
        Ok(numbers.map(|number| self.place(entry.id, number, Some(name.clone()))).collect())
    }

    pub(super) fn places_of(&self, catalog: &Catalog) -> Vec<LogPlace> {
        let topics = catalog.topics.iter();
        let partitions =
            topics.flat_map(|(name, entry)| (0..entry.partitions).map(move |number| (name, entry, number)));
        partitions.map(|(name, entry, number)| self.place(entry.id, number, Some(name.clone()))).collect()
    }

    /// Every directory that looks like that of a log, for when no catalog says which there are.
    pub(super) fn places_on_disk(&self) -> Result<Vec<LogPlace>, StorageError> {
        let topics = self.topics_path();
        let mut found = Vec::new();
        for topic in self.fs.list(&topics).context("list", &topics)?.iter().filter_map(|name| topic_id(name)) {
            let directory = topics.join(topic.to_string());
            let names = self.fs.list(&directory).context("list", &directory)?;
            found.extend(
                names.iter().filter_map(|name| name.parse().ok()).map(|number| self.place(topic, number, None)),
            );
        }
        found.sort_by_key(|place| place.id);
        Ok(found)
    }

    fn place(&self, id: TopicId, partition: u32, topic: Option<TopicName>) -> LogPlace {
        let directory = self.topics_path().join(id.to_string()).join(partition.to_string());
        LogPlace { id: LogId { topic: id, partition }, topic, directory }
    }

    fn place_at(&self, path: &Path) -> Result<LogPlace, InspectError> {
        let mut names = path.components().rev().map(|component| component.as_os_str().to_str());
        let partition = names.next().flatten().and_then(|name| name.parse().ok());
        let topic = names.next().flatten().and_then(topic_id);
        let (Some(topic), Some(partition)) = (topic, partition) else {
            return Err(InspectError::NotALog { path: path.into() });
        };
        Ok(LogPlace { id: LogId { topic, partition }, topic: None, directory: self.path.join(path) })
    }
}

/// The identity that a directory of a topic is named by.
pub(super) fn topic_id(name: &str) -> Option<TopicId> {
    uuid::Uuid::try_parse(name).ok().map(TopicId).filter(|id| id.to_string() == name)
}

/// Damage has a way round it; any other trouble has not.
fn catalog_error(error: StorageError) -> InspectError {
    match error {
        StorageError::Corrupt { .. } => InspectError::Catalog(error),
        error => InspectError::Storage(error),
    }
}
