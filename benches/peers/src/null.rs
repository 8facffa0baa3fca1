//! Millstream's services without a broker: everything is answered, nothing is stored.
//!
//! Tuned as the broker is: HTTP/2 frames of 1 MiB, windows that never close, no delay, mimalloc. With `keep_bytes` it holds so
//! much of each topic in memory, as slices of what came in, so that there is something to send to readers. Records of
//! one request are counted by the size of its first one: here all are alike.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use millstream::proto::admin_service_server::{AdminService, AdminServiceServer};
use millstream::proto::consumer_service_server::{ConsumerService, ConsumerServiceServer};
use millstream::proto::producer_service_server::{ProducerService, ProducerServiceServer};
use millstream::proto::subscribe_request::Request as Asked;
use millstream::proto::subscribe_response::{Assigned, Committed, Opened, Records, Response as Told};
use millstream::proto::topic_service_server::{TopicService, TopicServiceServer};
use millstream::proto::{self, position};
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

const FRAME_BYTES: u32 = 1 << 20;
const WINDOW_BYTES: u32 = 16 << 20;
const REQUEST_BYTES_MAX: usize = 16 << 20;
const MESSAGES_MAX: usize = 16;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What is known of one partition.
#[derive(Debug, Default)]
struct Partition {
    end: u64,
    kept: VecDeque<proto::RecordBatch>,
    kept_bytes: u64,
}

#[derive(Debug)]
struct Topic {
    partitions: Vec<Mutex<Partition>>,
    more: Notify,
}

#[derive(Debug, Clone)]
struct Null {
    keep_bytes: u64,
    topics: Arc<Mutex<HashMap<String, Arc<Topic>>>>,
}

/// Prints its address, then serves for ever.
pub async fn serve(keep_bytes: u64) {
    let null = Null { keep_bytes, topics: Arc::default() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("bound"));
    let served = Server::builder()
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_adaptive_window(Some(false))
        .add_service(TopicServiceServer::new(null.clone()))
        .add_service(ProducerServiceServer::new(null.clone()).max_decoding_message_size(REQUEST_BYTES_MAX))
        .add_service(ConsumerServiceServer::new(null.clone()))
        .add_service(AdminServiceServer::new(null))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await;
    served.expect("it serves until it is killed");
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("a server that stores nothing"))
}

/// How many records like the first one fill the set: each is a tag, a length of one to five bytes, and so many bytes.
fn count_alike(set: &Bytes) -> u32 {
    let (mut length, mut shift, mut at) = (0_usize, 0, 1);
    while let Some(byte) = set.get(at) {
        length |= usize::from(byte & 0x7f) << shift;
        (shift, at) = (shift + 7, at + 1);
        if byte & 0x80 == 0 {
            break;
        }
    }
    u32::try_from(set.len() / (at + length).max(1)).unwrap_or(u32::MAX)
}

impl Null {
    fn topic(&self, name: &str) -> Result<Arc<Topic>, Status> {
        locked(&self.topics).get(name).cloned().ok_or_else(|| Status::not_found("no such topic"))
    }

    fn produce(&self, topic: &Topic, request: proto::ProduceRequest) -> proto::ProduceResult {
        let number = request.partition.unwrap_or(0);
        let record_count = count_alike(&request.records);
        let mut partition = locked(&topic.partitions[number as usize]);
        let base_offset = partition.end;
        partition.end += u64::from(record_count);
        if self.keep_bytes > 0 {
            partition.kept_bytes += request.records.len() as u64;
            let records = request.records;
            let batch = proto::RecordBatch { base_offset, record_count, records, ..proto::RecordBatch::default() };
            partition.kept.push_back(batch);
            while partition.kept_bytes > self.keep_bytes {
                let Some(oldest) = partition.kept.pop_front() else { break };
                partition.kept_bytes -= oldest.records.len() as u64;
            }
            drop(partition);
            topic.more.notify_waiters();
        }
        proto::ProduceResult { partition: number, base_offset, record_count, ..proto::ProduceResult::default() }
    }
}

#[tonic::async_trait]
impl ProducerService for Null {
    type ProduceStreamStream = Answers<proto::ProduceStreamResponse>;

    async fn produce(&self, _: Request<proto::ProduceRequest>) -> Result<Response<proto::ProduceResponse>, Status> {
        not_here()
    }

