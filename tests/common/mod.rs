//! What tests that talk to a live broker share: the broker itself, records, subscribers, refusals, bounded waiting.
//!
//! A [`TestBroker`] is a whole broker in this process, on ports of its own and in a directory of its own, reached over
//! real sockets. Nothing here asserts what a test is about; what fails here is the test's own setting.

pub(crate) mod queue_stream;
pub(crate) mod records;
pub(crate) mod refusal;
pub(crate) mod schedules;
pub(crate) mod stalling_disk;
pub(crate) mod subscriber;

use bytes::Bytes;
use millstream::admin::{self, Inspect, Readiness};
use millstream::broker::{Broker, BrokerOptions, ScrubOptions};
use millstream::client::Client;
use millstream::clock::{SharedClock, SystemClock};
use millstream::config::Config;
use millstream::grpc::{self, DoorOptions, Listener};
use millstream::metrics::{Metrics, Readings};
use millstream::proto;
use millstream::proto::consumer_service_client::ConsumerServiceClient;
use millstream::proto::dead_letter_service_client::DeadLetterServiceClient;
use millstream::proto::group_service_client::GroupServiceClient;
use millstream::proto::producer_service_client::ProducerServiceClient;
use millstream::proto::queue_service_client::QueueServiceClient;
use millstream::proto::schedule_service_client::ScheduleServiceClient;
use millstream::proto::topic_service_client::TopicServiceClient;
use millstream::shutdown::Shutdown;
use millstream::storage::file_system::FileSystem;
use millstream::storage::real_file_system::RealFileSystem;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

/// Longer than anything takes on a busy machine; whoever waits so long has found a bug.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Replies of any size are read, so that tests can see how large they are.
const REPLY_BYTES_MAX: usize = 128 << 20;

/// How often a condition is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How often the background work of a test's broker runs.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(20);

/// How a test's broker is opened, where it matters.
pub(crate) struct Setting {
    /// The broker's disk.
    pub(crate) fs: Arc<dyn FileSystem>,
    /// The broker's time.
    pub(crate) clock: SharedClock,
    /// Everything else; the data directory is filled in.
    pub(crate) options: BrokerOptions,
}

/// A broker in a directory of its own, which is deleted with it.
pub(crate) struct TestBroker {
    _directory: tempfile::TempDir,
    setting: Setting,
    running: Option<Running>,
}

struct Running {
    broker: Arc<Broker>,
    shutdown: Shutdown,
    address: SocketAddr,
    admin_address: SocketAddr,
    channel: Channel,
    door: JoinHandle<Result<(), tonic::transport::Error>>,
    admin_door: JoinHandle<std::io::Result<()>>,
}

