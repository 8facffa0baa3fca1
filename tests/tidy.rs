//! Our style as a test: what a reviewer would otherwise have to say twice.
//!
//! Each rule reports every place that breaks it as `file:line: what is wrong; what to do`. Standard library only and
//! no compiler: a rule reads text, knows comments and strings from code (`tidy/source.rs`), and is deliberately a
//! little naive. The lists at the top are ratchets: an entry may be removed or lowered, never added without a reason.

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/source.rs"]
mod source;

use source::{Source, sources};

/// Longest product part of a file, in lines (its inline tests are not counted), and longest function.
const FILE_LINES_MAX: usize = 450;
const FUNCTION_LINES_MAX: usize = 70;
/// Longest module header.
const HEADER_LINES_MAX: usize = 15;

/// Files that are longer, with the lines they may have and why.
const LONG_FILES: &[(&str, usize, &str)] = &[];

/// Functions that are longer: file, name, lines, why.
const LONG_FUNCTIONS: &[(&str, &str, usize, &str)] = &[];

/// Parts of names that say nothing about what a thing does.
const EMPTY_NAMES: &[&str] = &["manager", "helper", "helpers", "util", "utils"];

/// Names that others have chosen.
const CRATE_NAMES: &[&str] = &["futures_util"];

/// The only file that may hold `unsafe` code.
const UNSAFE_HOME: &str = "src/storage/mmap.rs";

/// Crates of the doors, which the log must work without.
const NOT_FOR_STORAGE: &[&str] = &["tokio", "tonic", "prost"];

/// This test spells the words it bans.
const BANS_WORDS: &str = "tests/tidy";

#[track_caller]
fn none(broken: &[String]) {
    assert!(broken.is_empty(), "\n\n{}\n\n{} place(s)\n", broken.join("\n"), broken.len());
}

#[test]
fn imports_follow_the_arrows_of_the_house() {
    let broken: Vec<String> = sources("src").iter().flat_map(arrows::broken).collect();
    none(&broken);
}

#[test]
fn every_module_opens_with_a_header() {
    let mut broken = Vec::new();
    for source in sources("src") {
        let header = header_lines(&source.text);
        if header == 0 {
            broken.push(source.at(1, "no module header; say in `//!` lines what it owns, promises and does not know"));
        }
        if header > HEADER_LINES_MAX {
            let what =
                format!("the module header has {header} lines; {HEADER_LINES_MAX} must do, the rest is for docs/");
            broken.push(source.at(1, &what));
        }
    }
    none(&broken);
}

/// Lines of the module header; tables, and pictures and examples (fenced), are not counted.
fn header_lines(text: &str) -> usize {
    let mut fenced = false;
    let header = text.lines().take_while(|line| line.starts_with("//!"));
    let prose = header.filter(|line| {
        let fence = line.contains("```");
        fenced ^= fence;
        !fenced && !fence && !line.starts_with("//! |")
    });
    prose.count()
}

#[test]
fn files_are_one_idea() {
    let mut broken = Vec::new();
    for source in sources("src") {
        let lines = source.product_lines();
        let exception = LONG_FILES.iter().find(|(path, ..)| *path == source.path);
        let allowed = exception.map_or(FILE_LINES_MAX, |(_, lines, _)| *lines);
        if lines > allowed {
            let what = format!("{lines} lines, {allowed} allowed; find the second idea and give it a file");
            broken.push(source.at(1, &what));
        } else if exception.is_some() && lines < allowed {
            broken
                .push(source.at(1, &format!("only {lines} lines now; lower its entry in LONG_FILES of tests/tidy.rs")));
        }
    }
    none(&broken);
}

#[test]
fn functions_fit_a_screen() {
    let mut broken = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        for function in source.functions() {
            let exception =
                LONG_FUNCTIONS.iter().find(|(path, name, ..)| *path == source.path && *name == function.name);
            let allowed = exception.map_or(FUNCTION_LINES_MAX, |(.., lines, _)| *lines);
            if function.lines > allowed {
                let what = format!("fn {} has {} lines, {allowed} allowed; split it", function.name, function.lines);
                broken.push(source.at(function.line, &what));
            }
        }
    }
    none(&broken);
}

