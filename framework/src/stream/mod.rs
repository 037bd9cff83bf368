//! The path of a connection: listen, accept, admit, start, then turns, then close.
//!
//! ```text
//! listen ─▶ accept ─▶ admit ─▶ (queued) ─▶ start ─▶ turn ⇄ parked ─▶ close
//! ```
//! Each stage is a file, in this order. `connection` is what travels along it, `conversation` the
//! blocking form of a turn for raw bytes.

pub(crate) mod listen;

pub(crate) mod door;

pub(crate) mod accept;

pub(crate) mod admit;

mod connection;

mod start;

mod turn;

mod sink;

mod conversation;

mod close;

pub(crate) use connection::{Connection, ServiceFactory};
pub(crate) use turn::run;
