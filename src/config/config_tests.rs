//! The promises of the configuration: its order of sources, its documentation, and its error messages.

use super::keys::KEYS;
use super::*;

const REFERENCE: &str = include_str!("../../config/millstream.toml");

/// Loads `text` as if it were the file `m.toml`.
fn load_text(text: &str, environment: &[(&str, &str)], flags: Vec<Setting>) -> Result<Config, String> {
    let directory = tempfile::tempdir().expect("the temporary directory can be written");
    let path = directory.path().join("m.toml");
    #[expect(clippy::disallowed_methods, reason = "a configuration is no file of the log")]
    std::fs::write(&path, text).expect("the temporary directory can be written");
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let directory = format!("{}/", directory.path().display());
    load(&Sources { file: Some(path), environment, flags })
        .map(|loaded| loaded.config)
        .map_err(|error| error.to_string().replace(&directory, ""))
}

fn refused(text: &str) -> String {
    load_text(text, &[], vec![]).expect_err("this configuration should be refused")
}

#[test]
fn reference_file_is_exactly_the_defaults() {
    assert_eq!(load_text(REFERENCE, &[], vec![]), Ok(Config::default()));
}

#[test]
fn every_field_is_a_key_and_every_key_stands_in_the_reference_file() {
    let fields = serde_json::to_value(Config::default()).expect("a configuration is plain data");
    let mut names = Vec::new();
    for (section, keys) in fields.as_object().expect("a struct") {
        for name in keys.as_object().expect("a struct").keys() {
            names.push(format!("{section}.{name}"));
        }
    }
    let mut keys: Vec<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    names.sort();
    keys.sort();
    assert_eq!(names, keys);

    let reference: toml::Table = REFERENCE.parse().expect("the reference file is TOML");
    for name in names {
        let (section, key) = name.split_once('.').expect("made above");
        let found = reference.get(section).and_then(|section| section.get(key));
        assert!(found.is_some(), "config/millstream.toml does not list {name}");
    }
}

#[test]
fn later_sources_win() {
    let file = "[limits]\nconnections_max = 1\nstreams_per_connection_max = 1\nproduce_in_flight_bytes_max = '1GiB'";
    let environment =
        [("MILLSTREAM_LIMITS_CONNECTIONS_MAX", "2"), ("MILLSTREAM_LIMITS_STREAMS_PER_CONNECTION_MAX", "2")];
    let flag = Setting { flag: "--x", key: "limits.connections_max", value: "3".to_owned() };
    let limits = load_text(file, &environment, vec![flag]).expect("valid").limits;
    assert_eq!((limits.connections_max, limits.streams_per_connection_max), (3, 2));
    assert_eq!(limits.produce_in_flight_bytes_max, 1 << 30);
}

#[test]
fn what_is_printed_loads_to_the_same() {
    let text = "[broker]\ndata_dir = 'a \"b\" \\c'\nlisten = '[::1]:1'\n[topics]\nretention_ms = '1501ms'\n\
                durability = 'written'\n[log]\nformat = 'json'\nlevel = 'trace'";
    let path = tempfile::NamedTempFile::new().expect("the temporary directory can be written");
    #[expect(clippy::disallowed_methods, reason = "a configuration is no file of the log")]
    std::fs::write(path.path(), text).expect("the temporary directory can be written");
    let loaded = load(&Sources { file: Some(path.path().to_owned()), ..Sources::default() }).expect("valid");
    assert_eq!(load_text(&loaded.to_toml(), &[], vec![]), Ok(loaded.config));
}

#[test]
fn refusals_name_the_place_the_key_and_what_is_allowed() {
    let cases = [
        ("[broker]\n\nlissten = 'x'", "m.toml:3: unknown key broker.lissten; did you mean broker.listen?"),
        ("[broker]\nconnections_max = 5", "m.toml:2: unknown key broker.connections_max; did you mean limits.connec"),
        ("listen = 'x'", "m.toml:1: unknown key listen; did you mean broker.listen?"),
        ("[storage]\nx = 1", "m.toml:1: unknown key storage; the sections are [broker], [limits], [topics], [groups]"),
        ("[log]\ncolour = 1", "m.toml:2: unknown key log.colour; the keys of this section are log.level, log.format"),
        ("[log]\nlevel = 'loud'", "m.toml:2: log.level is \"loud\"; it must be one of \"error\", \"warn\", \"info\""),
        ("[broker]\nephemeral = 'yes'", "m.toml:2: broker.ephemeral is \"yes\"; it must be true or false"),
        ("[broker]\nlisten = 7171", "m.toml:2: broker.listen is 7171; it must be an address and a port"),
        ("[limits]\nconnections_max = 0", "m.toml:2: limits.connections_max is 0; it must be a whole number from 1"),
        ("[limits]\nconnections_max = 1.5", "m.toml:2: limits.connections_max is of type float; it must be a whole"),
        ("[topics]\nsegment_bytes = '1KiB'", "m.toml:2: topics.segment_bytes is 1024; it must be 1048576 to 107374182"),
        ("[topics]\nretention_ms = -1", "m.toml:2: topics.retention_ms is -1; it must be a time from 0ms to"),
        ("[topics]\nbatch_bytes_max = '2KiB'", "m.toml:2: topics.batch_bytes_max is 2048; it must be 1048576 to 838"),
        ("[broker]\nlisten = '1.2.3.4:5", "m.toml:2: not valid TOML: "),
    ];
    for (text, expected) in cases {
        let message = refused(text);
        assert!(message.starts_with(expected), "\n{text}\n  gives    {message}\n  expected {expected}");
    }
}

#[test]
fn variables_that_were_meant_as_keys_are_refused_and_others_are_not() {
    let message = load_text("", &[("MILLSTREAM_BROKER_LISSTEN", "x")], vec![]).expect_err("misspelt");
    assert!(message.contains("MILLSTREAM_BROKER_LISSTEN: unknown key broker.lissten; did you mean broker.listen?"));
    let others = [
        ("MILLSTREAM_CONFIG", "x"),
        ("MILLSTREAM_BROKER_SERVICE_HOST", "10.0.0.1"),
        ("MILLSTREAM_BROKER_PORT_7171_TCP", "tcp://10.0.0.1:7171"),
        ("HOME", "/"),
    ];
    assert_eq!(load_text("", &others, vec![]), Ok(Config::default()));
}

#[test]
fn addresses_that_other_machines_reach_need_consent() {
    for (key, other) in [("listen", "0.0.0.0:1"), ("admin", "[::]:1")] {
        let text = format!("[broker]\n{key} = '{other}'");
        let message = refused(&text);
        assert!(message.starts_with(&format!("m.toml:2: broker.{key} is {other}")), "{message}");
        let consenting = load_text(&format!("{text}\ninsecure_listen = true"), &[], vec![]).expect("consent was given");
        assert!(consenting.is_exposed());
    }
    assert!(!Config::default().is_exposed());
}

#[test]
fn topics_are_created_by_use_only_where_nothing_is_kept_unless_said() {
    let auto_create = |text: &str| load_text(text, &[], vec![]).expect("valid").broker.auto_create_topics;
    assert!(!auto_create(""));
    assert!(auto_create("[broker]\nephemeral = true"));
    assert!(!auto_create("[broker]\nephemeral = true\nauto_create_topics = false"));
    assert!(auto_create("[broker]\nauto_create_topics = true"));
}
