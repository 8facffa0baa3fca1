//! `millstream log dump`: frames, and the records in them, as lines or as JSON.

use super::{PlaceArgs, warn_if_in_use};
use crate::cli::exit::CliError;
use crate::cli::time::format_time;
use crate::inspect::dump::{DumpedFrame, dump};
use crate::types::{Offset, TimestampMs, record_set};
use clap::Args;
use serde_json::{Value, json};
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;

pub(super) const HELP: &str = "\
Examples:
  millstream log dump orders/0
  millstream log dump orders/0 --from 1000 -n 1 --records
  millstream log dump --path topics/UUID/0 --json

JSON, one object for each frame: path, position, trouble (null if the checksum matches), and, null if there is no
header: bytes, base_offset, next_offset, record_count, append_time_ms, max_record_time_ms, attributes, leader_epoch.
With --records also records: offset, timestamp_ms, key_bytes, value_bytes (null if absent), headers (how many),
key, value (the first 64 bytes, escaped).

Exit codes: 0 done, 1 could not run, 3 no such topic or partition.";

/// Bytes of a key or value that are shown.
const PREVIEW_BYTES: usize = 64;

#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Begin with the frame that holds this offset.
    #[arg(long, value_name = "OFFSET", default_value_t = 0, hide_default_value = true)]
    from: u64,
    /// At most so many frames.
    #[arg(short = 'n', value_name = "N")]
    frames_max: Option<u64>,
    /// Also show the records in each frame.
    #[arg(long)]
    records: bool,
    /// One JSON object for each frame.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DumpArgs) -> Result<(), CliError> {
    let (directory, selection) = args.place.open()?;
    let places = directory.find(&selection)?;
    let [place] = &places[..] else {
        return Err(CliError::usage("name one partition, such as orders/0, or a log with --path"));
    };
    warn_if_in_use(&directory, "the end of the log may move")?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut left = args.frames_max.unwrap_or(u64::MAX);
    let ended = dump(&directory, place, Offset(args.from), &mut |frame| {
        if left == 0 {
            return ControlFlow::Break(None);
        }
        left -= 1;
        match print_frame(&mut out, frame, args) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Some(error)),
        }
    });
    // What was found before an error is the more worth seeing.
    let flushed = out.flush();
    match ended? {
        ControlFlow::Break(Some(error)) => Err(CliError::output(error)),
        _ => flushed.map_err(CliError::output),
    }
}

fn print_frame(out: &mut impl Write, frame: &DumpedFrame<'_>, args: &DumpArgs) -> std::io::Result<()> {
    if args.json {
        return writeln!(out, "{}", frame_json(frame, args.records));
    }
    let file = frame.path.file_name().unwrap_or_default().display();
    let checksum = frame.trouble.as_deref().unwrap_or("checksum ok");
    let Some((header, frame_bytes)) = frame.header else {
        return writeln!(out, "{file}:{}  {checksum}", frame.position);
    };
    writeln!(
        out,
        "{file}:{}  {frame_bytes} bytes  {checksum}  offsets {}..{}  {} records  appended {}  latest record {}  \
         attributes {:#06x}",
        frame.position,
        header.base_offset,
        header.next_offset(),
        header.record_count,
        format_time(header.append_time_ms),
        format_time(header.max_record_time_ms),
        header.attributes,
    )?;
    if args.records {
        for record in records(frame) {
            let (offset, time) = (record.offset, record.timestamp_ms.map_or("-".to_owned(), format_time));
            let field = |bytes: &Field| match bytes {
                Some((len, preview)) => format!("{len} bytes \"{preview}\""),
                None => "none".to_owned(),
            };
            let (key, value) = (field(&record.key), field(&record.value));
            writeln!(out, "  {offset}  time {time}  key {key}  value {value}  headers {}", record.headers)?;
        }
    }
    Ok(())
}

/// Length and escaped beginning of a key or value.
type Field = Option<(usize, String)>;

struct ShownRecord {
    offset: Offset,
    timestamp_ms: Option<TimestampMs>,
    key: Field,
    value: Field,
    headers: usize,
}

/// The records of a frame that can be read; none of any other.
fn records(frame: &DumpedFrame<'_>) -> Vec<ShownRecord> {
    let Some((header, _)) = frame.header.filter(|(header, _)| header.check_readable().is_ok()) else {
        return Vec::new();
    };
    let field = |bytes: Option<bytes::Bytes>| {
        bytes.map(|bytes| {
            let end = bytes.len().min(PREVIEW_BYTES);
            (bytes.len(), bytes[..end].escape_ascii().to_string())
        })
    };
    let numbered = (0_u64..).zip(record_set::records(&frame.payload));
    let shown = numbered.map(|(number, record)| ShownRecord {
        offset: header.base_offset.advance(number),
        timestamp_ms: record.timestamp,
        key: field(record.key),
        value: field(record.value),
        headers: record.headers.len(),
    });
    shown.collect()
}

fn frame_json(frame: &DumpedFrame<'_>, with_records: bool) -> Value {
    let header = frame.header.map(|(header, _)| header);
    let mut object = json!({
        "path": frame.path, "position": frame.position, "trouble": frame.trouble,
        "bytes": frame.header.map(|(_, bytes)| bytes), "base_offset": header.map(|h| h.base_offset),
        "next_offset": header.map(|h| h.next_offset()), "record_count": header.map(|h| h.record_count),
        "append_time_ms": header.map(|h| h.append_time_ms), "attributes": header.map(|h| h.attributes),
        "max_record_time_ms": header.map(|h| h.max_record_time_ms), "leader_epoch": header.map(|h| h.leader_epoch),
    });
    if with_records {
        let length = |field: &Field| field.as_ref().map(|(len, _)| *len);
        let preview = |field: &Field| field.as_ref().map(|(_, preview)| preview.clone());
        let records = records(frame).into_iter().map(|record| {
            json!({
                "offset": record.offset, "timestamp_ms": record.timestamp_ms, "headers": record.headers,
                "key_bytes": length(&record.key), "key": preview(&record.key),
                "value_bytes": length(&record.value), "value": preview(&record.value),
            })
        });
        object["records"] = records.collect();
    }
    object
}
