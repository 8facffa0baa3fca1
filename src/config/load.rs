//! Reads the sources of the configuration in order and merges them into one checked [`Config`].
//!
//! Everything comes in as values (the text of the environment, the flags), so that a load is the same in a test and
//! in the process; only the file is read here, by its path.

use super::keys::{KEYS, Key, RawValue};
use super::{Config, ConfigError, Origin};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// What a load reads, from the weakest source to the strongest.
#[derive(Debug, Default, Clone)]
pub struct Sources {
    /// The configuration file, if there is one. A file that was named must exist.
    pub file: Option<PathBuf>,
    /// The environment, whole: names and values.
    pub environment: Vec<(String, String)>,
    /// What flags of the command line set.
    pub flags: Vec<Setting>,
}

/// One value set by a flag.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The flag as typed, such as `--listen`.
    pub flag: &'static str,
    /// The key it sets, such as `broker.listen`.
    pub key: &'static str,
    /// The value as typed.
    pub value: String,
}

/// A configuration, and which source each of its values came from.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration, checked.
    pub config: Config,
    /// Only keys that some source set.
    origins: BTreeMap<&'static str, Origin>,
}

/// Reads and checks the configuration.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut loaded = Loaded { config: Config::default(), origins: BTreeMap::new() };
    if let Some(path) = &sources.file {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        loaded.take_file(path, &text)?;
    }
    loaded.take_environment(&sources.environment)?;
    for Setting { flag, key, value } in &sources.flags {
        loaded.take(Origin::Flag(flag), key, &RawValue::Untyped(value.clone()))?;
    }
    loaded.finish()
}

impl Loaded {
    /// The whole configuration as a file that could be loaded again, with the source of each value.
    pub fn to_toml(&self) -> String {
        let mut config = self.config.clone();
        let mut text = String::new();
        let mut open_section = "";
        for key in KEYS {
            let (section, name) = key.name.split_once('.').expect("every key has a section");
            if section != open_section {
                let gap = if open_section.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}[{section}]");
                open_section = section;
            }
            let setting = format!("{name} = {}", (key.slot)(&mut config).toml());
            let _ = writeln!(text, "{setting:<48} # {}", self.origin(key.name));
        }
        text
    }

    fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    fn take_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let line_at = |position: usize| 1 + text.as_bytes().iter().take(position).filter(|b| **b == b'\n').count();
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: line_at(error.span().map_or(0, |span| span.start)),
            what: error.message().to_owned(),
        })?;
        for (section, body) in table.get_ref() {
            let origin = |position| Origin::File { path: path.to_owned(), line: line_at(position) };
            let Some(keys) = body.get_ref().as_table() else {
                return Err(unknown_key(origin(section.span().start), section.get_ref()));
            };
            if !KEYS.iter().any(|key| section_of(key.name) == section.get_ref()) {
                return Err(unknown_key(origin(section.span().start), section.get_ref()));
            }
            for (name, value) in keys {
                let key = format!("{}.{}", section.get_ref(), name.get_ref());
                self.take(origin(name.span().start), &key, &raw_value(value.get_ref()))?;
            }
        }
        Ok(())
    }

    fn take_environment(&mut self, environment: &[(String, String)]) -> Result<(), ConfigError> {
        for (variable, value) in environment {
            let origin = || Origin::Environment(variable.clone());
            if let Some(key) = KEYS.iter().find(|key| key.variable() == *variable) {
                self.take(origin(), key.name, &RawValue::Untyped(value.clone()))?;
            } else if names_a_section(variable) {
                return Err(unknown_key(origin(), &as_key(variable)));
            }
        }
        Ok(())
    }

    fn take(&mut self, origin: Origin, name: &str, value: &RawValue) -> Result<(), ConfigError> {
        let Some(Key { name, slot }) = KEYS.iter().find(|key| key.name == name) else {
            return Err(unknown_key(origin, name));
        };
        if !slot(&mut self.config).set(value) {
            let allowed = slot(&mut self.config).allowed();
            return Err(ConfigError::Value { origin, key: (*name).to_owned(), value: value.shown(), allowed });
        }
        self.origins.insert(name, origin);
        Ok(())
    }

    /// Fills in what follows from other values, and checks what only the whole can tell.
    fn finish(mut self) -> Result<Self, ConfigError> {
        let broker = &mut self.config.broker;
        if !self.origins.contains_key("broker.auto_create_topics") {
            broker.auto_create_topics = broker.ephemeral;
        }
        if broker.manual_clock && !broker.ephemeral {
            let key = "broker.manual_clock";
            let allowed = "false, or with broker.ephemeral = true: time that was let pass must not outlive its test";
            let (key, value, allowed) = (key.to_owned(), "true".to_owned(), allowed.to_owned());
            return Err(ConfigError::Value { origin: self.origin(&key), key, value, allowed });
        }
        for (key, address) in [("broker.listen", broker.listen), ("broker.admin", broker.admin)] {
            if !address.ip().is_loopback() && !broker.insecure_listen {
                return Err(ConfigError::InsecureListen { origin: self.origin(key), key, address });
            }
        }
        if let Err(refused) = self.config.topics.options.check() {
            let key = format!("topics.{}", refused.option);
            let (value, allowed) = (refused.value.to_string(), refused.allowed);
            return Err(ConfigError::Value { origin: self.origin(&key), key, value, allowed });
        }
        Ok(self)
    }
}

