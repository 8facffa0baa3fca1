//! `AdminService`.

use super::Door;
use super::status::status;
use crate::broker::{ClockStatus, DiskStatus, ScrubStatus};
use crate::limits;
use crate::proto::{self, admin_service_server::AdminService};
use tonic::{Request, Response, Status, async_trait};

#[async_trait]
impl AdminService for Door {
    async fn get_server_info(
        &self,
        _: Request<proto::GetServerInfoRequest>,
    ) -> Result<Response<proto::GetServerInfoResponse>, Status> {
        Ok(Response::new(proto::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            broker_id: self.broker.broker_id().to_string(),
            started_at_ms: self.broker.started_at_ms(),
            ephemeral: self.broker.options().ephemeral,
            request_bytes_max: limits::REQUEST_BYTES_MAX,
            batch_bytes_max: limits::BATCH_BYTES_LIMIT_MAX,
            partitions_max: limits::PARTITIONS_MAX,
            clock: Some(clock_out(self.broker.clock_status())),
            disk: Some(disk_out(self.broker.disk_status())),
            scrub: Some(scrub_out(self.broker.scrub_status(), self.broker.damaged_ranges())),
        }))
    }

    async fn confirm_clock(
        &self,
        _: Request<proto::ConfirmClockRequest>,
    ) -> Result<Response<proto::ConfirmClockResponse>, Status> {
        let before = self.broker.confirm_clock().map_err(|error| status(&error))?;
        Ok(Response::new(proto::ConfirmClockResponse { before: Some(clock_out(before)) }))
    }

    async fn advance_clock(
        &self,
        request: Request<proto::AdvanceClockRequest>,
    ) -> Result<Response<proto::AdvanceClockResponse>, Status> {
        let advanced = self.broker.advance_clock(request.into_inner().advance_ms);
        Ok(Response::new(proto::AdvanceClockResponse { now_ms: advanced.map_err(|error| status(&error))? }))
    }

    async fn start_scrub(
        &self,
        _: Request<proto::StartScrubRequest>,
    ) -> Result<Response<proto::StartScrubResponse>, Status> {
        Ok(Response::new(proto::StartScrubResponse { started: self.broker.start_scrub() }))
    }
}

fn clock_out(ClockStatus { retention_suspended, off_by_ms }: ClockStatus) -> proto::ClockStatus {
    proto::ClockStatus { retention_suspended, off_by_ms }
}

fn disk_out(DiskStatus { free_bytes, free_bytes_min, refuses_produce }: DiskStatus) -> proto::DiskStatus {
    proto::DiskStatus { free_bytes, free_bytes_min, refuses_produce }
}

fn scrub_out(scrub: ScrubStatus, damaged_ranges: u64) -> proto::ScrubStatus {
    proto::ScrubStatus {
        bytes_per_second: scrub.options.bytes_per_second,
        running: scrub.is_running,
        bytes_read: scrub.bytes,
        ended_at_ms: scrub.ended_at_ms,
        damaged_ranges,
    }
}
