//! What a broker takes of the machine, as the kernel counts it, and what its metrics page says.

use crate::broker::Broker;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The kernel's default of memory maps of one process.
const MAPS_MAX: usize = 65_530;

/// The kernel counts the time of processors in hundredths of a second.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a process takes, at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Memory of its own, and mapped pages of files, which the kernel takes back when it needs them.
    own_kib: u64,
    mapped_kib: u64,
    virtual_kib: u64,
    files: usize,
    maps: usize,
    processor: Duration,
}

impl Usage {
    pub(crate) fn of(broker: &Broker) -> Self {
        let directory = PathBuf::from(format!("/proc/{}", broker.process_id()));
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).expect("the broker runs");
        let status = read("status");
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the kernel says it");
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
        };
        // The name of the program, in parentheses, may hold spaces; user and system time are numbers 14 and 15.
        let stat = read("stat");
        let after_name = stat.rsplit_once(')').expect("it has one").1;
        let ticks: u32 =
            after_name.split_whitespace().skip(11).take(2).map(|n| n.parse::<u32>().expect("a number")).sum();
        Self {
            own_kib: kib("RssAnon"),
            mapped_kib: kib("RssFile"),
            virtual_kib: kib("VmSize"),
            files: std::fs::read_dir(directory.join("fd")).expect("the broker runs").count(),
            maps: read("maps").lines().count(),
            processor: CLOCK_TICK * ticks,
        }
    }

    /// Memory of its own, in KiB.
    pub(crate) fn own_kib(&self) -> u64 {
        self.own_kib
    }

    /// Prints it and holds it against the limits.
    pub(crate) fn check(&self, when: &str, files_max: u64) {
        let Self { own_kib, mapped_kib, virtual_kib, files, maps, .. } = *self;
        println!(
            "{when}: {} MiB of memory and {} MiB of mapped files (of {} GiB of addresses), {files} file descriptors, \
             {maps} maps",
            own_kib >> 10,
            mapped_kib >> 10,
            virtual_kib >> 20
        );
        assert!((files as u64) < files_max && maps < MAPS_MAX);
    }
}

/// Lets some seconds pass, and prints what the broker did in them although nobody asked anything of it.
pub(crate) async fn watch_idle(broker: &Broker, seconds: u64) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let upkeep_before = upkeep(&metrics(broker).await);
    let before = Usage::of(broker).processor;
    for _ in 0..=seconds {
        ticks.tick().await;
    }
    let used = Usage::of(broker).processor.saturating_sub(before);
    let upkeep_after = upkeep(&metrics(broker).await);
    let (rounds, took) = (upkeep_after.0 - upkeep_before.0, upkeep_after.1 - upkeep_before.1);
    println!(
        "idle for {seconds} s: {used:?} of processor time; {rounds} rounds of upkeep, {:.1} ms each",
        took * 1000.0 / f64::from(rounds)
    );
    assert!(rounds > 0, "the test is about upkeep");
    assert!(used < Duration::from_secs(seconds) / 4, "an idle broker is busy");
}

/// How many rounds of upkeep there were, and how many seconds they took.
fn upkeep(page: &str) -> (u32, f64) {
    let text = |name| text_of(page, name);
    let rounds = text("millstream_upkeep_seconds_count").parse().expect("a whole number");
    (rounds, text("millstream_upkeep_seconds_sum").parse().expect("a number"))
}

/// The metrics page.
pub(crate) async fn metrics(broker: &Broker) -> String {
    let address = tokio::time::timeout(PATIENCE, admin_address(broker)).await.expect("it is announced");
    let mut stream = TcpStream::connect(address).await.expect("the admin door is open");
    let request = b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.expect("the admin door reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the admin door answers");
    answer
}

/// It is announced in the line after the one that says that the broker is ready.
async fn admin_address(broker: &Broker) -> String {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    loop {
        looks.tick().await;
        let log = broker.log();
        if let Some(address) = log.lines().find_map(|line| line.strip_prefix("  admin       http://")) {
            return address.to_owned();
        }
    }
}

/// The value of a series without labels.
pub(crate) fn metric(page: &str, name: &str) -> u64 {
    text_of(page, name).parse().expect("a whole number")
}

fn text_of<'p>(page: &'p str, name: &str) -> &'p str {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not on the page"))
}

/// The values of the series that begin like this.
pub(crate) fn values(page: &str, beginning: &str) -> impl Iterator<Item = u64> {
    page.lines()
        .filter(move |line| line.starts_with(beginning))
        .map(|line| line.rsplit_once(' ').expect("a value").1.parse().expect("a whole number"))
}
