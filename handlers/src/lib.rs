//! Ready-made handlers for switchboard.
#![forbid(unsafe_code)]
