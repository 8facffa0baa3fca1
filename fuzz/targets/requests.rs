//! Requests of every call: arbitrary bytes through the generated decoder and the door's translation, as far as they go
//! before they need a broker.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream::grpc::fuzzing::{METHODS, translate};
use millstream_fuzz::bounded;

fuzz_target!(|input: (u8, &[u8])| {
    let (method, bytes) = input;
    let bytes = Bytes::copy_from_slice(bytes);
    // Two bytes make an empty message inside a repeated field, which is a struct of up to 200 bytes; vectors double.
    bounded(512 * bytes.len() + (64 << 10), || {
        let _ = translate(METHODS[usize::from(method) % METHODS.len()], bytes);
    });
});
