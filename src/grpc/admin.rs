//! `AdminService`.

use super::Door;
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
        }))
    }
}
