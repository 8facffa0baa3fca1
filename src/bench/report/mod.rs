//! Results -> one HTML page.

use super::result::RunResult;

/// The page.
pub fn page(results: &[RunResult]) -> String {
    format!("{}", results.len())
}
