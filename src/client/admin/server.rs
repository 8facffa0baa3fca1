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
    /// How its clock stands.
    pub clock: ClockStatus,
    /// How its disk stands.
    pub disk: DiskStatus,
    /// How far it has read its sealed segments again.
    pub scrub: ScrubStatus,
}

/// How the clock of a broker stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ClockStatus {
    /// Whether records are not deleted because of their age, since the clock jumped.
    pub retention_suspended: bool,
    /// How far the clock is from what it should be; negative = it is behind.
    pub off_by_ms: i64,
}

/// How the disk of a broker stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct DiskStatus {
    /// Free bytes, as last seen.
    pub free_bytes: u64,
    /// Records are refused while less is free.
    pub free_bytes_min: u64,
    /// Whether they are refused now.
    pub refuses_produce: bool,
}

/// How far a broker has read its sealed segments again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ScrubStatus {
    /// How fast; 0 = only when it is asked for.
    pub bytes_per_second: u64,
    /// Whether a pass is under way.
    pub is_running: bool,
    /// Bytes read since the broker started.
    pub bytes_read: u64,
    /// When the last pass over everything ended; `None` = never.
    pub ended_at: Option<TimestampMs>,
    /// Damaged ranges that are known now.
    pub damaged_ranges: u64,
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
            clock: clock_from_wire(info.clock),
            disk: disk_from_wire(info.disk),
            scrub: scrub_from_wire(info.scrub),
        })
    }

    /// Says that the broker's clock is right as it is now; how it stood before.
    pub async fn confirm_clock(&self) -> Result<ClockStatus, ClientError> {
        let mut admin = service!(self, admin_service_client, AdminServiceClient);
        let answer = self.answer(admin.confirm_clock(proto::ConfirmClockRequest {})).await?;
        Ok(clock_from_wire(answer.before))
    }

    /// Lets time pass at once in a broker for tests (`--ephemeral --manual-clock`). Gives what its clock shows then.
    pub async fn advance_clock(&self, by: std::time::Duration) -> Result<TimestampMs, ClientError> {
        let mut admin = service!(self, admin_service_client, AdminServiceClient);
        let advance_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        Ok(self.answer(admin.advance_clock(proto::AdvanceClockRequest { advance_ms })).await?.now_ms)
    }

    /// Begins to read all sealed segments again; `false` if that is under way.
    pub async fn start_scrub(&self) -> Result<bool, ClientError> {
        let mut admin = service!(self, admin_service_client, AdminServiceClient);
        Ok(self.answer(admin.start_scrub(proto::StartScrubRequest {})).await?.started)
    }
}

// An older broker says nothing of these.

fn clock_from_wire(clock: Option<proto::ClockStatus>) -> ClockStatus {
    let proto::ClockStatus { retention_suspended, off_by_ms } = clock.unwrap_or_default();
    ClockStatus { retention_suspended, off_by_ms }
}

fn disk_from_wire(disk: Option<proto::DiskStatus>) -> DiskStatus {
    let proto::DiskStatus { free_bytes, free_bytes_min, refuses_produce } = disk.unwrap_or_default();
    DiskStatus { free_bytes, free_bytes_min, refuses_produce }
}

fn scrub_from_wire(scrub: Option<proto::ScrubStatus>) -> ScrubStatus {
    let scrub = scrub.unwrap_or_default();
    ScrubStatus {
        bytes_per_second: scrub.bytes_per_second,
        is_running: scrub.running,
        bytes_read: scrub.bytes_read,
        ended_at: scrub.ended_at_ms,
        damaged_ranges: scrub.damaged_ranges,
    }
}
