//! The path of a datagram: listen, receive, its peer's session, a turn, and the reply.
//!
//! ```text
//! listen ─▶ receive ─▶ sessions ─▶ start ─▶ turn ─▶ reply
//! ```
//! Each stage is a file, in this order; `held` and `guard` belong to the reply. A session is to datagrams what a
//! connection is to a stream, and shares nothing with it but the contract.

pub(crate) mod listen;

mod receive;

mod sessions;

mod start;

mod turn;

mod reply;

mod held;

mod guard;

pub(crate) use listen::{DatagramListener, DatagramService};
pub(crate) use receive::{Fetched, SessionHost, Taken};
pub(crate) use sessions::Session;
pub(crate) use turn::{run, run_raw};
