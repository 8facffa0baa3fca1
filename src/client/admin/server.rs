//! Which broker this is.

use crate::client::connection::service;
use crate::client::{Client, ClientError};
use crate::proto;
use crate::types::TimestampMs;

/// A broker and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Such as `0.1.0`.
    pub version: String,
    /// UUID of its data directory.
    pub broker_id: String,
    /// When it started.
    pub started_at: TimestampMs,
    /// Whether its data is deleted when it stops.
    pub ephemeral: bool,
    /// Largest request it reads, in bytes.
    pub request_bytes_max: u32,
    /// Largest record set a topic may be told to accept, in bytes.
    pub batch_bytes_max: u32,
    /// Most partitions of one topic.
    pub partitions_max: u32,
}

impl Client {
    /// Asks the broker who it is.
    pub async fn server_info(&self) -> Result<ServerInfo, ClientError> {
        let mut admin = service!(self, admin_service_client, AdminServiceClient);
        let info = self.answer(admin.get_server_info(proto::GetServerInfoRequest {})).await?;
        Ok(ServerInfo {
            version: info.version,
            broker_id: info.broker_id,
            started_at: info.started_at_ms,
            ephemeral: info.ephemeral,
            request_bytes_max: info.request_bytes_max,
            batch_bytes_max: info.batch_bytes_max,
            partitions_max: info.partitions_max,
        })
    }
}