#[test]
fn names_say_what_a_thing_does() {
    let mut broken = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        for (line, name) in source.identifiers() {
            if !CRATE_NAMES.contains(&name)
                && source::words_of(name).iter().any(|word| EMPTY_NAMES.contains(&word.as_str()))
            {
                broken.push(source.at(line, &format!("the name {name} is empty; say what it does")));
            }
        }
    }
    none(&broken);
}

#[test]
fn nothing_is_left_for_later() {
    let unfinished = ["TODO", "FIXME", "XXX", "should work"];
    let mut broken = Vec::new();
    let mut texts: Vec<Source> = sources("src").into_iter().chain(sources("tests")).chain(sources("benches")).collect();
    texts.extend(documents::all());
    for source in texts.iter().filter(|source| !source.path.starts_with(BANS_WORDS)) {
        for (number, line) in source.text.lines().enumerate() {
            for word in unfinished.iter().filter(|word| line.contains(**word)) {
                broken
                    .push(source.at(number + 1, &format!("{word:?}; finish it, or open an issue and delete the line")));
            }
        }
    }
    none(&broken);
}

#[test]
fn exceptions_from_lints_give_a_reason() {
    let mut broken = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        for (line, attribute) in source.attributes(&["allow", "expect"]) {
            if !attribute.contains("reason =") {
                broken.push(
                    source.at(line, "a lint is silenced without a reason; use #[expect(lint, reason = \"...\")]"),
                );
            }
        }
    }
    none(&broken);
}

#[test]
fn sources_are_ascii() {
    let mut broken = Vec::new();
    for source in sources("src") {
        for (number, line) in source.text.lines().enumerate() {
            if let Some(found) = line.chars().find(|c| !c.is_ascii()) {
                let what = format!("{found:?} is not ASCII; write \\u{{{:x}}} or use a plain sign", u32::from(found));
                broken.push(source.at(number + 1, &what));
            }
        }
    }
    none(&broken);
}

#[test]
fn unsafe_code_has_one_home() {
    let mut broken = Vec::new();
    for source in sources("src").iter().filter(|source| source.path != UNSAFE_HOME) {
        for (line, _) in source.identifiers().filter(|(_, name)| ["unsafe", "memmap2"].contains(name)) {
            broken.push(source.at(line, &format!("unsafe code and maps are only in {UNSAFE_HOME}")));
        }
    }
    none(&broken);
}

#[test]
fn storage_works_without_the_doors() {
    let mut broken = Vec::new();
    for source in sources("src/storage").into_iter().filter(|source| !source.is_test()) {
        for (line, name) in source.identifiers().filter(|(_, name)| NOT_FOR_STORAGE.contains(name)) {
            broken.push(source.at(line, &format!("storage is synchronous and knows no wire: no {name} here")));
        }
    }
    none(&broken);
}

#[test]
fn the_wire_contract_is_commented() {
    none(&documents::uncommented_in_proto());
}

#[test]
fn links_in_documents_lead_somewhere() {
    none(&documents::dead_links());
}

#[test]
fn configuration_keys_are_explained() {
    none(&documents::unexplained_keys());
}

#[test]
fn the_rules_see_what_they_should_see() {
    let text = "//! Header.\nuse crate::{types, partition::{journal::J, Log as L}};\n// crate::comment\n\
                fn f() {\n    let s = \"crate::text {\";\n}\n#[expect(x)]\nfn g(c: char) -> bool { c == '{' }\n\
                use super::super::x;\n#[cfg(test)]\nmod tests {\n    use crate::only_in_tests;\n}\n";
    let source = Source::new("src/group/b.rs".to_owned(), text.to_owned());
    assert_eq!(source.product_lines(), 9);
    let used = arrows::used_paths(source.product_code());
    let expected = ["types", "partition::journal::J", "partition::Log"].map(|path| (2, path.to_owned()));
    assert_eq!(used, expected);
    assert_eq!(arrows::broken(&source).len(), 2, "partition::Log is not for group, and super::super leaves it");
    let functions: Vec<_> = source.functions().into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    assert_eq!(functions, [("f".to_owned(), 4, 3), ("g".to_owned(), 8, 1)]);
    assert_eq!(source.attributes(&["expect"]).len(), 1);
    assert_eq!(source::words_of("HTTPFileManager_v2"), ["httpfile", "manager", "v2"]);
}
