//! A broker in a few lines, for tests: a real gRPC server over logs in memory.
//!
//! Produce appends, unless the next scripted [`Reaction`] says otherwise. Fetch reads. A Subscribe stream is
//! handed to the test, which plays the broker's part itself. Every other call is refused.

use crate::proto;
use crate::proto::consumer_service_server::{ConsumerService, ConsumerServiceServer};
use crate::proto::producer_service_server::{ProducerService, ProducerServiceServer};
use crate::proto::topic_service_server::{TopicService, TopicServiceServer};
use crate::types::record_set;
use bytes::{Bytes, BytesMut};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};

type Answers<T> = ReceiverStream<Result<T, Status>>;

/// What to do with the next produce request instead of appending it.
#[derive(Debug)]
pub(crate) enum Reaction {
    Refuse(proto::Error),
    /// The stream breaks, and nothing is appended.
    Break,
    /// The records are appended, and the stream breaks before the answer.
    AppendAndBreak,
}

/// A Subscribe stream, seen from the broker.
#[derive(Debug)]
pub(crate) struct SubscribedClient {
    pub(crate) requests: Streaming<proto::SubscribeRequest>,
    responses: mpsc::Sender<Result<proto::SubscribeResponse, Status>>,
}

impl SubscribedClient {
    pub(crate) async fn send(&self, response: proto::subscribe_response::Response) {
        let message = proto::SubscribeResponse { response: Some(response) };
        self.responses.send(Ok(message)).await.expect("the client listens");
    }

    /// Ends the stream with an error.
    pub(crate) async fn fail(&self, status: Status) {
        self.responses.send(Err(status)).await.expect("the client listens");
    }

    pub(crate) async fn request(&mut self) -> proto::subscribe_request::Request {
        let message = self.requests.message().await.expect("the stream is whole").expect("the client has a request");
        message.request.expect("a request is never empty")
    }
}

/// First sequence, the one after the last, offset.
type SentBatch = (u32, u32, u64);

#[derive(Debug)]
struct State {
    logs: Vec<Vec<Bytes>>,
    reactions: VecDeque<Reaction>,
    requests: u64,
    /// How many producers were given an identity.
    identities: u64,
    /// Of each producer in each partition.
    sequences: HashMap<(u32, u64), Vec<SentBatch>>,
    options: proto::TopicOptions,
    log_start_offset: u64,
}

#[derive(Debug, Clone)]
struct Services {
    state: Arc<Mutex<State>>,
    subscribed: mpsc::Sender<SubscribedClient>,
}

/// The topic `orders` and the address to find it at.
#[derive(Debug)]
pub(crate) struct FakeBroker {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
    subscribed: mpsc::Receiver<SubscribedClient>,
}

impl FakeBroker {
    pub(crate) async fn start(partitions: usize) -> Self {
        let options = proto::TopicOptions { record_bytes_max: Some(1000), ..proto::TopicOptions::default() };
        let logs = vec![Vec::new(); partitions];
        let state = State {
            logs,
            reactions: VecDeque::new(),
            requests: 0,
            identities: 0,
            sequences: HashMap::new(),
            options,
            log_start_offset: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let (sender, subscribed) = mpsc::channel(8);
        let services = Services { state: Arc::clone(&state), subscribed: sender };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let server = tonic::transport::Server::builder()
            .add_service(ProducerServiceServer::new(services.clone()))
            .add_service(ConsumerServiceServer::new(services.clone()))
            .add_service(TopicServiceServer::new(services));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, state, subscribed }
    }

    pub(crate) fn react(&self, reactions: impl IntoIterator<Item = Reaction>) {
        lock(&self.state).reactions.extend(reactions);
    }

    pub(crate) fn append(&self, partition: usize, values: &[&str]) {
        let set = encode_values(values);
        lock(&self.state).logs[partition].extend(record_set::raw_records(&set));
    }

    /// Fetches below this offset are refused, as if retention had deleted the records.
    pub(crate) fn expire_before(&self, offset: u64) {
        lock(&self.state).log_start_offset = offset;
    }

    /// Every value of a partition, in order.
    pub(crate) fn values(&self, partition: usize) -> Vec<String> {
        let set = Bytes::from(lock(&self.state).logs[partition].concat());
        let values = record_set::records(&set).map(|record| record.value.unwrap_or_default());
        values.map(|value| String::from_utf8(value.into()).expect("tests send text")).collect()
    }

