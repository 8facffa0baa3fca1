//! How identities stand in the journal, readable by a person with an ordinary consumer.
//!
//! | key | value (JSON) | without a value |
//! |---|---|---|
//! | `ids` | `{"reserved_below":2001}`: ids below this may have been given | never |
//! | `name/NAME` | `{"id":7,"epoch":3,"used_at_ms":1700000000000}` | the name was given up |
//!
//! An entry replaces all earlier ones of its key. A reader ignores fields it does not know; a key of another kind is
//! refused, because skipping it would lose state when the journal is cut.

use super::error::ProducerError;
use super::state::{Event, Identities, Identity, Named, ProducerName};
use crate::partition::journal::{JournalEntry, parse_json};
use crate::types::{ProducerId, TimestampMs};
use serde::{Deserialize, Serialize};

const IDS_KEY: &str = "ids";
const NAME_KIND: &str = "name/";

/// More ids than this are not given in the life of any broker.
const RESERVED_BELOW_MAX: u64 = 1 << 62;

#[derive(Serialize, Deserialize)]
struct IdsValue {
    reserved_below: u64,
}

#[derive(Serialize, Deserialize)]
struct NameValue {
    id: ProducerId,
    epoch: u16,
    used_at_ms: TimestampMs,
}

/// The entry that makes `event` durable.
pub(super) fn encode(event: &Event) -> JournalEntry {
    match event {
        Event::Reserved { below } => JournalEntry::json(IDS_KEY.to_owned(), &IdsValue { reserved_below: *below }),
        Event::NameTaken { name, named: Named { identity: Identity { id, epoch }, used_at_ms } } => {
            let value = NameValue { id: *id, epoch: *epoch, used_at_ms: *used_at_ms };
            JournalEntry::json(format!("{NAME_KIND}{name}"), &value)
        }
        Event::NameGivenUp { name } => JournalEntry::tombstone(format!("{NAME_KIND}{name}")),
    }
}

/// The state that the entries, oldest first, describe.
pub(super) fn replay(entries: &[JournalEntry]) -> Result<Identities, ProducerError> {
    let mut identities = Identities::default();
    for entry in entries {
        identities.apply(&decode(entry)?);
    }
    identities.begin();
    Ok(identities)
}

fn decode(entry: &JournalEntry) -> Result<Event, ProducerError> {
    let key = String::from_utf8_lossy(&entry.key).into_owned();
    let corrupt = |what: String| ProducerError::Corrupt { key: key.clone(), what };
    if let (IDS_KEY, Some(value)) = (key.as_str(), &entry.value) {
        let IdsValue { reserved_below } = parse_json(value).map_err(corrupt)?;
        // Behind the last number there is none to reserve, and whoever asked for an id would wait for ever.
        if reserved_below > RESERVED_BELOW_MAX {
            return Err(corrupt(format!("{reserved_below} ids were never given; at most {RESERVED_BELOW_MAX} can be")));
        }
        return Ok(Event::Reserved { below: reserved_below });
    }
    let name = key.strip_prefix(NAME_KIND).ok_or_else(|| corrupt("there is no such kind of key".to_owned()))?;
    let name = ProducerName::new(name).map_err(|error| corrupt(error.to_string()))?;
    let Some(value) = &entry.value else { return Ok(Event::NameGivenUp { name }) };
    let NameValue { id, epoch, used_at_ms } = parse_json(value).map_err(corrupt)?;
    Ok(Event::NameTaken { name, named: Named { identity: Identity { id, epoch }, used_at_ms } })
}
