//! The catalog: which topics there are, in one file that is replaced as a whole.
//!
//! A change is durable when [`Catalog::store`] returns, and only then does anyone act on it. A topic that is being
//! deleted stays listed by its identity until its directory is gone, so that a crash in between leaves nothing behind.

use crate::storage::StorageError;
use crate::storage::atomic_file;
use crate::storage::file_system::FileSystem;
use crate::topic::TopicOptions;
use crate::types::{TimestampMs, TopicId, TopicName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const VERSION: u32 = 1;

/// One topic, as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicEntry {
    /// Its identity; names its directory.
    pub id: TopicId,
    /// How many partitions it has; only grows.
    pub partitions: u32,
    /// When it was created.
    pub created_at_ms: TimestampMs,
    /// What it promises.
    pub options: TopicOptions,
}

/// Every topic, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    version: u32,
    /// The topics there are.
    pub topics: BTreeMap<TopicName, TopicEntry>,
    /// Topics that were deleted, whose directories may still be there.
    pub deleting: Vec<TopicId>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self { version: VERSION, topics: BTreeMap::new(), deleting: Vec::new() }
    }
}

impl Catalog {
    /// Reads the catalog; an empty one if there is no file.
    pub fn load(fs: &dyn FileSystem, path: &Path) -> Result<Self, StorageError> {
        let Some(text) = atomic_file::read(fs, path)? else { return Ok(Self::default()) };
        let catalog: Self = serde_json::from_str(&text)
            .map_err(|error| StorageError::corrupt(path, 0, format!("it is not a catalog: {error}")))?;
        if catalog.version != VERSION {
            let what = format!("its version is {}, this broker knows {VERSION}", catalog.version);
            return Err(StorageError::Format { path: path.into(), what });
        }
        Ok(catalog)
    }

    /// Makes the catalog durable.
    pub fn store(&self, fs: &dyn FileSystem, path: &Path) -> Result<(), StorageError> {
        let text = serde_json::to_string_pretty(self).expect("names and numbers are JSON") + "\n";
        atomic_file::replace(fs, path, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::real_file_system::RealFileSystem;

    #[test]
    fn a_catalog_is_read_back_and_damage_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("catalog.json");
        let mut catalog = Catalog::load(&RealFileSystem, &path).expect("no file is an empty catalog");
        let entry = TopicEntry {
            id: TopicId(uuid::Uuid::from_u128(5)),
            partitions: 3,
            created_at_ms: 1,
            options: TopicOptions::default(),
        };
        catalog.topics.insert(TopicName::new("orders").expect("valid"), entry);
        catalog.store(&RealFileSystem, &path).expect("stores");
        assert_eq!(Catalog::load(&RealFileSystem, &path).expect("loads"), catalog);

        let text = std::fs::read_to_string(&path).expect("readable");
        for damaged in [text.replace("orders", "0rders"), text[..text.len() / 2].to_owned(), String::new()] {
            #[expect(clippy::disallowed_methods, reason = "damage is done past the seam on purpose")]
            std::fs::write(&path, damaged).expect("writable");
            let error = Catalog::load(&RealFileSystem, &path).expect_err("damaged");
            assert!(error.to_string().contains("catalog.json is corrupt"), "{error}");
        }
    }
}
