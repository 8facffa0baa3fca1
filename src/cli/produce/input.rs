//! Lines out of a file or standard input, without a copy for all but those that lie across two chunks.
//!
//! A thread reads large chunks ahead, through a bounded channel; [`Lines`] splits them. A line ends with a newline,
//! which is not part of it, or with the input; a carriage return is kept, because it is data to whoever wrote it.

use crate::cli::exit::CliError;
use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::path::Path;
use tokio::sync::mpsc;

/// Bytes asked for in one read, and how many such chunks may wait.
const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS_MAX: usize = 4;

/// Where lines come from.
#[derive(Debug)]
pub(super) enum Source {
    Stdin,
    File(File),
}

impl Source {
    /// Standard input when there is no path, or when it is `-`.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, CliError> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else { return Ok(Self::Stdin) };
        #[expect(clippy::disallowed_methods, reason = "the user's own file, not one of the log's")]
        let file = File::open(path);
        file.map(Self::File).map_err(|source| CliError::Io { what: format!("cannot read {}", path.display()), source })
    }

    pub(super) fn is_terminal(&self) -> bool {
        match self {
            Self::Stdin => std::io::stdin().is_terminal(),
            Self::File(file) => file.is_terminal(),
        }
    }

    /// Reads it in a thread, which ends with the input or when nobody listens any more. It is not waited for: a read
    /// of a terminal cannot be interrupted.
    pub(super) fn read_in_chunks(self) -> mpsc::Receiver<std::io::Result<Vec<u8>>> {
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        std::thread::spawn(move || match self {
            Self::Stdin => read_chunks(std::io::stdin().lock(), &sender),
            Self::File(file) => read_chunks(file, &sender),
        });
        receiver
    }
}

fn read_chunks(mut source: impl Read, chunks: &mpsc::Sender<std::io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = match source.read(&mut chunk) {
            Ok(0) => return,
            Ok(read) => {
                chunk.truncate(read);
                Ok(chunk)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = read.is_err();
        if chunks.blocking_send(read).is_err() || failed {
            return;
        }
    }
}

/// Splits chunks into lines.
#[derive(Debug)]
pub(super) struct Lines {
    chunk: Vec<u8>,
    /// Where in the chunk the next line begins.
    position: usize,
    /// A line that began in an earlier chunk.
    begun: Vec<u8>,
    /// Whether `begun` was given out as a line, and is to be cleared.
    given: bool,
    number: u64,
    line_bytes_max: usize,
    /// What says so, in the words of a refusal.
    whose: &'static str,
}

impl Lines {
    /// A line longer than `line_bytes_max` is an error as soon as that is known, so that it is never kept whole.
    /// `whose` limit it is ends the sentence "longer than the 10 bytes that ...".
    pub(super) fn new(line_bytes_max: usize, whose: &'static str) -> Self {
        Self { chunk: Vec::new(), position: 0, begun: Vec::new(), given: false, number: 0, line_bytes_max, whose }
    }

    /// Takes the next chunk; all lines of the one before must have been taken.
    pub(super) fn push(&mut self, chunk: Vec<u8>) {
        debug_assert_eq!(self.position, self.chunk.len(), "lines of the last chunk were not taken");
        self.chunk = chunk;
        self.position = 0;
    }

    /// The next line of the chunk, with its number from 1; `None` when the chunk is used up.
    #[inline]
    pub(super) fn next_line(&mut self) -> Result<Option<(u64, &[u8])>, CliError> {
        if std::mem::take(&mut self.given) {
            self.begun.clear();
        }
        let rest = &self.chunk[self.position..];
        let end = memchr::memchr(b'\n', rest);
        let part = &rest[..end.unwrap_or(rest.len())];
        if self.begun.len() + part.len() > self.line_bytes_max {
            let what = format!("longer than the {} bytes that {}", self.line_bytes_max, self.whose);
            return Err(CliError::Input { line: self.number + 1, what });
        }
        let Some(end) = end else {
            self.begun.extend_from_slice(part);
            self.position = self.chunk.len();
            return Ok(None);
        };
        let start = self.position;
        self.position += end + 1;
        self.number += 1;
        if self.begun.is_empty() {
            return Ok(Some((self.number, &self.chunk[start..start + end])));
        }
        self.begun.extend_from_slice(&self.chunk[start..start + end]);
        self.given = true;
        Ok(Some((self.number, &self.begun)))
    }

    /// The last line, if the input does not end with a newline.
    pub(super) fn finish(&mut self) -> Option<(u64, &[u8])> {
        (!self.begun.is_empty()).then_some((self.number + 1, self.begun.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]], line_bytes_max: usize) -> Result<Vec<(u64, Vec<u8>)>, CliError> {
        let mut lines = Lines::new(line_bytes_max, "the topic takes");
        let mut all = Vec::new();
        for chunk in chunks {
            lines.push(chunk.to_vec());
            while let Some((number, line)) = lines.next_line()? {
                all.push((number, line.to_vec()));
            }
        }
        all.extend(lines.finish().map(|(number, line)| (number, line.to_vec())));
        Ok(all)
    }

    #[test]
    fn one_line_is_one_record() {
        let lines = split(&[b"a\nb\r\n\nlast"], 100).expect("short lines");
        let expected: [(u64, &[u8]); 4] = [(1, b"a"), (2, b"b\r"), (3, b""), (4, b"last")];
        assert_eq!(lines, expected.map(|(number, line)| (number, line.to_vec())));
        assert!(split(&[b""], 100).expect("nothing").is_empty());
        assert_eq!(split(&[b"a\n"], 100).expect("one").len(), 1);
    }

    #[test]
    fn a_line_that_is_too_long_is_named_before_it_is_read_whole() {
        for chunks in [vec![b"ok\n12345678901".as_slice()], vec![b"ok\n123456", b"78901", b"unread"]] {
            let error = split(&chunks, 10).expect_err("11 bytes are too long");
            assert!(matches!(error, CliError::Input { line: 2, .. }), "{error}");
        }
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_where_chunks_end(text in "[a-c\n]{0,60}", cuts in proptest::collection::vec(0_usize..60, 0..6)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            let mut expected: Vec<_> = text.split('\n').map(|line| line.as_bytes().to_vec()).collect();
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            let lines: Vec<_> = split(&chunks, 100).expect("short").into_iter().map(|(_, line)| line).collect();
            prop_assert_eq!(lines, expected);
        }
    }
}
