//! `ProducerService`: one request, or a pipeline of them.
//!
//! A stream has two sides that meet in a bounded queue of pending answers: one reads requests and queues their records,
//! the other waits for each answer in turn. The queue's bound and the broker's in-flight budget are what stops the
//! reading; HTTP/2 flow control then stops the sender.

use super::Door;
use super::convert::{durability_in, outcome_out, producer_in};
use super::status::{part_error, reason, status};
use crate::broker::BrokerError;
use crate::broker::produce::{PendingProduce, Produce};
use crate::metrics::Metrics;
use crate::proto::{self, producer_service_server::ProducerService};
use crate::types::Offset;
use futures_util::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming, async_trait};

/// How long a single call waits for the in-flight budget before it is told to come back.
const UNARY_PATIENCE: Duration = Duration::from_secs(1);

/// Requests of one stream that are queued and not answered. More than any client has reason to keep open.
const PENDING_MAX: usize = 1024;

/// What the answering side of a stream is handed, in order.
enum Pending {
    Answer { correlation_id: u64, produce: Result<PendingProduce, BrokerError> },
    End(Status),
}

type ResponseStream = Pin<Box<dyn Stream<Item = Result<proto::ProduceStreamResponse, Status>> + Send>>;

#[async_trait]
impl ProducerService for Door {
    async fn produce(
        &self,
        request: Request<proto::ProduceRequest>,
    ) -> Result<Response<proto::ProduceResponse>, Status> {
        let request = request.into_inner();
        let topic = request.topic.clone();
        let pending = self.queue(request, &topic, Some(UNARY_PATIENCE)).await.map_err(|error| {
            self.broker.metrics().produce_failed(reason(&error));
            status(&error)
        })?;
        let (_, outcomes) = pending.finish().await;
        // With one partition there is one result, and its error is the error of the call.
        if let [outcome] = &outcomes[..]
            && let Err(error) = &outcome.result
        {
            self.broker.metrics().produce_failed(reason(error));
            return Err(status(error));
        }
        Ok(Response::new(proto::ProduceResponse { results: results_out(outcomes, self.broker.metrics()) }))
    }

    type ProduceStreamStream = ResponseStream;

    async fn produce_stream(
        &self,
        request: Request<Streaming<proto::ProduceStreamRequest>>,
    ) -> Result<Response<ResponseStream>, Status> {
        let (queue, pending) = mpsc::channel(PENDING_MAX);
        tokio::spawn(read_requests(self.clone(), request.into_inner(), queue));
        let metrics = Arc::clone(self.broker.metrics());
        let responses = futures_util::stream::unfold((pending, metrics), |(mut pending, metrics)| async move {
            let response = match pending.recv().await? {
                Pending::Answer { correlation_id, produce } => Ok(answer(correlation_id, produce, &metrics).await),
                Pending::End(status) => Err(status),
            };
            Some((response, (pending, metrics)))
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn init_producer(
        &self,
        request: Request<proto::InitProducerRequest>,
    ) -> Result<Response<proto::InitProducerResponse>, Status> {
        let identity = self.broker.init_producer(request.into_inner().name.as_deref()).await;
        let identity = identity.map_err(|error| status(&error))?;
        let (producer_id, producer_epoch) = (identity.id.0, identity.epoch.into());
        Ok(Response::new(proto::InitProducerResponse { producer_id, producer_epoch }))
    }

    async fn fence_partition(
        &self,
        request: Request<proto::FencePartitionRequest>,
    ) -> Result<Response<proto::FencePartitionResponse>, Status> {
        let proto::FencePartitionRequest { topic, partition, token, clear } = request.into_inner();
        if token.is_some() == clear {
            let what = "give a token, or set clear to take the present one away; not both";
            return Err(status(&BrokerError::invalid("token", what)));
        }
        let fenced = self.broker.fence_partition(&topic, partition, token).await;
        fenced.map_err(|error| status(&error))?;
        Ok(Response::new(proto::FencePartitionResponse { token }))
    }
}

impl Door {
    async fn queue(
        &self,
        request: proto::ProduceRequest,
        topic: &str,
        patience: Option<Duration>,
    ) -> Result<PendingProduce, BrokerError> {
        let produce = Produce {
            topic,
            partition: request.partition,
            durability: durability_in(request.durability)?,
            producer: producer_in(&request)?,
            expected_offset: request.expected_offset.map(Offset),
            fencing_token: request.fencing_token,
            records: request.records,
        };
        self.broker.produce(produce, patience).await
    }
}

/// Queues what a client sends until it stops, or the broker does.
async fn read_requests(door: Door, mut requests: Streaming<proto::ProduceStreamRequest>, queue: mpsc::Sender<Pending>) {
    let shutdown = door.broker.shutdown().clone();
    let mut topic = String::new();
    loop {
        let message = tokio::select! {
            message = requests.message() => message,
            () = shutdown.draining() => {
                let _ = queue.send(Pending::End(status(&BrokerError::Draining))).await;
                return;
            }
        };
        let proto::ProduceStreamRequest { correlation_id, request } = match message {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => {
                let _ = queue.send(Pending::End(error)).await;
                return;
            }
        };
        let mut request = request.unwrap_or_default();
        if !request.topic.is_empty() {
            topic = std::mem::take(&mut request.topic);
        }
        let produce = door.queue(request, &topic, None).await;
        if queue.send(Pending::Answer { correlation_id, produce }).await.is_err() {
            return;
        }
    }
}

async fn answer(
    correlation_id: u64,
    produce: Result<PendingProduce, BrokerError>,
    metrics: &Metrics,
) -> proto::ProduceStreamResponse {
    match produce {
        Ok(pending) => {
            let (_, outcomes) = pending.finish().await;
            let results = results_out(outcomes, metrics);
            proto::ProduceStreamResponse { correlation_id, results, error: None }
        }
        Err(error) => {
            metrics.produce_failed(reason(&error));
            let error = Some(part_error(&error));
            proto::ProduceStreamResponse { correlation_id, results: Vec::new(), error }
        }
    }
}

fn results_out(outcomes: Vec<crate::broker::produce::ProduceOutcome>, metrics: &Metrics) -> Vec<proto::ProduceResult> {
    for error in outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err()) {
        metrics.produce_failed(reason(error));
    }
    outcomes.into_iter().map(outcome_out).collect()
}
