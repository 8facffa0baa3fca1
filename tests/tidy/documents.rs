//! The rules for what is not Rust: the wire contract, the documents, the configuration reference.

use crate::source::{Source, files, root};
use std::path::Path;

/// Fields that mean the same wherever they stand (docs/glossary.md, or the comment of the message that is their type),
/// so that a comment could only repeat the name.
const PLAIN_FIELDS: &[&str] = &[
    "topic",
    "name",
    "group",
    "partition",
    "partitions",
    "offset",
    "offsets",
    "generation",
    "member_id",
    "members",
    "records",
    "bytes",
    "batches",
    "record_count",
    "segments",
    "log_start_offset",
    "high_watermark",
    "correlation_id",
    "position",
    "state",
    "options",
    "error",
    "results",
    "request",
    "value",
    "edge",
    "topics",
    "groups",
    "queue",
    "queues",
    "policy",
    "counts",
    "messages",
    "record",
    "start",
    "ack",
    "nack",
    "release",
    "extend",
    "reject",
    "acked",
    "paused",
    // The cases of SubscribeResponse and StreamingReceiveResponse: each is a message of its own.
    "opened",
    "assigned",
    "revoked",
    "committed",
    "heartbeat",
    "drain",
    "settled",
];

/// Documents that may hold links and unfinished words.
pub(crate) fn all() -> Vec<Source> {
    let mut paths = Vec::new();
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        paths.extend(root().join(name).exists().then(|| name.to_owned()));
    }
    for folder in ["docs", "clients", "examples", "tests", "benches", "fuzz"] {
        paths.extend(files(folder, "md"));
    }
    paths.extend(files("proto", "proto"));
    paths.extend(files("config", "toml"));
    paths.iter().map(|path| Source::read(path)).collect()
}

/// Services, calls, messages and fields of the wire contract that nobody explained. A request or reply is explained by
/// its call.
pub(crate) fn uncommented_in_proto() -> Vec<String> {
    let mut broken = Vec::new();
    for path in files("proto", "proto") {
        let source = Source::read(&path);
        let mut previous = "";
        for (number, line) in source.text.lines().map(str::trim).enumerate() {
            let explained = previous.starts_with("//") || line.contains("; //");
            if let Some(what) = needs_comment(line).filter(|_| !explained) {
                broken.push(source.at(number + 1, &format!("{what} has no comment; say what a client must know")));
            }
            previous = line;
        }
    }
    broken
}

/// What a line of a proto file declares, if that needs a comment.
fn needs_comment(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (first, second) = (words.next()?, words.next()?);
    match first {
        "rpc" => return Some(format!("rpc {}", second.split('(').next()?)),
        "message" | "enum" if line.ends_with('{') || line.ends_with("{}") => {
            let spoken_for = ["Request", "Response"].iter().any(|end| second.trim_end_matches('{').ends_with(end));
            return (!spoken_for).then(|| format!("{first} {second}"));
        }
        "syntax" | "package" | "import" | "option" | "reserved" | "oneof" | "service" => return None,
        _ if first.starts_with("//") => return None,
        _ => {}
    }
    // A field: `[optional|repeated] type name = number;`. An enum value has no type.
    let (declared, number) = line.split_once(" = ")?;
    number.trim_end_matches(';').parse::<u32>().ok()?;
    let name = declared.split_whitespace().last()?;
    let is_field = declared.split_whitespace().count() > 1;
    let is_unspecified = name.ends_with("_UNSPECIFIED");
    let is_plain = is_field && PLAIN_FIELDS.contains(&name);
    if is_unspecified || is_plain { None } else { Some(name.to_owned()) }
}

/// Relative links of documents to files that are not there.
pub(crate) fn dead_links() -> Vec<String> {
    let mut broken = Vec::new();
    for source in all().iter().filter(|source| Path::new(&source.path).extension().is_some_and(|kind| kind == "md")) {
        let document = root().join(&source.path);
        let folder = document.parent().unwrap_or(Path::new("."));
        for (number, line) in source.text.lines().enumerate() {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let file = link.split('#').next().unwrap_or(link);
                let elsewhere = link.contains("://") || link.starts_with("mailto:");
                if !file.is_empty() && !elsewhere && !folder.join(file).exists() {
                    broken.push(source.at(number + 1, &format!("the link to {link} leads nowhere")));
                }
            }
        }
    }
    broken
}

/// Keys of the configuration reference without a comment right above. That every key stands there with its default is
/// a test of `src/config`.
pub(crate) fn unexplained_keys() -> Vec<String> {
    let source = Source::read("config/millstream.toml");
    let mut broken = Vec::new();
    let mut previous = "";
    for (number, line) in source.text.lines().enumerate() {
        if line.contains(" = ") && !line.starts_with('#') && !previous.starts_with('#') {
            broken.push(source.at(number + 1, "no comment above this key; say what it means, its unit and bounds"));
        }
        previous = line;
    }
    broken
}
