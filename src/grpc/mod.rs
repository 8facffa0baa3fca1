//! The gRPC door: decodes, checks the shape of requests, calls the [`Broker`], encodes answers. It owns no state.
//!
//! One file for each service; `status` is the one table from errors to codes, `convert` the one place where wire
//! types become ours. Generated types go no further down than here.

mod admin;
mod consume;
mod convert;
mod dead_letters;
#[cfg(fuzzing)]
pub mod fuzzing;
mod groups;
mod listener;
mod produce;
mod queues;
mod receive_stream;
mod requests;
mod schedules;
mod settling;
mod status;
mod subscribe;
mod topics;

pub use listener::Listener;

use crate::broker::Broker;
use crate::limits::REQUEST_BYTES_MAX;
use crate::proto;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Server;
use tonic_health::ServingStatus;

/// Bytes of one HTTP/2 frame. The receiver advertises it, so this speeds uploads; clients that advertise the same get
/// fast downloads. 1.5 to 2.3 times the throughput of the default of 16 KiB.
const FRAME_BYTES: u32 = 1 << 20;

/// Bytes that a client may have under way on one stream, and on one connection.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A silent connection is asked for a sign of life this often, and given up when none comes for so long.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Resets that the server may be made to send on one connection before it is closed; the library has no bound.
const LOCAL_RESETS_MAX: usize = 256;

/// What health is told for: the whole broker, and each service.
const HEALTH_NAMES: [&str; 10] = [
    "",
    proto::topic_service_server::SERVICE_NAME,
    proto::producer_service_server::SERVICE_NAME,
    proto::consumer_service_server::SERVICE_NAME,
    proto::group_service_server::SERVICE_NAME,
    proto::queue_service_server::SERVICE_NAME,
    proto::dead_letter_service_server::SERVICE_NAME,
    proto::schedule_service_server::SERVICE_NAME,
    proto::request_service_server::SERVICE_NAME,
    proto::admin_service_server::SERVICE_NAME,
];

/// What the door needs to know of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct DoorOptions {
    /// Calls open at one time on one connection.
    pub streams_per_connection_max: u32,
}

/// Every service, in the name of one broker.
#[derive(Debug, Clone)]
struct Door {
    broker: Arc<Broker>,
}

/// Serves until the broker drains and every call has ended.
pub async fn serve(
    listener: Listener,
    broker: Arc<Broker>,
    options: DoorOptions,
) -> Result<(), tonic::transport::Error> {
    use proto::admin_service_server::AdminServiceServer;
    use proto::consumer_service_server::ConsumerServiceServer;
    use proto::dead_letter_service_server::DeadLetterServiceServer;
    use proto::group_service_server::GroupServiceServer;
    use proto::producer_service_server::ProducerServiceServer;
    use proto::queue_service_server::QueueServiceServer;
    use proto::request_service_server::RequestServiceServer;
    use proto::schedule_service_server::ScheduleServiceServer;
    use proto::topic_service_server::TopicServiceServer;

    let shutdown = broker.shutdown().clone();
    let door = Door { broker };
    let request_bytes_max = REQUEST_BYTES_MAX as usize;
    let (mut health_reporter, health) = tonic_health::server::health_reporter();
    for service in HEALTH_NAMES {
        health_reporter.set_service_status(service, ServingStatus::Serving).await;
    }
    let draining = async move {
        shutdown.draining().await;
        for service in HEALTH_NAMES {
            health_reporter.set_service_status(service, ServingStatus::NotServing).await;
            // Whoever watches gets that last word, and its call ends. Left open it would hold up the drain to its
            // deadline.
            health_reporter.clear_service_status(service).await;
        }
    };
    Server::builder()
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_adaptive_window(Some(false))
        .max_concurrent_streams(options.streams_per_connection_max)
        .http2_max_local_error_reset_streams(Some(LOCAL_RESETS_MAX))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(health)
        .add_service(reflection_v1())
        .add_service(reflection_v1alpha())
        .add_service(TopicServiceServer::new(door.clone()))
        .add_service(ProducerServiceServer::new(door.clone()).max_decoding_message_size(request_bytes_max))
        .add_service(ConsumerServiceServer::new(door.clone()))
        .add_service(GroupServiceServer::new(door.clone()))
        .add_service(QueueServiceServer::new(door.clone()))
        .add_service(DeadLetterServiceServer::new(door.clone()))
        .add_service(ScheduleServiceServer::new(door.clone()))
        .add_service(RequestServiceServer::new(door.clone()).max_decoding_message_size(request_bytes_max))
        .add_service(AdminServiceServer::new(door))
        .serve_with_incoming_shutdown(listener.into_stream(), draining)
        .await
}

/// Lets tools ask which services there are.
fn reflection_v1()
-> tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection> {
    described().build_v1().expect("the descriptors were made by the build")
}

/// The same for tools that know only the older version.
fn reflection_v1alpha()
-> tonic_reflection::server::v1alpha::ServerReflectionServer<impl tonic_reflection::server::v1alpha::ServerReflection> {
    described().build_v1alpha().expect("the descriptors were made by the build")
}

fn described() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
