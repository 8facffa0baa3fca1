//! Names: of topics and groups, which never become paths; of files, which mean one thing or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream::group::GroupName;
use millstream::inspect::log_files::LogFiles;
use millstream::inspect::{DataDirectory, Selection};
use millstream::storage::segment::{base_offset_of, file_stem};
use millstream::topic::{Catalog, TopicEntry, TopicOptions};
use millstream::types::{TopicId, TopicName};
use millstream_fuzz::{MemoryFileSystem, bounded};
use std::path::{Component, Path};

const DIRECTORY: &str = "/nowhere/millstream-fuzz";

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    bounded(64 * text.len() + (64 << 10), || {
        topic_names(&text);
        file_names(&text);
        let _ = DataDirectory::with_file_system(MemoryFileSystem::default().shared(), Path::new(DIRECTORY))
            .find(&Selection::Path(text.as_ref().into()));
    });
});

fn topic_names(text: &str) {
    let topic = TopicName::new(text);
    let group = GroupName::new(text);
    assert_eq!(topic.is_ok(), group.is_ok(), "one rule for both");
    if let Err(error) = &topic {
        assert!(!error.to_string().is_empty());
    }
    let Ok(name) = topic else { return };
    assert_eq!(name.as_str(), text);
    let components: Vec<_> = Path::new(text).components().collect();
    assert!(matches!(components[..], [Component::Normal(only)] if only == text), "{text:?} is one plain word");
    // In a journal key and in a directory listing, names are separated by a slash.
    assert!(text.len() <= 249 && !text.contains('/'));

    // A topic of that name lives in a directory that is named by its identity alone.
    let id = TopicId(uuid::Uuid::from_u128(9));
    let mut catalog = Catalog::default();
    let entry = TopicEntry { id, partitions: 2, created_at_ms: 0, options: TopicOptions::default() };
    catalog.topics.insert(name, entry);
    let files = MemoryFileSystem::default();
    catalog.store(&files, &Path::new(DIRECTORY).join("catalog.json")).expect("memory does not fail");
    let format = format!("{{\"format_version\":2,\"broker_id\":\"{id}\"}}\n");
    files.put(Path::new(DIRECTORY).join("format.json"), millstream_fuzz::sealed::sealed_text(format.as_bytes()));
    let directory = DataDirectory::with_file_system(files.shared(), Path::new(DIRECTORY));
    let selection = Selection::Topic { topic: text.to_owned(), partition: Some(1) };
    let places = directory.find(&selection).expect("the topic is there");
    let expected = Path::new(DIRECTORY).join("topics").join(id.to_string()).join("1");
    assert!(places.len() == 1 && places[0].directory == expected, "{places:?}");
}

fn file_names(text: &str) {
    if let Some(base) = base_offset_of(text) {
        assert_eq!(format!("{}.log", file_stem(base)), text, "one offset has one name");
    }
    if text.contains(['/', '\0']) || text.is_empty() || text == "." || text == ".." {
        return;
    }
    let files = MemoryFileSystem::default();
    files.put(Path::new(DIRECTORY).join(text), Vec::new());
    let found = LogFiles::list(&files, Path::new(DIRECTORY)).expect("memory does not fail");
    let kinds = [found.segments.len(), found.indexes.len(), found.torn.len(), found.unknown.len()];
    assert!(kinds.iter().sum::<usize>() <= 1, "{text:?} means at most one thing: {found:?}");
}
