//! `millstream log verify`, `dump` and `segments` on directories that are damaged, or arbitrary: no panic, bounded
//! memory, nothing written; and nothing is found wrong with a log that is whole.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use millstream::inspect::verify::{Event, verify};
use millstream::inspect::{DataDirectory, Selection, dump, segments};
use millstream::topic::{Catalog, TopicEntry, TopicOptions};
use millstream::types::{Offset, TopicName};
use millstream_fuzz::damaged_log::{DATA_DIRECTORY, ID, Number, Plan};
use millstream_fuzz::sealed::sealed_text;
use millstream_fuzz::{MemoryFileSystem, bounded};
use std::ops::ControlFlow;
use std::path::Path;

#[derive(Debug, Arbitrary)]
struct Input {
    plan: Plan,
    catalog: Option<Vec<u8>>,
    format: Option<Vec<u8>>,
    from: Number,
}

fuzz_target!(|input: Input| {
    let files = input.plan.carry_out();
    put_catalog(&files, &input);
    let before = files.files();
    let bytes: usize = before.values().map(Vec::len).sum();
    // A file of 64 KiB is read in windows, and a problem has a text.
    bounded(16 * bytes + (1 << 20), || {
        let problems = look(&files, Offset(input.from.get()));
        let is_whole = input.plan.damages.is_empty() && input.catalog.is_none() && input.format.is_none();
        assert!(!is_whole || problems.is_empty(), "nothing was damaged: {problems:?}");
    });
    assert!(before == files.files(), "looking changes nothing");
});

fn put_catalog(files: &MemoryFileSystem, input: &Input) {
    let path = |name| Path::new(DATA_DIRECTORY).join(name);
    let mut catalog = Catalog::default();
    let entry = TopicEntry { id: ID.topic, partitions: 1, created_at_ms: 0, options: TopicOptions::default() };
    catalog.topics.insert(TopicName::new("t").expect("valid"), entry);
    catalog.store(files, &path("catalog.json")).expect("memory does not fail");
    let format = format!("{{\"format_version\":2,\"broker_id\":\"{}\"}}\n", ID.topic);
    files.put(path("format.json"), sealed_text(format.as_bytes()));
    for (name, bytes) in [("catalog.json", &input.catalog), ("format.json", &input.format)] {
        if let Some(bytes) = bytes {
            files.put(path(name), if bytes.len() % 2 == 0 { bytes.clone() } else { sealed_text(bytes) });
        }
    }
}

fn look(files: &MemoryFileSystem, from: Offset) -> Vec<String> {
    let directory = DataDirectory::with_file_system(files.shared(), Path::new(DATA_DIRECTORY));
    let log = Path::new("topics").join(ID.topic.to_string()).join("0");
    let mut problems = Vec::new();
    for selection in [Selection::All, Selection::Path(log)] {
        let mut on = |event| {
            if let Event::Problem(problem) = event {
                problems.push(format!("{problem:?}"));
            }
        };
        let _ = verify(&directory, &selection, &mut on);
        for place in directory.find(&selection).unwrap_or_default() {
            let mut frames = 0;
            let _ = dump::dump::<()>(&directory, &place, from, &mut |frame| {
                frames += frame.payload.len();
                ControlFlow::Continue(())
            });
            let _ = segments::summarize(&directory, place);
        }
    }
    problems
}
