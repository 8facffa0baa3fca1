//! `ConsumerService`: fetch, offsets, commits. Subscriptions have a file of their own.

use super::convert::{
    at_most, batches_out, check_count, commits_in, committed_out, filter_in, position_in, refused_out,
};
use super::status::{part_error, status};
use super::{Door, subscribe};
use crate::broker::fetch::{Fetch, Fetched};
use crate::broker::{BrokerError, Generation, MemberId};
use crate::limits;
use crate::proto::{self, consumer_service_server::ConsumerService};
use crate::types::Offset;
use std::time::Duration;
use tonic::{Request, Response, Status, Streaming, async_trait};

#[async_trait]
impl ConsumerService for Door {
    async fn fetch(&self, request: Request<proto::FetchRequest>) -> Result<Response<proto::FetchResponse>, Status> {
        let request = request.into_inner();
        let fetch = fetch_in(&request).map_err(|error| status(&error))?;
        let results = self.broker.fetch(fetch).await.map_err(|error| status(&error))?;
        // One partition, one error: then it is the error of the call.
        if let [Err(error)] = &results[..] {
            return Err(status(error));
        }
        let partitions = request.positions.into_iter().zip(results).map(fetched_out).collect();
        Ok(Response::new(proto::FetchResponse { partitions }))
    }

    type SubscribeStream = subscribe::ResponseStream;

    async fn subscribe(
        &self,
        request: Request<Streaming<proto::SubscribeRequest>>,
    ) -> Result<Response<subscribe::ResponseStream>, Status> {
        let peer = request.remote_addr().map(|address| address.to_string()).unwrap_or_default();
        Ok(Response::new(subscribe::subscribe(self.clone(), request.into_inner(), peer)))
    }

    async fn list_offsets(
        &self,
        request: Request<proto::ListOffsetsRequest>,
    ) -> Result<Response<proto::ListOffsetsResponse>, Status> {
        let entries = request.into_inner().entries;
        check_count("entries", entries.len(), limits::FETCH_POSITIONS_MAX).map_err(|error| status(&error))?;
        let mut offsets = Vec::with_capacity(entries.len());
        for entry in entries {
            let proto::ListOffsetsEntry { topic, partition, position } = entry;
            let resolved = match position_in(position) {
                Ok(position) => self.broker.resolve(&topic, partition, position).await,
                Err(error) => Err(error),
            };
            let mut listed = proto::ListedOffset { topic, partition, ..proto::ListedOffset::default() };
            match resolved {
                Ok((offset, offsets)) => {
                    listed.offset = offset.0;
                    listed.log_start_offset = offsets.log_start.0;
                    listed.high_watermark = offsets.high_watermark.0;
                }
                Err(error) => listed.error = Some(part_error(&error)),
            }
            offsets.push(listed);
        }
        Ok(Response::new(proto::ListOffsetsResponse { offsets }))
    }

    async fn commit_offsets(
        &self,
        request: Request<proto::CommitOffsetsRequest>,
    ) -> Result<Response<proto::CommitOffsetsResponse>, Status> {
        let proto::CommitOffsetsRequest { group, offsets, member_id, generation } = request.into_inner();
        check_count("offsets", offsets.len(), limits::COMMIT_OFFSETS_MAX).map_err(|error| status(&error))?;
        let member = (!member_id.is_empty()).then(|| (MemberId::new(&member_id), Some(Generation(generation))));
        let refused = self.broker.commit(&group, member, commits_in(offsets)).await;
        let errors = refused_out(refused.map_err(|error| status(&error))?);
        Ok(Response::new(proto::CommitOffsetsResponse { errors }))
    }

    async fn fetch_offsets(
        &self,
        request: Request<proto::FetchOffsetsRequest>,
    ) -> Result<Response<proto::FetchOffsetsResponse>, Status> {
        let proto::FetchOffsetsRequest { group, topics } = request.into_inner();
        let committed = self.broker.committed(&group, &topics).await.map_err(|error| status(&error))?;
        Ok(Response::new(proto::FetchOffsetsResponse { offsets: committed.into_iter().map(committed_out).collect() }))
    }
}

pub(super) fn fetch_in(request: &proto::FetchRequest) -> Result<Fetch, BrokerError> {
    let bytes_max = if request.max_bytes == 0 { limits::FETCH_BYTES_DEFAULT } else { request.max_bytes };
    at_most("max_bytes", bytes_max, limits::FETCH_BYTES_MAX)?;
    at_most("max_wait_ms", request.max_wait_ms, limits::FETCH_WAIT_MS_MAX)?;
    let position_in =
        |position: &proto::FetchPosition| (position.topic.clone(), position.partition, Offset(position.offset));
    Ok(Fetch {
        positions: request.positions.iter().map(position_in).collect(),
        bytes_max: bytes_max as usize,
        // More than fits would never be there.
        bytes_min: request.min_bytes.min(bytes_max / 2) as usize,
        wait_max: Duration::from_millis(request.max_wait_ms.into()),
        filter: filter_in(&request.filter)?,
    })
}

fn fetched_out((position, result): (proto::FetchPosition, Result<Fetched, BrokerError>)) -> proto::FetchedPartition {
    let proto::FetchPosition { topic, partition, offset } = position;
    match result {
        Ok(fetched) => proto::FetchedPartition {
            topic,
            partition,
            batches: batches_out(fetched.batches),
            next_offset: fetched.next_offset.0,
            log_start_offset: fetched.log_start.0,
            high_watermark: fetched.high_watermark.0,
            error: None,
        },
        Err(error) => proto::FetchedPartition {
            topic,
            partition,
            next_offset: offset,
            error: Some(part_error(&error)),
            ..proto::FetchedPartition::default()
        },
    }
}
