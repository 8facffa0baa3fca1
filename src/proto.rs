//! The generated wire types of `proto/millstream/v1`, and the descriptors that reflection serves.
//!
//! Only [`crate::grpc`] (the server's door) and [`crate::client`] use these; everything below speaks [`crate::types`].
//! Fields of type `RecordSet` appear here as `Bytes`: see `build.rs`.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    unused_qualifications,
    reason = "generated code"
)]

tonic::include_proto!("millstream.v1");

/// The typed descriptors of every service, as a serialized `FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/millstream_descriptor.bin"));
