//! Pages to read: what is promised, and where things are for those who come from elsewhere.
//!
//! There is no code in here.
//!
//! - [`promises`]: what holds under each concurrency and on each transport, what does not, and which tests
//!   prove it.
//! - [`socketserver`]: for those who know Python's `socketserver`. Where each of its names went, the same
//!   programs in both, and what was left behind.
//!
//! What a connection and a datagram live through stands [at `Handler`](crate::Handler#the-life-of-a-connection),
//! how a handler is tested at [`testing`](crate::testing), and what a framing is at [`codec`](crate::codec).

pub mod promises;
pub mod socketserver;
