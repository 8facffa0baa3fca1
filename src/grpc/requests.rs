//! `RequestService`.

use super::Door;
use super::convert::{at_most, durability_in, durability_out, partition_offset_out};
use super::status::{reason, status};
use crate::broker::requests::{Answered, Replied, Request as Asked};
use crate::broker::{BrokerError, Reply};
use crate::limits;
use crate::proto::{self, request_service_server::RequestService};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status, async_trait};

#[async_trait]
impl RequestService for Door {
    async fn request(
        &self,
        request: Request<proto::RequestRequest>,
    ) -> Result<Response<proto::RequestResponse>, Status> {
        let request = request.into_inner();
        let answered = async {
            at_most("timeout_ms", request.timeout_ms, limits::REQUEST_TIMEOUT_MS_MAX)?;
            let timeout_ms = match request.timeout_ms {
                0 => limits::REQUEST_TIMEOUT_MS_DEFAULT,
                timeout_ms => timeout_ms,
            };
            let asked = Asked {
                topic: &request.topic,
                partition: request.partition,
                record: request.record,
                durability: durability_in(request.durability)?,
                timeout: Duration::from_millis(timeout_ms.into()),
                reply_topic: &request.reply_topic,
            };
            self.broker.request(asked).await
        };
        let Answered { partition, ack, reply, correlation_id } = answered.await.map_err(|error| {
            // What ended after the append is no failure to produce.
            if !matches!(error, BrokerError::Request(_)) {
                self.broker.metrics().produce_failed(reason(&error));
            }
            status(&error)
        })?;
        Ok(Response::new(proto::RequestResponse {
            partition,
            offset: ack.appended.base_offset.0,
            append_time_ms: ack.appended.append_time_ms,
            durability: durability_out(ack.durability),
            reply: reply.record,
            failure: reply.failure,
            correlation_id: correlation_id.unwrap_or_default(),
        }))
    }

    async fn reply(&self, request: Request<proto::ReplyRequest>) -> Result<Response<proto::ReplyResponse>, Status> {
        let proto::ReplyRequest { token, record, failure } = request.into_inner();
        // In a task of its own: a replier that goes away in the middle must not leave its reply in the reply topic and
        // the caller without it.
        let broker = Arc::clone(&self.broker);
        let replied = tokio::spawn(async move { broker.reply(&token, Reply { record, failure }).await });
        let replied = replied.await.map_err(|error| Status::internal(error.to_string()))?;
        let Replied { delivered, appended } = replied.map_err(|error| status(&error))?;
        let appended = appended.map(|(at, ack)| partition_offset_out((at, ack.appended.base_offset)));
        Ok(Response::new(proto::ReplyResponse { delivered, appended }))
    }
}
