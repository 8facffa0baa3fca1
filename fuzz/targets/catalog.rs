//! The small files that are replaced as a whole: catalog, format, checkpoint. Arbitrary bytes are refused or mean
//! something; what they mean is stored and read back; a damaged line is noticed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream::storage::atomic_file;
use millstream::storage::checkpoint::Checkpoint;
use millstream::storage::data_dir::DataDir;
use millstream::storage::file_system::FileSystem;
use millstream::topic::Catalog;
use millstream_fuzz::{MemoryFileSystem, bounded, sealed};
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "/nowhere/millstream-fuzz";

fuzz_target!(|bytes: &[u8]| {
    // JSON becomes maps of small strings: a short entry costs many times its bytes.
    bounded(256 * bytes.len() + (64 << 10), || read_all(bytes.to_vec()));
    let file = sealed::sealed_text(bytes);
    bounded(256 * file.len() + (64 << 10), || read_all(file));
});

fn read_all(bytes: Vec<u8>) {
    let files = MemoryFileSystem::default();
    files.add_directory(Path::new(DIRECTORY));
    let path = |name: &str| PathBuf::from(DIRECTORY).join(name);
    for name in ["catalog.json", "format.json", "checkpoint.json"] {
        files.put(path(name), bytes.clone());
    }
    let fs: &dyn FileSystem = &files;
    if let Ok(Some(text)) = atomic_file::read(fs, &path("catalog.json")) {
        atomic_file::replace(fs, &path("copy.json"), &text).expect("memory does not fail");
        assert_eq!(files.files()[&path("copy.json")], bytes, "one text has one file");
    }
    if let Ok(catalog) = Catalog::load(fs, &path("catalog.json")) {
        for entry in catalog.topics.values() {
            let _ = entry.options.check();
            let _ = entry.options.seal_age_ms();
        }
        catalog.store(fs, &path("catalog.json")).expect("memory does not fail");
        assert_eq!(Catalog::load(fs, &path("catalog.json")).expect("just stored"), catalog);
    }
    if let Ok(checkpoint) = Checkpoint::load(fs, Path::new(DIRECTORY)) {
        checkpoint.store(fs, Path::new(DIRECTORY)).expect("memory does not fail");
        assert_eq!(Checkpoint::load(fs, Path::new(DIRECTORY)).expect("just stored"), checkpoint);
    }
    let _ = DataDir::check(fs, Path::new(DIRECTORY));
}
