//! Records to standard output, and how far that has come.
//!
//! A record is done when it was flushed, not when it was formatted: [`Printer::flush`] gives out the positions up to
//! which everything has left the process, and only those may be committed.

use super::format::Template;
use crate::cli::exit::CliError;
use crate::cli::json;
use crate::client::ConsumedBatch;
use crate::types::{Offset, TopicPartition};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd as _;

/// Output is written in pieces of this size while there is more to come.
const BUFFER_BYTES: usize = 256 << 10;

/// What to print of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// The value and a newline.
    Values,
    Template(Template),
    Json,
    Nothing,
}

/// How much was printed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Printed {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct Printer<W: Write> {
    out: BufWriter<W>,
    style: Style,
    printed: Printed,
    /// Records that may still be printed.
    left: u64,
    /// Formatted, maybe not flushed: the next offset of each partition.
    pending: BTreeMap<TopicPartition, Offset>,
}

impl Printer<File> {
    /// Prints to standard output, past the buffer of the standard library, which would flush at every newline.
    pub(super) fn stdout(style: Style, records_max: Option<u64>) -> Result<Self, CliError> {
        let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(CliError::output)?;
        Ok(Self::new(File::from(stdout), style, records_max))
    }
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, style: Style, records_max: Option<u64>) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, out),
            style,
            printed: Printed::default(),
            left: records_max.unwrap_or(u64::MAX),
            pending: BTreeMap::new(),
        }
    }

    /// Prints a batch, or as much of it as is wanted.
    pub(super) fn print(&mut self, batch: &ConsumedBatch) -> Result<(), CliError> {
        let wanted = self.left.min(batch.record_count().into());
        if wanted == 0 {
            return Ok(());
        }
        self.write(batch, wanted).map_err(CliError::output)?;
        self.left -= wanted;
        self.printed.records += wanted;
        self.printed.bytes += batch.record_set().len() as u64;
        self.come_to(batch.partition(), batch.base_offset().advance(wanted));
        Ok(())
    }

    /// There is nothing to print up to this offset but what was printed.
    pub(super) fn pass(&mut self, partition: &TopicPartition, next_offset: Offset) {
        // What did not fit into the count is not passed.
        if self.left > 0 {
            self.come_to(partition, next_offset);
        }
    }

    fn come_to(&mut self, partition: &TopicPartition, next_offset: Offset) {
        match self.pending.get_mut(partition) {
            Some(pending) => *pending = next_offset,
            None => drop(self.pending.insert(partition.clone(), next_offset)),
        }
    }

    fn write(&mut self, batch: &ConsumedBatch, wanted: u64) -> io::Result<()> {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        match &self.style {
            Style::Nothing => {}
            Style::Values => {
                for value in batch.values().take(wanted) {
                    self.out.write_all(value.unwrap_or_default())?;
                    self.out.write_all(b"\n")?;
                }
            }
            Style::Template(template) => {
                for record in batch.records().take(wanted) {
                    template.write(&mut self.out, &record)?;
                }
            }
            Style::Json => {
                for record in batch.records().take(wanted) {
                    json::write_record(&mut self.out, &record)?;
                }
            }
        }
        Ok(())
    }

    /// Whether something was formatted and not flushed.
    pub(super) fn is_dirty(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether all records that were wanted are printed.
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    pub(super) fn printed(&self) -> Printed {
        self.printed
    }

    /// Sends everything out; the positions that are done with that. After an error nothing more is done, and what
    /// was formatted since the last flush counts as not printed.
    pub(super) fn flush(&mut self) -> Result<BTreeMap<TopicPartition, Offset>, CliError> {
        self.out.flush().map_err(CliError::output)?;
        Ok(std::mem::take(&mut self.pending))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::test_batch;

    fn batch(base_offset: u64, values: &[&str]) -> ConsumedBatch {
        test_batch(base_offset, values)
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_what_was_flushed_is_done() {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, Style::Values, None);
        printer.print(&batch(5, &["a", "b"])).expect("printed");
        assert!(printer.is_dirty());
        let done = printer.flush().expect("flushed");
        assert_eq!(done.into_values().collect::<Vec<_>>(), [Offset(7)]);
        assert!(printer.flush().expect("flushed").is_empty());
        drop(printer);
        assert_eq!(out, b"a\nb\n");
    }

    #[test]
    fn no_more_records_are_printed_and_done_than_are_wanted() {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, Style::Values, Some(3));
        printer.print(&batch(0, &["a", "b"])).expect("printed");
        assert!(!printer.is_full());
        printer.print(&batch(2, &["c", "d"])).expect("printed");
        assert!(printer.is_full());
        assert_eq!(printer.flush().expect("flushed").into_values().collect::<Vec<_>>(), [Offset(3)]);
        drop(printer);
        assert_eq!(out, b"a\nb\nc\n");
    }

    #[test]
    fn a_reader_that_went_away_has_read_nothing_more() {
        let mut printer = Printer::new(Closed, Style::Values, None);
        printer.print(&batch(0, &["a"])).expect("buffered");
        assert!(matches!(printer.flush(), Err(CliError::OutputClosed)));
    }
}
