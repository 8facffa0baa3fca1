//! `ProducerService`: one request, or a pipeline of them.
//!
//! A stream is one task, that of its answers: while it waits for the oldest it reads requests and queues their records, all
//! that have come before any of them is written. The bound of what is pending and the broker's in-flight budget are what
//! stops the reading, and so does a client that does not read its answers; HTTP/2 flow control then stops the sender.

use super::Door;
use super::convert::{durability_in, outcome_out, producer_in};
use super::status::{part_error, reason, status};
use crate::broker::BrokerError;
use crate::broker::produce::{PendingProduce, Produce};
use crate::metrics::Metrics;
use crate::proto::{self, producer_service_server::ProducerService};
use crate::types::Offset;
use futures_util::FutureExt as _;
use futures_util::stream::{self, Stream, StreamExt as _};
use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status, Streaming, async_trait};

/// How long a single call waits for the in-flight budget before it is told to come back.
const UNARY_PATIENCE: Duration = Duration::from_secs(1);

/// Requests of one stream that are queued and not answered. More than any client has reason to keep open.
const PENDING_MAX: usize = 1024;

/// Requests that are read in one go, if so many have come.
const BURST_MAX: usize = 128;

/// What is to be said on a stream, in order.
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
        let metrics = Arc::clone(self.broker.metrics());
        let reader = Reader::new(self.clone(), request.into_inner());
        let pending = stream::unfold(reader, |mut reader| async move {
            let pending = reader.next().await?;
            Some((pending, reader))
        });
        let responses = pending.map(move |pending| answer(pending, Arc::clone(&metrics))).buffered(PENDING_MAX);
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
struct Reader {
    door: Door,
    requests: Streaming<proto::ProduceStreamRequest>,
    /// The last one that was named.
    topic: String,
    /// Ends when the broker begins to drain. One for the whole stream: it is looked at with every request.
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// What was read, in order.
    queued: VecDeque<Pending>,
    is_over: bool,
}

impl Reader {
    fn new(door: Door, requests: Streaming<proto::ProduceStreamRequest>) -> Self {
        let shutdown = door.broker.shutdown().clone();
        let draining = Box::pin(async move { shutdown.draining().await });
        Self { door, requests, topic: String::new(), draining, queued: VecDeque::new(), is_over: false }
    }

    /// What is to be said of the next request, whose records are queued; `None` when nothing more comes.
    async fn next(&mut self) -> Option<Pending> {
        if self.queued.is_empty() && !self.is_over {
            self.read().await;
        }
        self.queued.pop_front()
    }

    /// Waits for a request, and queues the records of all that have come by then. Nothing is left unwritten when it ends or
    /// waits: nobody knows when it is looked at again, which is up to the client.
    async fn read(&mut self) {
        let first = self.message().await;
        self.queue(first).await;
        while !self.is_over && self.queued.len() < BURST_MAX {
            let Some(message) = self.message().now_or_never() else { break };
            self.queue(message).await;
        }
        write(&mut self.queued);
    }

    /// The next message, or why there is none; `Ok(None)` if the client has sent all.
    async fn message(&mut self) -> Result<Option<proto::ProduceStreamRequest>, Status> {
        // However fast requests come, the end of the broker is noticed.
        if self.door.broker.shutdown().is_draining() {
            return Err(status(&BrokerError::Draining));
        }
        tokio::select! {
            biased;
            message = self.requests.message() => message,
            () = &mut self.draining => Err(status(&BrokerError::Draining)),
        }
    }

    async fn queue(&mut self, message: Result<Option<proto::ProduceStreamRequest>, Status>) {
        let proto::ProduceStreamRequest { correlation_id, request } = match message {
            Ok(Some(message)) => message,
            last => {
                self.is_over = true;
                self.queued.extend(last.err().map(Pending::End));
                return;
            }
        };
        let mut request = request.unwrap_or_default();
        if !request.topic.is_empty() {
            self.topic = std::mem::take(&mut request.topic);
        }
        let mut queueing = pin!(self.door.queue(request, &self.topic, None));
        let produce = if let Some(produce) = queueing.as_mut().now_or_never() {
            produce
        } else {
            // It may wait for those before it.
            write(&mut self.queued);
            queueing.await
        };
        self.queued.push_back(Pending::Answer { correlation_id, produce });
    }
}

fn write(queued: &mut VecDeque<Pending>) {
    for pending in queued {
        if let Pending::Answer { produce: Ok(produce), .. } = pending {
            produce.write();
        }
    }
}

async fn answer(pending: Pending, metrics: Arc<Metrics>) -> Result<proto::ProduceStreamResponse, Status> {
    let (correlation_id, produce) = match pending {
        Pending::Answer { correlation_id, produce } => (correlation_id, produce),
        Pending::End(status) => return Err(status),
    };
    match produce {
        Ok(pending) => {
            let (_, outcomes) = pending.finish().await;
            let results = results_out(outcomes, &metrics);
            Ok(proto::ProduceStreamResponse { correlation_id, results, error: None })
        }
        Err(error) => {
            metrics.produce_failed(reason(&error));
            let error = Some(part_error(&error));
            Ok(proto::ProduceStreamResponse { correlation_id, results: Vec::new(), error })
        }
    }
}

fn results_out(outcomes: Vec<crate::broker::produce::ProduceOutcome>, metrics: &Metrics) -> Vec<proto::ProduceResult> {
    for error in outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err()) {
        metrics.produce_failed(reason(error));
    }
    outcomes.into_iter().map(outcome_out).collect()
}
