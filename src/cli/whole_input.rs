//! One value for a verb that sends one record: its argument, or all of standard input.

use super::exit::CliError;
use std::io::{IsTerminal as _, Read as _};

/// The argument, or else standard input without its last newline, which a shell or an editor has put there. Reads no
/// more than `bytes_max`.
pub(super) async fn value_or_stdin(value: Option<String>, bytes_max: usize) -> Result<Vec<u8>, CliError> {
    if let Some(value) = value {
        return Ok(value.into_bytes());
    }
    let failed = |source| CliError::Io { what: "cannot read standard input".to_owned(), source };
    let read = tokio::task::spawn_blocking(move || {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            eprintln!("What you type is the value; Ctrl-D ends it.");
        }
        let mut bytes = Vec::new();
        stdin.lock().take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let bytes = read.await.map_err(std::io::Error::other).and_then(|read| read).map_err(failed)?;
    if bytes.len() > bytes_max {
        return Err(CliError::usage(format!("standard input has more than {bytes_max} bytes, the most of one record")));
    }
    Ok(without_last_newline(bytes))
}

/// As `$(...)` of a shell does, but one newline and no more.
pub(super) fn without_last_newline(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_argument_is_the_value_and_of_input_one_newline_is_not() {
        assert_eq!(value_or_stdin(Some("a\n".to_owned()), 0).await.expect("no input is read"), b"a\n");
        for (input, value) in [("a\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("", ""), ("\n", "")] {
            assert_eq!(without_last_newline(input.into()), value.as_bytes(), "{input:?}");
        }
    }
}