impl TestBroker {
    /// Starts a broker with the default configuration.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// Starts a broker in another setting.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Setting)) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let options = options_in(directory.path());
        let mut setting = Setting { fs: Arc::new(RealFileSystem), clock: Arc::new(SystemClock), options };
        change(&mut setting);
        let running = Some(Running::start(&setting).await);
        Self { _directory: directory, setting, running }
    }

    /// Stops as a signal would, and starts again on the same directory.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.restart_stopped().await;
    }

    /// Starts again after [`TestBroker::stop`].
    pub(crate) async fn restart_stopped(&mut self) {
        self.running = Some(Running::start(&self.setting).await);
    }

    /// Drains and closes. Waits until everything that used the broker has let go of it.
    pub(crate) async fn stop(&mut self) {
        let Running { broker, shutdown, door, admin_door, channel, .. } = self.running.take().expect("it runs");
        drop(channel);
        shutdown.begin();
        let served = within("the end of every call", door).await;
        served.expect("the door does not panic").expect("the door ends in peace");
        broker.close().await.expect("the logs close");
        admin_door.abort();
        until("everybody to let go of the broker", async || (Arc::strong_count(&broker) == 1).then_some(())).await;
    }

    /// Begins to stop; what is under way may finish.
    pub(crate) fn begin_drain(&self) {
        self.running().shutdown.begin();
    }

    /// The data directory.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.setting.options.data_dir
    }

    /// The broker itself, for what cannot be seen from outside.
    pub(crate) fn inside(&self) -> &Broker {
        &self.running().broker
    }

    /// The address of the gRPC door.
    pub(crate) fn address(&self) -> String {
        self.running().address.to_string()
    }

    /// A connection of the client library.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.running().address.to_string()).await.expect("the broker listens")
    }

    /// The connection that the stubs below share.
    pub(crate) fn channel(&self) -> Channel {
        self.running().channel.clone()
    }

    /// Whether the metrics page has this line.
    pub(crate) async fn has_metric(&self, line: &str) -> bool {
        let (_, page) = self.admin_page("/metrics").await;
        page.lines().any(|found| found == line)
    }

    /// The generated client of each service.
    pub(crate) fn topics(&self) -> TopicServiceClient<Channel> {
        TopicServiceClient::new(self.channel())
    }

    /// See [`TestBroker::topics`].
    pub(crate) fn producer(&self) -> ProducerServiceClient<Channel> {
        ProducerServiceClient::new(self.channel())
    }

    /// See [`TestBroker::topics`].
    pub(crate) fn consumer(&self) -> ConsumerServiceClient<Channel> {
        ConsumerServiceClient::new(self.channel()).max_decoding_message_size(REPLY_BYTES_MAX)
    }

    /// See [`TestBroker::topics`].
    pub(crate) fn groups(&self) -> GroupServiceClient<Channel> {
        GroupServiceClient::new(self.channel())
    }

    /// See [`TestBroker::topics`].
    pub(crate) fn queues(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::new(self.channel()).max_decoding_message_size(REPLY_BYTES_MAX)
    }

    /// See [`TestBroker::topics`].
    pub(crate) fn dead_letters(&self) -> DeadLetterServiceClient<Channel> {
        DeadLetterServiceClient::new(self.channel()).max_decoding_message_size(REPLY_BYTES_MAX)
    }

    /// See [`TestBroker::topics`].
    pub(crate) fn schedules(&self) -> ScheduleServiceClient<Channel> {
        ScheduleServiceClient::new(self.channel())
    }

    /// Creates a topic with default options.
    pub(crate) async fn create_topic(&self, name: &str, partitions: u32) -> proto::Topic {
        self.create_topic_with(name, partitions, proto::TopicOptions::default()).await
    }

    /// Creates a topic.
    pub(crate) async fn create_topic_with(
        &self,
        name: &str,
        partitions: u32,
        options: proto::TopicOptions,
    ) -> proto::Topic {
        let request = proto::CreateTopicRequest { name: name.to_owned(), partitions, options: Some(options) };
        let created = self.topics().create_topic(request).await.expect("the topic can be created");
        created.into_inner().topic.expect("the answer has the topic")
    }

    /// The state of one partition.
    pub(crate) async fn partition_state(&self, topic: &str, partition: usize) -> proto::PartitionState {
        let request = proto::GetTopicRequest { name: topic.to_owned() };
        let mut found = self.topics().get_topic(request).await.expect("the topic is there").into_inner();
        found.partitions.swap_remove(partition)
    }

    /// Appends an encoded record set to one partition; the offset of its first record.
    pub(crate) async fn append(&self, topic: &str, partition: u32, records: Bytes) -> u64 {
        let partition = Some(partition);
        let request = proto::ProduceRequest { topic: topic.to_owned(), partition, records, ..Default::default() };
        let answer = self.producer().produce(request).await.expect("the records are appended").into_inner();
        answer.results[0].base_offset
    }

    /// Creates a topic with ten records, `r0` to `r9`, in each of its partitions.
    pub(crate) async fn create_filled_topic(&self, topic: &str, partitions: u32) {
        self.create_topic(topic, partitions).await;
        for partition in 0..partitions {
            self.append(topic, partition, records::set(records::numbered("r", 10))).await;
        }
    }

    /// Fetches from one partition, without waiting and with the default limits.
    pub(crate) async fn fetch(&self, topic: &str, partition: u32, offset: u64) -> proto::FetchedPartition {
        let position = proto::FetchPosition { topic: topic.to_owned(), partition, offset };
        let request = proto::FetchRequest { positions: vec![position], ..Default::default() };
        let mut answer = self.consumer().fetch(request).await.expect("the partition can be read").into_inner();
        answer.partitions.remove(0)
    }

    /// Deletes the records of a partition before an offset.
    pub(crate) async fn delete_records(&self, topic: &str, partition: u32, before_offset: u64) {
        let request = proto::DeleteRecordsRequest { topic: topic.to_owned(), partition, before_offset };
        self.topics().delete_records(request).await.expect("records can be deleted");
    }

    /// Status line and body of a page of the admin door.
    pub(crate) async fn admin_page(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.running().admin_address).await.expect("the admin door is open");
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the admin door reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the admin door answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer has a head");
        (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }
}

