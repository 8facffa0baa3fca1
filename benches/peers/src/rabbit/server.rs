//! A RabbitMQ node that shares nothing with one that may be installed: a name, ports, directories and a port mapper of its
//! own, all on loopback, no plugins.
//!
//! The start script is the package's, `rabbitmq-server`; it makes way for the Erlang virtual machine, whose process this
//! then is. What the machine starts ends with it. Erlang's port mapper would stay behind, started by whoever comes first,
//! so one is started here, and ended after the node.

use super::super::child::{Server, free_port};
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A node that listens. Its server is dropped, and ended, before its port mapper.
#[derive(Debug)]
pub struct Node {
    pub server: Server,
    pub version: String,
    _port_mapper: PortMapper,
}

impl Node {
    /// Starts the script `program`, with the port mapper `epmd`.
    pub fn start(program: &Path, epmd: &Path, parent: &Path) -> io::Result<Self> {
        let mapper_port = free_port()?;
        let distribution_port = free_port()?;
        let port_mapper = PortMapper::start(epmd, mapper_port)?;
        let server = Server::start(parent, |directory, port| {
            let text = format!("listeners.tcp.1 = 127.0.0.1:{port}\n");
            fs::write(directory.join("rabbitmq.conf"), text).expect("a directory of our own");
            fs::write(directory.join("plugins"), "[].\n").expect("a directory of our own");
            let mut command = Command::new(program);
            // It runs with its defaults, whatever is set for the node of whoever runs this.
            for (name, _) in std::env::vars_os() {
                let is_for_nodes = |name: &str| name.starts_with("RABBITMQ_") || name.starts_with("ERL_");
                if name.to_str().is_some_and(is_for_nodes) {
                    command.env_remove(name);
                }
            }
            for (name, path) in [
                // The cookie is made there.
                ("HOME", "."),
                ("RABBITMQ_MNESIA_BASE", "data"),
                ("RABBITMQ_LOG_BASE", "log"),
                ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
                ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
                ("RABBITMQ_ADVANCED_CONFIG_FILE", "none.config"),
                ("RABBITMQ_CONF_ENV_FILE", "none.conf"),
            ] {
                command.env(name, directory.join(path));
            }
            command.env("RABBITMQ_NODENAME", format!("peer-{port}@localhost"));
            command.env("RABBITMQ_DIST_PORT", distribution_port.to_string());
            command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
            command.env("ERL_EPMD_PORT", mapper_port.to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
            // What lets the script make way, rather than wait beside the machine.
            command.env("RUNNING_UNDER_SYSTEMD", "true");
            command
        })?;
        let log = server.directory().join("log").join(format!("peer-{}@localhost.log", server.port));
        let version = version(&fs::read_to_string(log)?).unwrap_or_default().to_owned();
        Ok(Self { server, version, _port_mapper: port_mapper })
    }
}

/// What the node says of itself when it starts; AMQP clients are told, and do not tell.
fn version(log: &str) -> Option<&str> {
    log.split_once("Starting RabbitMQ ")?.1.split_whitespace().next()
}

/// Erlang's, in the foreground: a child like any other.
#[derive(Debug)]
struct PortMapper(Child);

impl PortMapper {
    fn start(program: &Path, port: u16) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for PortMapper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn the_version_stands_in_the_log() {
        let log =
            "2026-11-28 09:59:04 [info] <0.1.0>\n [info] <0.2.0>  Starting RabbitMQ 3.10.8 on Erlang 25.2.3 [jit]\n";
        assert_eq!(version(log), Some("3.10.8"));
        assert_eq!(version("nothing yet"), None);
    }
}
