//! The interface as clients meet it: a live broker, a real socket, the generated stubs.
//!
//! Names of tests are promises. Every test has a broker of its own, waits for conditions with a bound, and never for
//! time. `docs/errors.md` and the comments in `proto/` are what is tested.

mod common;

#[path = "api/advance_clock.rs"]
mod advance_clock;
#[path = "api/bad_input.rs"]
mod bad_input;
#[path = "api/bad_records.rs"]
mod bad_records;
#[path = "api/compaction.rs"]
mod compaction;
#[path = "api/credit.rs"]
mod credit;
#[path = "api/dead_letters.rs"]
mod dead_letters;
#[path = "api/dead_letters_redrive.rs"]
mod dead_letters_redrive;
#[path = "api/example.rs"]
mod example;
#[path = "api/fencing.rs"]
mod fencing;
#[path = "api/fetch.rs"]
mod fetch;
#[path = "api/filters.rs"]
mod filters;
#[path = "api/group_commits.rs"]
mod group_commits;
#[path = "api/group_evict.rs"]
mod group_evict;
#[path = "api/group_fork.rs"]
mod group_fork;
#[path = "api/group_instances.rs"]
mod group_instances;
#[path = "api/group_lag.rs"]
mod group_lag;
#[path = "api/group_members.rs"]
mod group_members;
#[path = "api/group_patterns.rs"]
mod group_patterns;
#[path = "api/group_pause.rs"]
mod group_pause;
#[path = "api/group_seek.rs"]
mod group_seek;
#[path = "api/group_upkeep.rs"]
mod group_upkeep;
#[path = "api/groups.rs"]
mod groups;
#[path = "api/idempotence.rs"]
mod idempotence;
#[path = "api/list_offsets.rs"]
mod list_offsets;
#[path = "api/message_ids.rs"]
mod message_ids;
#[path = "api/observation.rs"]
mod observation;
#[path = "api/produce.rs"]
mod produce;
#[path = "api/produce_stream.rs"]
mod produce_stream;
#[path = "api/queue_arrivals.rs"]
mod queue_arrivals;
#[path = "api/queue_filters.rs"]
mod queue_filters;
#[path = "api/queue_patterns.rs"]
mod queue_patterns;
#[path = "api/queue_policies.rs"]
mod queue_policies;
#[path = "api/queue_streams.rs"]
mod queue_streams;
#[path = "api/queues.rs"]
mod queues;
#[path = "api/requests.rs"]
mod requests;
#[path = "api/restart.rs"]
mod restart;
#[path = "api/retention.rs"]
mod retention;
#[path = "api/retention_safety.rs"]
mod retention_safety;
#[path = "api/schedule_delivery.rs"]
mod schedule_delivery;
#[path = "api/schedules.rs"]
mod schedules;
#[path = "api/scrub.rs"]
mod scrub;
#[path = "api/slow_disk.rs"]
mod slow_disk;
#[path = "api/subscribe.rs"]
mod subscribe;
#[path = "api/topic_changes.rs"]
mod topic_changes;
#[path = "api/topics.rs"]
mod topics;