impl Running {
    async fn start(setting: &Setting) -> Self {
        let (metrics, shutdown) = (Arc::new(Metrics::default()), Shutdown::new(PATIENCE));
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any_port, 1_000, Arc::clone(&metrics)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let admin_socket = TcpListener::bind(any_port).await.expect("a free port");
        let admin_address = admin_socket.local_addr().expect("it is bound");

        let (fs, clock) = (Arc::clone(&setting.fs), Arc::clone(&setting.clock));
        let opened = Broker::open(setting.options.clone(), fs, clock, Arc::clone(&metrics), shutdown.clone()).await;
        let broker = opened.expect("the broker opens");
        broker.start_upkeep(UPKEEP_INTERVAL);
        let inspector = Inspector { broker: Arc::downgrade(&broker), shutdown: shutdown.clone() };
        let admin_door = tokio::spawn(admin::serve(admin_socket, metrics, Arc::new(inspector)));
        let options = DoorOptions { streams_per_connection_max: 256 };
        let door = tokio::spawn(grpc::serve(listener, Arc::clone(&broker), options));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint.tcp_nodelay(true).connect().await.expect("the broker listens");
        Self { broker, shutdown, address, admin_address, channel, door, admin_door }
    }
}

/// What the admin door sees. It does not hold the broker, so that a test can tell who else does.
struct Inspector {
    broker: Weak<Broker>,
    shutdown: Shutdown,
}

impl Inspect for Inspector {
    fn readiness(&self) -> Readiness {
        Readiness::from(&self.shutdown)
    }

    fn readings(&self) -> Pin<Box<dyn Future<Output = Readings> + Send + '_>> {
        let broker = self.broker.upgrade();
        Box::pin(async move {
            match broker {
                Some(broker) => broker.readings().await,
                None => Readings::default(),
            }
        })
    }
}

fn options_in(directory: &Path) -> BrokerOptions {
    let config = Config::default();
    BrokerOptions {
        data_dir: directory.join("data"),
        ephemeral: false,
        auto_create_topics: false,
        storage_threads: 2,
        // So few that segments are closed and opened all the time.
        open_files_max: 16,
        default_partitions: config.topics.default_partitions,
        topic_defaults: config.topics.options,
        produce_in_flight_bytes_max: config.limits.produce_in_flight_bytes_max,
        disk_free_bytes_min: config.broker.disk_free_bytes_min,
        group_offsets_retention_ms: config.groups.offsets_retention_ms,
        scrub: ScrubOptions { bytes_per_second: 1 << 40, interval_ms: config.broker.scrub_interval_ms },
    }
}

/// Waits for something that must happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// Looks again and again until there is something to see.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    within(what, async {
        loop {
            looks.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    })
    .await
}
