//! What a server takes: time to start, and memory when it is idle, has many topics, or has taken many messages.
//!
//! Memory is that of the server's process and of those it started, from the kernel: PSS shares out what several processes
//! map, RSS does not. It is read a while after the last request, when what was only needed for that may have been given
//! back.

use super::cases::{Amounts, Resource};
use super::figures::{Figure, Figures};
use millstream::bench::payload::BlockBuffer;
use millstream::bench::target::{Sender as _, SenderOptions, Target, TopicPlan};
use millstream::types::Durability;
use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

/// Until memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// Messages are sent in blocks of so many, so many on their way.
const BLOCK_RECORDS: u32 = 1_000;
const IN_FLIGHT: u32 = 4;
const RECORD_BYTES: usize = 100;

/// Takes the figures of a server whose start began at `begun`.
pub async fn measure<T: Target>(
    target: &T,
    resource: Resource,
    amounts: Amounts,
    begun: Instant,
) -> Result<Figures, Box<dyn Error>> {
    let process_id = target.process_id().ok_or("there is no process to look at")?;
    create_topic(target, 0).await?;
    let start_ms = begun.elapsed().as_secs_f64() * 1e3;
    let mut figures = Figures::new();
    match resource {
        Resource::Topics => {
            figures.insert(Figure::StartMs, start_ms);
            settled(process_id, [Figure::IdlePssMib, Figure::IdleRssMib], &mut figures).await?;
            for number in 1..amounts.topics {
                create_topic(target, number).await?;
            }
            settled(process_id, [Figure::TopicsPssMib, Figure::TopicsRssMib], &mut figures).await?;
        }
        Resource::Messages => {
            fill(target, amounts.messages).await?;
            settled(process_id, [Figure::FilledPssMib, Figure::FilledRssMib], &mut figures).await?;
        }
    }
    Ok(figures)
}

fn topic_name(number: u32) -> String {
    format!("resources-{number}")
}

async fn create_topic<T: Target>(target: &T, number: u32) -> Result<(), T::Error> {
    let plan = TopicPlan { name: topic_name(number), partitions: 1, durability: Durability::Written };
    target.create_topic(&plan).await
}

/// Sends so many messages to the first topic, and waits for all acknowledgements.
async fn fill<T: Target>(target: &T, messages: u64) -> Result<(), Box<dyn Error>> {
    let options = SenderOptions {
        topic: topic_name(0),
        in_flight: IN_FLIGHT,
        batch_records: BLOCK_RECORDS,
        record_bytes: RECORD_BYTES,
        linger: None,
        idempotent: true,
    };
    let mut sender = target.open_sender(&options).await?;
    let mut buffer = BlockBuffer::new(0, BLOCK_RECORDS, RECORD_BYTES);
    let blocks = messages / u64::from(BLOCK_RECORDS);
    for number in 0..blocks {
        if number >= IN_FLIGHT.into() {
            sender.settled().await?;
        }
        sender.send(0, buffer.stamp(number * u64::from(BLOCK_RECORDS), BLOCK_RECORDS, |_| 0)).await?;
    }
    for _ in 0..blocks.min(IN_FLIGHT.into()) {
        sender.settled().await?;
    }
    Ok(())
}

/// Waits a while, then reads memory: first PSS, then RSS.
async fn settled(process_id: u32, names: [Figure; 2], figures: &mut Figures) -> Result<(), Box<dyn Error>> {
    tokio::time::sleep(SETTLE).await;
    let (pss_kib, rss_kib) = memory_kib(process_id)?;
    for (name, kib) in names.into_iter().zip([pss_kib, rss_kib]) {
        figures.insert(name, f64::from(kib) / 1_024.0);
    }
    Ok(())
}

/// PSS and RSS of a process and of all that it started.
fn memory_kib(process_id: u32) -> std::io::Result<(u32, u32)> {
    let rollup = fs::read_to_string(format!("/proc/{process_id}/smaps_rollup"))?;
    let (mut pss_kib, mut rss_kib) = (kib(&rollup, "Pss"), kib(&rollup, "Rss"));
    for thread in fs::read_dir(format!("/proc/{process_id}/task"))? {
        let children = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            // A child may end while it is looked at.
            if let Ok((pss, rss)) = memory_kib(child) {
                (pss_kib, rss_kib) = (pss_kib + pss, rss_kib + rss);
            }
        }
    }
    Ok((pss_kib, rss_kib))
}

/// A line of the kernel's, such as `Pss:   1024 kB`. What it does not say is 0.
fn kib(rollup: &str, name: &str) -> u32 {
    let line = rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let rollup = "5581-7ffd [rollup]\nRss:      2048 kB\nPss:      1024 kB\nPss_Anon:  512 kB\n";
        assert_eq!((kib(rollup, "Pss"), kib(rollup, "Rss"), kib(rollup, "Swap")), (1_024, 2_048, 0));
    }

    #[test]
    fn this_process_has_memory_and_shares_some_of_it() {
        let (pss_kib, rss_kib) = memory_kib(std::process::id()).expect("this process is there");
        assert!(pss_kib > 0 && pss_kib <= rss_kib, "{pss_kib} of {rss_kib}");
        assert!(memory_kib(u32::MAX).is_err());
    }
}