    async fn produce_stream(
        &self,
        request: Request<Streaming<proto::ProduceStreamRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        let state = (self.clone(), request.into_inner(), None::<Arc<Topic>>);
        let answers = futures_util::stream::unfold(state, |(null, mut requests, mut topic)| async move {
            let message = requests.message().await.ok()??;
            let request = message.request.unwrap_or_default();
            if !request.topic.is_empty() {
                topic = null.topic(&request.topic).ok();
            }
            let result = null.produce(topic.as_deref()?, request);
            let correlation_id = message.correlation_id;
            let answer = proto::ProduceStreamResponse { correlation_id, results: vec![result], error: None };
            Some((Ok(answer), (null, requests, topic)))
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn init_producer(
        &self,
        _: Request<proto::InitProducerRequest>,
    ) -> Result<Response<proto::InitProducerResponse>, Status> {
        Ok(Response::new(proto::InitProducerResponse { producer_id: 1, producer_epoch: 0 }))
    }

    async fn fence_partition(
        &self,
        _: Request<proto::FencePartitionRequest>,
    ) -> Result<Response<proto::FencePartitionResponse>, Status> {
        not_here()
    }
}

/// Sends what there is of each partition from an offset, as much as one message may hold, and then what comes.
async fn follow(
    name: String,
    topic: Arc<Topic>,
    mut offsets: Vec<u64>,
    message_bytes: usize,
    outbox: mpsc::Sender<Result<proto::SubscribeResponse, Status>>,
) {
    loop {
        let more = topic.more.notified();
        tokio::pin!(more);
        // Listen before looking: what comes between the two must not be missed.
        more.as_mut().enable();
        let mut sent = false;
        for (number, offset) in offsets.iter_mut().enumerate() {
            let batches = take(&topic.partitions[number], offset, message_bytes);
            if batches.is_empty() {
                continue;
            }
            let records = Records {
                topic: name.clone(),
                partition: u32::try_from(number).unwrap_or(u32::MAX),
                batches,
                high_watermark: *offset,
                next_offset: *offset,
            };
            sent = true;
            if outbox.send(Ok(proto::SubscribeResponse { response: Some(Told::Records(records)) })).await.is_err() {
                return;
            }
        }
        if !sent {
            tokio::select! {
                () = more => {}
                () = outbox.closed() => return,
            }
        }
    }
}

fn take(partition: &Mutex<Partition>, offset: &mut u64, message_bytes: usize) -> Vec<proto::RecordBatch> {
    let partition = locked(partition);
    let from = partition.kept.partition_point(|batch| batch.base_offset < *offset);
    let mut bytes = 0;
    let fits = |batch: &&proto::RecordBatch| {
        bytes += batch.records.len();
        bytes <= message_bytes || bytes == batch.records.len()
    };
    let batches: Vec<_> = partition.kept.range(from..).take_while(fits).cloned().collect();
    if let Some(last) = batches.last() {
        *offset = last.base_offset + u64::from(last.record_count);
    }
    batches
}

#[tonic::async_trait]
impl ConsumerService for Null {
    type SubscribeStream = Answers<proto::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<proto::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let mut requests = request.into_inner();
        let Some(Asked::Open(open)) = requests.message().await?.and_then(|message| message.request) else {
            return Err(Status::invalid_argument("the first message opens"));
        };
        let name = open.topics.into_iter().next().unwrap_or_default();
        let topic = self.topic(&name)?;
        let at = open.start.and_then(|start| start.at);
        let from_end = matches!(at, Some(position::At::Edge(edge)) if edge == proto::Edge::Latest as i32);
        let start = |partition: &Mutex<Partition>| if from_end { locked(partition).end } else { 0 };
        let offsets: Vec<_> = topic.partitions.iter().map(start).collect();
        let (outbox, responses) = mpsc::channel(MESSAGES_MAX);
        let tell = |told| outbox.try_send(Ok(proto::SubscribeResponse { response: Some(told) }));
        let partitions = (0..).zip(&offsets).map(|(partition, offset)| proto::PartitionOffset {
            topic: name.clone(),
            partition,
            offset: *offset,
            ..proto::PartitionOffset::default()
        });
        let _ = tell(Told::Opened(Opened { member_id: "1".to_owned() }));
        let _ = tell(Told::Assigned(Assigned { generation: 1, partitions: partitions.collect() }));
        let committed = outbox.clone();
        tokio::spawn(async move {
            // Credit is not counted: the windows of HTTP/2 are bound enough here.
            while let Ok(Some(message)) = requests.message().await {
                if let Some(Asked::Commit(commit)) = message.request {
                    let told = Committed { correlation_id: commit.correlation_id, errors: Vec::new() };
                    let response = proto::SubscribeResponse { response: Some(Told::Committed(told)) };
                    if committed.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
            }
        });
        tokio::spawn(follow(name, topic, offsets, open.max_message_bytes as usize, outbox));
        Ok(Response::new(ReceiverStream::new(responses).boxed()))
    }

    async fn fetch(&self, _: Request<proto::FetchRequest>) -> Result<Response<proto::FetchResponse>, Status> {
        not_here()
    }

    async fn list_offsets(
        &self,
        _: Request<proto::ListOffsetsRequest>,
    ) -> Result<Response<proto::ListOffsetsResponse>, Status> {
        not_here()
    }

    async fn commit_offsets(
        &self,
        _: Request<proto::CommitOffsetsRequest>,
    ) -> Result<Response<proto::CommitOffsetsResponse>, Status> {
        not_here()
    }

    async fn fetch_offsets(
        &self,
        _: Request<proto::FetchOffsetsRequest>,
    ) -> Result<Response<proto::FetchOffsetsResponse>, Status> {
        not_here()
    }
}

#[tonic::async_trait]
impl AdminService for Null {
    async fn get_server_info(
        &self,
        _: Request<proto::GetServerInfoRequest>,
    ) -> Result<Response<proto::GetServerInfoResponse>, Status> {
        Ok(Response::new(proto::GetServerInfoResponse::default()))
    }

    async fn confirm_clock(
        &self,
        _: Request<proto::ConfirmClockRequest>,
    ) -> Result<Response<proto::ConfirmClockResponse>, Status> {
        not_here()
    }

    async fn advance_clock(
        &self,
        _: Request<proto::AdvanceClockRequest>,
    ) -> Result<Response<proto::AdvanceClockResponse>, Status> {
        not_here()
    }

    async fn start_scrub(
        &self,
        _: Request<proto::StartScrubRequest>,
    ) -> Result<Response<proto::StartScrubResponse>, Status> {
        not_here()
    }
}

#[tonic::async_trait]
impl TopicService for Null {
    async fn create_topic(
        &self,
        request: Request<proto::CreateTopicRequest>,
    ) -> Result<Response<proto::CreateTopicResponse>, Status> {
        let proto::CreateTopicRequest { name, partitions, .. } = request.into_inner();
        let partitions = (0..partitions.max(1)).map(|_| Mutex::default()).collect();
        let topic = Arc::new(Topic { partitions, more: Notify::new() });
        let described = described(&name, &topic);
        locked(&self.topics).insert(name, topic);
        Ok(Response::new(proto::CreateTopicResponse { topic: Some(described) }))
    }

    async fn get_topic(
        &self,
        request: Request<proto::GetTopicRequest>,
    ) -> Result<Response<proto::GetTopicResponse>, Status> {
        let name = request.into_inner().name;
        let topic = self.topic(&name)?;
        let state = |(partition, state): (u32, &Mutex<Partition>)| {
            let end = locked(state).end;
            let (high_watermark, log_end_offset) = (end, end);
            proto::PartitionState { partition, high_watermark, log_end_offset, ..proto::PartitionState::default() }
        };
        let partitions = (0..).zip(&topic.partitions).map(state).collect();
        Ok(Response::new(proto::GetTopicResponse { topic: Some(described(&name, &topic)), partitions }))
    }

    async fn delete_topic(
        &self,
        request: Request<proto::DeleteTopicRequest>,
    ) -> Result<Response<proto::DeleteTopicResponse>, Status> {
        locked(&self.topics).remove(&request.into_inner().name);
        Ok(Response::new(proto::DeleteTopicResponse::default()))
    }

    async fn list_topics(
        &self,
        _: Request<proto::ListTopicsRequest>,
    ) -> Result<Response<proto::ListTopicsResponse>, Status> {
        not_here()
    }

    async fn update_topic(
        &self,
        _: Request<proto::UpdateTopicRequest>,
    ) -> Result<Response<proto::UpdateTopicResponse>, Status> {
        not_here()
    }

    async fn delete_records(
        &self,
        _: Request<proto::DeleteRecordsRequest>,
    ) -> Result<Response<proto::DeleteRecordsResponse>, Status> {
        not_here()
    }

    async fn compact_topic(
        &self,
        _: Request<proto::CompactTopicRequest>,
    ) -> Result<Response<proto::CompactTopicResponse>, Status> {
        not_here()
    }
}

fn described(name: &str, topic: &Topic) -> proto::Topic {
    let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let options = Some(proto::TopicOptions::default());
    proto::Topic { name: name.to_owned(), partitions, options, ..proto::Topic::default() }
}
