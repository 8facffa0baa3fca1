//! The async shell around one log.

pub mod journal;
