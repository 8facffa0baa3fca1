//! Rust sources as the rules see them: text, code without comments and strings, product part, functions, names.

use std::path::{Path, PathBuf};

/// One file.
pub(crate) struct Source {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    /// As it stands on disk.
    pub(crate) text: String,
    /// The text with every character of a comment, string or character literal replaced by a space. Lines and
    /// positions are those of `text`.
    code: String,
    /// Where the inline tests begin; the end of the text if there are none.
    product_end: usize,
}

/// A function with a body.
pub(crate) struct Function {
    pub(crate) name: String,
    /// Where it begins, 1-based.
    pub(crate) line: usize,
    /// From its `fn` to its closing brace.
    pub(crate) lines: usize,
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, in order of path. None if there is no such folder.
pub(crate) fn sources(folder: &str) -> Vec<Source> {
    files(folder, "rs").into_iter().map(|path| Source::read(&path)).collect()
}

/// Paths, from the root, of the files below `folder` with this extension.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("the folder can be listed").path();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if path.is_dir() && !hidden {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let path = path.strip_prefix(root()).expect("it is below the root");
                found.push(path.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

impl Source {
    /// Reads a file by its path from the root.
    pub(crate) fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(root().join(Path::new(path)));
        Self::new(path.to_owned(), text.unwrap_or_else(|error| panic!("{path}: {error}")))
    }

    pub(crate) fn new(path: String, text: String) -> Self {
        let code = without_comments_and_strings(&text);
        let product_end = product_end(&code);
        Self { path, text, code, product_end }
    }

    /// A message about a line of this file.
    pub(crate) fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    /// The code without the inline tests.
    pub(crate) fn product_code(&self) -> &str {
        &self.code[..self.product_end]
    }

    /// Whether the whole file is tests.
    pub(crate) fn is_test(&self) -> bool {
        self.path.ends_with("_tests.rs") || self.path.ends_with("/tests.rs")
    }

    /// Lines without the inline tests; a file that is all tests has none.
    pub(crate) fn product_lines(&self) -> usize {
        if self.is_test() { 0 } else { self.product_code().lines().count() }
    }

    /// Every name and keyword in the code, with its line.
    pub(crate) fn identifiers(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().flat_map(|(number, line)| {
            let names = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            names.filter(|name| !name.is_empty()).map(move |name| (number + 1, name))
        })
    }

    /// Every attribute of these names, whole, with its line.
    pub(crate) fn attributes(&self, names: &[&str]) -> Vec<(usize, &str)> {
        let mut found = Vec::new();
        for name in names {
            for (position, _) in self.code.match_indices(&format!("[{name}(")) {
                let rest = &self.code[position..];
                let end = rest.find(")]").unwrap_or(rest.len());
                found.push((line_at(&self.code, position), &rest[..end]));
            }
        }
        found
    }

    /// Every function with a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (position, _) in self.code.match_indices("fn ") {
            let begins_a_word = !self.code[..position].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            let name: String =
                self.code[position + 3..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if !begins_a_word || name.is_empty() {
                continue;
            }
            if let Some(end) = body_end(&self.code, position) {
                let line = line_at(&self.code, position);
                found.push(Function { name, line, lines: line_at(&self.code, end) - line + 1 });
            }
        }
        found
    }
}

/// The 1-based line of a byte position.
pub(crate) fn line_at(text: &str, position: usize) -> usize {
    1 + text[..position].matches('\n').count()
}

/// The words of a name in camel or snake case, in lower case.
pub(crate) fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous = '_';
    for c in name.chars() {
        if c == '_' || (c.is_ascii_uppercase() && !previous.is_ascii_uppercase()) {
            words.push(String::new());
        }
        if c != '_' {
            words.last_mut().expect("there is one from the start").push(c.to_ascii_lowercase());
        }
        previous = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Where `#[cfg(test)] mod name {` begins.
fn product_end(code: &str) -> usize {
    let attribute = "#[cfg(test)]";
    let inline = |position: &usize| {
        let mut after = code[position + attribute.len()..].lines().map(str::trim);
        let item = after.find(|line| !line.is_empty() && !line.starts_with("#["));
        item.is_some_and(|item| item.starts_with("mod ") && item.ends_with('{'))
    };
    code.match_indices(attribute).map(|(position, _)| position).find(inline).unwrap_or(code.len())
}

/// The closing brace of the function at `position`; `None` for one without a body.
fn body_end(code: &str, position: usize) -> Option<usize> {
    let (mut brackets, mut braces) = (0usize, 0usize);
    for (offset, byte) in code[position..].bytes().enumerate() {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets = brackets.saturating_sub(1),
            b';' if brackets == 0 && braces == 0 => return None,
            b'{' => braces += 1,
            b'}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return Some(position + offset);
                }
            }
            _ => {}
        }
    }
    None
}

fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let previous_is_name = code.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_length(rest),
            'r' if !previous_is_name && raw_string_length(rest) > 0 => raw_string_length(rest),
            '\'' => character_length(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        code.extend(rest[..skipped].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        rest = &rest[skipped..];
    }
    code
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (position, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return position + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of `r"..."`, `r#"..."#`, ...; 0 if the text does not begin with one.
fn raw_string_length(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    let start = 1 + hashes;
    if text.as_bytes().get(start) != Some(&b'"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    text[start + 1..].find(&end).map_or(text.len(), |position| start + 1 + position + end.len())
}

/// Length of a character literal; 0 for a lifetime.
fn character_length(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(0, |position| position + 4),
        Some(_) => match characters.next() {
            Some((position, '\'')) => position + 1,
            _ => 0,
        },
        None => 0,
    }
}
