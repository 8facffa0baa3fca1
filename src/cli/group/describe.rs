//! A group with its members, as people and scripts read it.

use super::{group_json, lag, state_of};
use crate::cli::exit::CliError;
use crate::cli::{json, table};
use crate::client::Assignor;
use crate::client::admin::GroupDescription;
use serde_json::{Value, json};
use std::io::Write as _;

/// Prints the group, its members and how far it is.
pub(super) fn print(group: &GroupDescription, json: bool) -> Result<(), CliError> {
    if json {
        let mut object = group_json(&group.group);
        object["assignor"] = group.assignor.map(|assignor| assignor.to_string()).into();
        object["members"] = group
            .members
            .iter()
            .map(|member| {
                let partitions = member.partitions.iter();
                json!({
                    "member_id": member.member_id, "client_id": member.client_id, "peer": member.peer,
                    "instance_id": member.instance_id, "away": member.is_away,
                    "filter": member.filter, "topics": member.topics, "topic_patterns": member.topic_patterns,
                    "assignor": member.assignor.map(|assignor| assignor.to_string()),
                    "partitions": partitions
                        .map(|at| json!({ "topic": at.topic.as_str(), "partition": at.partition }))
                        .collect::<Value>(),
                })
            })
            .collect();
        object["partitions"] = group.partitions.iter().map(lag::partition_json).collect();
        object["lag"] = lag::lag_json(&group.lag);
        return json::print_lines([object]);
    }
    let listing = &group.group;
    let shared = group.assignor.map(|assignor| format!(", shared {}", words_of(assignor))).unwrap_or_default();
    let (state, generation) = (state_of(listing), listing.generation);
    let text = format!("group {}: {state}, generation {generation}{shared}\n\n", listing.name);
    std::io::stdout().write_all(text.as_bytes()).map_err(CliError::output)?;
    let members = group.members.iter().map(|member| {
        let partitions: Vec<_> = member.partitions.iter().map(ToString::to_string).collect();
        let peer = if member.is_away { "away".to_owned() } else { member.peer.clone() };
        let reads: Vec<_> = member.topics.iter().chain(&member.topic_patterns).map(String::as_str).collect();
        let assignor = member.assignor.map(|assignor| assignor.to_string()).unwrap_or_default();
        let (id, instance, client) = (&member.member_id, &member.instance_id, &member.client_id);
        [id.clone(), instance.clone(), client.clone(), peer, reads.join(" "), assignor, partitions.join(" ")]
    });
    table::print(["MEMBER", "INSTANCE", "CLIENT", "PEER", "READS", "ASSIGNOR", "PARTITIONS"], members)?;
    std::io::stdout().write_all(b"\n").map_err(CliError::output)?;
    lag::print_progress(group)
}

fn words_of(assignor: Assignor) -> &'static str {
    match assignor {
        Assignor::Balanced => "evenly",
        Assignor::Range => "in ranges",
    }
}
