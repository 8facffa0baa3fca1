//! Who may use whom: the picture at the top of `src/lib.rs`, as a table.

use crate::source::{Source, line_at};

/// What each module may use besides itself; `a::b` allows only that part of `a`. Tests may use anything.
const ARROWS: &[(&str, &[&str])] = &[
    // The command line is an ordinary client; only `serve` starts a server, only `log` looks at files.
    (
        "cli",
        &[
            "bench",
            "client",
            "config",
            "filter",
            "server",
            "inspect",
            "repair",
            "shutdown",
            "types",
            "limits",
            "clock",
            "process_limits",
            "units",
        ],
    ),
    // Measures from outside, as any client does.
    ("bench", &["client", "types", "limits", "units"]),
    // Looks at a data directory on its own: no broker, no client.
    ("inspect", &["storage", "topic", "types", "limits"]),
    // The one thing beside the broker that writes to a data directory.
    ("repair", &["inspect", "storage", "types", "limits"]),
    ("client", &["proto", "types", "limits"]),
    (
        "server",
        &[
            "grpc",
            "admin",
            "broker",
            "config",
            "announce",
            "process_limits",
            "shutdown",
            "metrics",
            "clock",
            "topic",
            "group",
            "partition",
            "storage",
            "types",
            "limits",
        ],
    ),
    // Doors translate; they own no state.
    ("grpc", &["broker", "filter", "proto", "shutdown", "metrics", "clock", "topic", "types", "limits"]),
    ("admin", &["broker", "shutdown", "metrics", "types"]),
    (
        "broker",
        &[
            "topic",
            "group",
            "producer",
            "queue",
            "schedule",
            "request",
            "partition",
            "filter",
            "storage",
            "metrics",
            "shutdown",
            "clock",
            "planted",
            "types",
            "limits",
        ],
    ),
    // A coordinator keeps its state in a journal and knows nothing else of partitions.
    ("group", &["partition::journal", "filter", "clock", "planted", "types", "limits"]),
    ("queue", &["partition::journal", "filter", "clock", "planted", "types", "limits"]),
    ("schedule", &["partition::journal", "clock", "planted", "types", "limits"]),
    ("request", &["planted", "types", "limits"]),
    ("producer", &["partition::journal", "clock", "planted", "types", "limits"]),
    ("partition", &["storage", "metrics", "clock", "planted", "sync", "types", "limits"]),
    ("topic", &["storage", "clock", "types", "limits"]),
    ("storage", &["planted", "sync", "types", "limits"]),
    // Leaves.
    ("config", &["topic::TopicOptions", "types", "limits", "units"]),
    ("announce", &["types"]),
    ("filter", &["types", "limits"]),
    ("metrics", &["types"]),
    ("clock", &["types"]),
    ("types", &["limits"]),
    ("shutdown", &[]),
    ("limits", &[]),
    ("planted", &[]),
    ("process_limits", &[]),
    ("sync", &[]),
    ("units", &[]),
    ("proto", &[]),
];

/// Every path of `source` that the table does not allow.
pub(crate) fn broken(source: &Source) -> Vec<String> {
    if source.is_test() || source.path == "src/lib.rs" {
        return Vec::new();
    }
    let inside = source.path.trim_start_matches("src/");
    if inside == "main.rs" || inside.starts_with("bin/") {
        return broken_in_binary(source);
    }
    let module = inside.split(['/', '.']).next().unwrap_or(inside);
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
        let what = format!("the module {module} has no line in ARROWS of tests/tidy/arrows.rs; decide what it may use");
        let mut broken = vec![source.at(1, &what)];
        broken.extend(escapes(source, inside));
        return broken;
    };
    let is_allowed = |path: &str| {
        std::iter::once(&module)
            .chain(*allowed)
            .any(|arrow| path.strip_prefix(*arrow).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
    };
    let mut broken = Vec::new();
    for (line, path) in used_paths(source.product_code()) {
        if !is_allowed(&path) {
            let what = format!("{module} must not use crate::{path}; it may use {}", allowed.join(", "));
            broken.push(source.at(line, &what));
        }
    }
    broken.extend(escapes(source, inside));
    broken
}

/// Every path after `crate::` in the code, groups spread out, with its line.
pub(crate) fn used_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (position, word) in code.match_indices("crate::") {
        let mut paths = Vec::new();
        spread(&code[position + word.len()..], "", &mut paths);
        found.extend(paths.into_iter().map(|path| (line_at(code, position), path)));
    }
    found
}

/// Adds the paths of one use tree; answers how many bytes it has.
fn spread(tree: &str, prefix: &str, paths: &mut Vec<String>) -> usize {
    let start = tree.len() - tree.trim_start().len();
    let mut position = start;
    if tree[start..].starts_with('{') {
        loop {
            position += 1;
            position += spread(&tree[position..], prefix, paths);
            position += tree[position..].len() - tree[position..].trim_start().len();
            if !tree[position..].starts_with(',') {
                return position + 1;
            }
        }
    }
    let name = tree[start..].split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '*')).next().unwrap_or("");
    if name.is_empty() {
        return position;
    }
    position += name.len();
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    if tree[position..].starts_with("::") && !tree[position..].starts_with("::<") {
        position += 2;
        return position + spread(&tree[position..], &path, paths);
    }
    paths.push(path);
    // An alias: `name as other`.
    let rest = &tree[position..];
    position
        + rest
            .find([',', '}', ';', '\n', '(', '<', ')', '>', ' '])
            .filter(|_| rest.starts_with(" as "))
            .map_or(0, |_| 4 + rest[4..].find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(0))
}

/// `super::` steps that leave the module and so would go round the table.
fn escapes(source: &Source, inside: &str) -> Vec<String> {
    let depth = inside.trim_end_matches("/mod.rs").split('/').count();
    let code = source.product_code();
    let leaves = format!("{}x", "super::".repeat(depth));
    let leaves = leaves.trim_end_matches('x');
    let found = code.match_indices(leaves).map(|(position, _)| line_at(code, position));
    found.map(|line| source.at(line, "`super` leaves the module; write the path from `crate::`")).collect()
}

fn broken_in_binary(source: &Source) -> Vec<String> {
    let code = source.product_code();
    let outside_cli = code.match_indices("millstream::").filter(|(position, word)| {
        let rest = &code[position + word.len()..];
        !(rest.starts_with("cli::") || rest.starts_with("cli;"))
    });
    let what = "a binary only calls millstream::cli";
    outside_cli.map(|(position, _)| source.at(line_at(code, position), what)).collect()
}