    /// Forgets the last records of a partition and which producers sent them, as a power cut may.
    pub(crate) fn lose_all(&self, partition: u32) {
        let mut state = lock(&self.state);
        state.logs[partition as usize].clear();
        state.sequences.retain(|(of, _), batches| {
            if *of == partition {
                batches.clear();
            }
            true
        });
    }

    /// How many identities were given.
    pub(crate) fn identities(&self) -> u64 {
        lock(&self.state).identities
    }

    /// How many produce requests came.
    pub(crate) fn produce_requests(&self) -> u64 {
        lock(&self.state).requests
    }

    /// The next client that subscribes.
    pub(crate) async fn subscribed(&mut self) -> SubscribedClient {
        self.subscribed.recv().await.expect("the broker runs")
    }
}

pub(crate) fn encode_values(values: &[&str]) -> Bytes {
    let mut set = BytesMut::new();
    for value in values {
        record_set::encode_record(&mut set, None, Some(value.as_bytes()), std::iter::empty(), None);
    }
    set.freeze()
}

pub(crate) fn record_batch(base_offset: u64, values: &[&str]) -> proto::RecordBatch {
    proto::RecordBatch {
        base_offset,
        record_count: u32::try_from(values.len()).expect("few"),
        records: encode_values(values),
        ..proto::RecordBatch::default()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a broker says that expects another sequence.
pub(crate) fn out_of_sequence(expected: u32) -> proto::Error {
    let metadata = [("expected_sequence".to_owned(), expected.to_string())].into();
    let (code, reason) = (Code::FailedPrecondition.into(), "OUT_OF_SEQUENCE".to_owned());
    proto::Error { code, reason, metadata, ..proto::Error::default() }
}

impl State {
    /// The answer to one produce request; an error breaks the stream.
    fn produce(&mut self, request: proto::ProduceStreamRequest) -> Result<proto::ProduceStreamResponse, Status> {
        self.requests += 1;
        let correlation_id = request.correlation_id;
        let answer = |results, error| proto::ProduceStreamResponse { correlation_id, results, error };
        let broken = || Status::unavailable("the test broke the stream");
        let after = match self.reactions.pop_front() {
            Some(Reaction::Refuse(error)) => return Ok(answer(Vec::new(), Some(error))),
            Some(Reaction::Break) => return Err(broken()),
            Some(Reaction::AppendAndBreak) => Err(broken()),
            None => Ok(()),
        };
        let request = request.request.unwrap_or_default();
        let partition = request.partition.unwrap_or_default();
        let appended = self.append_once(&request);
        let result = |base_offset| vec![proto::ProduceResult { partition, base_offset, ..Default::default() }];
        after.map(|()| match appended {
            Ok(base_offset) => answer(result(base_offset), None),
            Err(error) => answer(Vec::new(), Some(error)),
        })
    }

    /// Appends the records, unless their producer has sent them before, or not what comes before them.
    fn append_once(&mut self, request: &proto::ProduceRequest) -> Result<u64, proto::Error> {
        let partition = request.partition.unwrap_or_default();
        let log = &mut self.logs[partition as usize];
        let (base_offset, records) = (log.len() as u64, record_set::raw_records(&request.records));
        if let Some(sequence) = request.base_sequence {
            assert!(request.producer_id > 0 && request.producer_id <= self.identities, "an id that was given");
            let batches = self.sequences.entry((partition, request.producer_id)).or_default();
            let next = batches.last().map_or(0, |(_, next, _)| *next);
            if let Some((.., offset)) = batches.iter().rev().take(5).find(|(first, ..)| *first == sequence) {
                return Ok(*offset);
            }
            if sequence != next {
                return Err(out_of_sequence(next));
            }
            let count = u32::try_from(record_set::raw_records(&request.records).count()).expect("few");
            batches.push((sequence, sequence.wrapping_add(count), base_offset));
        }
        log.extend(records);
        Ok(base_offset)
    }

    fn fetch(&self, position: proto::FetchPosition, max_bytes: usize) -> proto::FetchedPartition {
        let log = &self.logs[position.partition as usize];
        if position.offset < self.log_start_offset {
            return proto::FetchedPartition {
                topic: position.topic,
                partition: position.partition,
                log_start_offset: self.log_start_offset,
                error: Some(proto::Error { code: Code::OutOfRange.into(), ..proto::Error::default() }),
                ..proto::FetchedPartition::default()
            };
        }
        let from = usize::try_from(position.offset).expect("small").min(log.len());
        let mut bytes = 0;
        let fits = |record: &&Bytes| {
            bytes += record.len();
            bytes <= max_bytes
        };
        let taken: Vec<Bytes> = log[from..].iter().take_while(fits).cloned().collect();
        let batch = proto::RecordBatch {
            base_offset: position.offset,
            record_count: u32::try_from(taken.len()).expect("few"),
            records: taken.concat().into(),
            ..proto::RecordBatch::default()
        };
        proto::FetchedPartition {
            topic: position.topic,
            partition: position.partition,
            next_offset: (from + taken.len()) as u64,
            high_watermark: log.len() as u64,
            batches: if taken.is_empty() { Vec::new() } else { vec![batch] },
            ..proto::FetchedPartition::default()
        }
    }
}

#[tonic::async_trait]
impl ProducerService for Services {
    type ProduceStreamStream = Answers<proto::ProduceStreamResponse>;

    async fn produce(&self, _: Request<proto::ProduceRequest>) -> Result<Response<proto::ProduceResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }

    async fn produce_stream(
        &self,
        request: Request<Streaming<proto::ProduceStreamRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        let mut requests = request.into_inner();
        let (answers, receiver) = mpsc::channel(64);
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let answer = lock(&state).produce(request);
                let broken = answer.is_err();
                if answers.send(answer).await.is_err() || broken {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn init_producer(
        &self,
        _: Request<proto::InitProducerRequest>,
    ) -> Result<Response<proto::InitProducerResponse>, Status> {
        let mut state = lock(&self.state);
        state.identities += 1;
        Ok(Response::new(proto::InitProducerResponse { producer_id: state.identities, producer_epoch: 0 }))
    }

    async fn fence_partition(
        &self,
        _: Request<proto::FencePartitionRequest>,
    ) -> Result<Response<proto::FencePartitionResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }
}

#[tonic::async_trait]
impl ConsumerService for Services {
    type SubscribeStream = Answers<proto::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<proto::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (responses, receiver) = mpsc::channel(64);
        let client = SubscribedClient { requests: request.into_inner(), responses };
        self.subscribed.send(client).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn fetch(&self, request: Request<proto::FetchRequest>) -> Result<Response<proto::FetchResponse>, Status> {
        let request = request.into_inner();
        let state = lock(&self.state);
        // Few bytes at a time, so that ranges take more than one fetch.
        let partitions = request.positions.into_iter().map(|position| state.fetch(position, 30)).collect();
        Ok(Response::new(proto::FetchResponse { partitions }))
    }

    async fn list_offsets(
        &self,
        _: Request<proto::ListOffsetsRequest>,
    ) -> Result<Response<proto::ListOffsetsResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }

    async fn commit_offsets(
        &self,
        _: Request<proto::CommitOffsetsRequest>,
    ) -> Result<Response<proto::CommitOffsetsResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }

    async fn fetch_offsets(
        &self,
        _: Request<proto::FetchOffsetsRequest>,
    ) -> Result<Response<proto::FetchOffsetsResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }
}

