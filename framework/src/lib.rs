//! switchboard: write one handler; it serves TCP and UDP with the concurrency that you select.
#![forbid(unsafe_code)]

pub mod codec;
