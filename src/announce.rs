//! What a broker says when it is ready: where it is, what it holds, and what to try next.
//!
//! A leaf, so that both the server (which knows when it is ready) and the command line may use it. Scripts rely on the
//! lines `gRPC` and `admin`: with port 0 they are how one learns the port.

use crate::types::Durability;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A broker that serves.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The address the gRPC door is bound to.
    pub listen: SocketAddr,
    /// The address the admin door is bound to.
    pub admin: SocketAddr,
    /// Where the data is.
    pub data_dir: PathBuf,
    /// Whether the data goes when the broker stops.
    pub ephemeral: bool,
    /// Topics found, without the broker's own.
    pub topics: usize,
    /// Their partitions.
    pub partitions: usize,
    /// What an acknowledgement means for a topic that does not say.
    pub durability: Durability,
}

/// Says it on standard error.
#[expect(clippy::print_stderr, reason = "this block is for the person at the terminal, whatever the log level")]
pub fn announce(ready: &Ready) {
    eprintln!("{}", text(ready));
}

fn text(ready: &Ready) -> String {
    let fate = if ready.ephemeral { ", deleted when the broker stops" } else { "" };
    let meaning = match ready.durability {
        Durability::Synced => "an acknowledged record survives a power cut",
        Durability::Written => "an acknowledged record survives kill -9, not a power cut",
    };
    let address = match ready.listen.port() {
        7171 if ready.listen.ip().is_loopback() => String::new(),
        _ => format!(" --broker {}", ready.listen),
    };
    let lines = [
        format!("millstream {} is ready", env!("CARGO_PKG_VERSION")),
        format!("  gRPC        {}", ready.listen),
        format!("  admin       http://{}", ready.admin),
        format!("  data        {}{fate}", ready.data_dir.display()),
        format!("              {}, {}", count(ready.topics, "topic"), count(ready.partitions, "partition")),
        format!("  durability  {}: {meaning}", ready.durability),
        String::new(),
        "  try         millstream topic create orders --partitions 3".to_owned() + &address,
        "              echo hello | millstream produce orders".to_owned() + &address,
        "              millstream consume orders -o beginning".to_owned() + &address,
        String::new(),
    ];
    lines.join("\n")
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stand_on_lines_of_their_own() {
        let ready = Ready {
            listen: SocketAddr::from(([127, 0, 0, 1], 40_001)),
            admin: SocketAddr::from(([127, 0, 0, 1], 40_002)),
            data_dir: PathBuf::from("./millstream-data"),
            ephemeral: false,
            topics: 1,
            partitions: 3,
            durability: Durability::Synced,
        };
        let text = text(&ready);
        assert!(text.contains("\n  gRPC        127.0.0.1:40001\n"), "{text}");
        assert!(text.contains("\n  admin       http://127.0.0.1:40002\n"), "{text}");
        assert!(text.contains("1 topic, 3 partitions\n"), "{text}");
        assert!(text.contains("topic create orders --partitions 3 --broker 127.0.0.1:40001\n"), "{text}");
    }
}