fn raw_value(value: &DeValue<'_>) -> RawValue {
    match value {
        DeValue::String(text) => RawValue::Text(text.to_string()),
        DeValue::Boolean(flag) => RawValue::Boolean(*flag),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map_or(RawValue::Strange("integer too large"), RawValue::Integer),
        other => RawValue::Strange(other.type_str()),
    }
}

fn section_of(key: &str) -> &str {
    key.split_once('.').map_or(key, |(section, _)| section)
}

/// Whether a variable that is no key was surely meant as one: `MILLSTREAM_<SECTION>_...`. Kubernetes sets variables
/// of its own for a service of such a name (`..._SERVICE_HOST`, `..._PORT_7171_TCP`); those were not meant.
fn names_a_section(variable: &str) -> bool {
    let Some(rest) = variable.strip_prefix("MILLSTREAM_") else { return false };
    let of_section = |key: &Key| rest.starts_with(&format!("{}_", section_of(key.name).to_uppercase()));
    let set_by_kubernetes = rest.contains("_SERVICE_") || rest.ends_with("_PORT") || rest.contains("_PORT_");
    KEYS.iter().any(of_section) && !set_by_kubernetes
}

/// `MILLSTREAM_LIMITS_CONNECTIONS` as it would be spelt in the file: `limits.connections`.
fn as_key(variable: &str) -> String {
    variable.trim_start_matches("MILLSTREAM_").to_lowercase().replacen('_', ".", 1)
}

fn unknown_key(origin: Origin, given: &str) -> ConfigError {
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    // A good name in the wrong section is as near as a misspelt one in the right section.
    let distance = |key: &Key| edit_distance(key.name, given).min(edit_distance(&last(key.name), &last(given)) + 1);
    let nearest = KEYS.iter().min_by_key(|key| distance(key)).filter(|key| distance(key) <= 1 + given.len() / 3);
    let advice = nearest.map_or_else(|| keys_near(given), |key| format!("did you mean {}?", key.name));
    ConfigError::UnknownKey { origin, key: given.to_owned(), advice }
}

/// What there is in the section of `given`, or which sections there are.
fn keys_near(given: &str) -> String {
    let same_section = |name: &&str| section_of(name) == section_of(given);
    let keys: Vec<&str> = KEYS.iter().map(|key| key.name).filter(same_section).collect();
    match keys.as_slice() {
        [] => "the sections are [broker], [limits], [topics], [groups], [log]".to_owned(),
        keys => format!("the keys of this section are {}", keys.join(", ")),
    }
}

/// Least number of characters inserted, removed or replaced to turn one name into the other.
fn edit_distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
