//! Compiles `proto/` without a system `protoc`, and draws the line between what clients see and what the broker sees.
//!
//! Clients see `RecordSet records`: typed records. The broker must not decode records it only stores, so its own copy
//! of the descriptors declares every such field as `bytes`. The two encodings are the same on the wire, which is why
//! this substitution is safe; the descriptors served by reflection stay the typed ones.

use prost::Message as _;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::Type;
use std::path::PathBuf;

/// The message whose fields the broker carries as opaque bytes.
const OPAQUE_MESSAGE: &str = ".millstream.v1.RecordSet";

/// And the one that is opaque where a queue hands it out, or gave it up, or a schedule keeps it.
const RECORD: &str = ".millstream.v1.Record";
const RECORD_CARRIERS: [&str; 5] =
    ["QueueMessage", "PeekedMessage", "DeadLetter", "NewSchedule", "GetScheduleResponse"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    // Bugs that the tests must catch are only there in a build that asks for them: see src/planted.rs.
    println!("cargo::rustc-check-cfg=cfg(planted)");
    // Set by cargo-fuzz, for the one seam that its targets need: see src/grpc/fuzzing.rs.
    println!("cargo::rustc-check-cfg=cfg(fuzzing)");
    println!("cargo::rerun-if-env-changed=MILLSTREAM_PLANTED");
    if std::env::var_os("MILLSTREAM_PLANTED").is_some() {
        println!("cargo::rustc-cfg=planted");
    }
    let mut files = std::fs::read_dir("proto/millstream/v1")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<PathBuf>, _>>()?;
    files.sort();

    let public = protox::compile(&files, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    write(out.join("millstream_descriptor.bin"), public.encode_to_vec())?;

    tonic_prost_build::configure().bytes(".").compile_fds(with_opaque_records(public))?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a build script has no file system to simulate")]
fn write(path: PathBuf, bytes: Vec<u8>) -> std::io::Result<()> {
    std::fs::write(path, bytes)
}

/// The same descriptors with every field of type [`OPAQUE_MESSAGE`], and of [`RECORD`] in one of [`RECORD_CARRIERS`],
/// declared as `bytes`.
fn with_opaque_records(mut set: FileDescriptorSet) -> FileDescriptorSet {
    let fields = set
        .file
        .iter_mut()
        .flat_map(|file| &mut file.message_type)
        .flat_map(|message| {
            let carries = RECORD_CARRIERS.contains(&message.name());
            message.field.iter_mut().map(move |field| (carries, field))
        })
        .filter(|(carries, field)| field.type_name() == OPAQUE_MESSAGE || (*carries && field.type_name() == RECORD))
        .map(|(_, field)| field);
    for field in fields {
        field.set_type(Type::Bytes);
        field.type_name = None;
    }
    set
}