#[tonic::async_trait]
impl TopicService for Services {
    async fn get_topic(
        &self,
        request: Request<proto::GetTopicRequest>,
    ) -> Result<Response<proto::GetTopicResponse>, Status> {
        let state = lock(&self.state);
        let topic = proto::Topic {
            name: request.into_inner().name,
            partitions: u32::try_from(state.logs.len()).expect("few"),
            options: Some(state.options),
            ..proto::Topic::default()
        };
        Ok(Response::new(proto::GetTopicResponse { topic: Some(topic), partitions: Vec::new() }))
    }

    async fn create_topic(
        &self,
        _: Request<proto::CreateTopicRequest>,
    ) -> Result<Response<proto::CreateTopicResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }

    async fn list_topics(
        &self,
        _: Request<proto::ListTopicsRequest>,
    ) -> Result<Response<proto::ListTopicsResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }

    async fn update_topic(
        &self,
        _: Request<proto::UpdateTopicRequest>,
    ) -> Result<Response<proto::UpdateTopicResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }

    async fn delete_topic(
        &self,
        _: Request<proto::DeleteTopicRequest>,
    ) -> Result<Response<proto::DeleteTopicResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }

    async fn delete_records(
        &self,
        _: Request<proto::DeleteRecordsRequest>,
    ) -> Result<Response<proto::DeleteRecordsResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }

    async fn compact_topic(
        &self,
        _: Request<proto::CompactTopicRequest>,
    ) -> Result<Response<proto::CompactTopicResponse>, Status> {
        Err(Status::unimplemented("not faked"))
    }
}
