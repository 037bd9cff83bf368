//! Ready-made handlers for [`switchboard`]: serve them as they are, or wrap your own in them.
//!
//! | handler | what it does with a message |
//! |---|---|
//! | [`Upper`] | answers it in upper case, ASCII letters only |
//! | [`Fixed`] | answers the same text, whatever came |
//! | [`Silent`] | answers nothing |
//!
//! | wrapper | what it adds to the handler inside |
//! |---|---|
//! | [`Over`] | a quit word ends the conversation, and the server if wanted |
//! | [`Once`] | one exchange, then the conversation ends |
//! | [`Inspect`] | a closure sees every message first, for a transcript ([`Escaped`] makes it safe to print) |
//!
//! Wrappers nest, and stay around whatever handler takes over by [`Next::Switch`](switchboard::Next):
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//! use switchboard::Server;
//! use switchboard_handlers::{Once, Over, Upper};
//!
//! let server = Server::new(|_peer| Once::new(Over::new(Upper))).tcp("127.0.0.1:0").spawn()?;
//! let address = server.addresses()[0].socket_addr().expect("a TCP listener has one");
//!
//! let mut client = TcpStream::connect(address)?;
//! client.write_all(b"hello")?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert_eq!(answer, "HELLO");
//! server.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod fixed;
mod silent;
mod upper;

#[macro_use]
mod wrapper;

mod inspect;
mod once;
mod over;

mod escaped;

pub use escaped::Escaped;
pub use fixed::Fixed;
pub use inspect::Inspect;
pub use once::Once;
pub use over::{Over, QuitWords};
pub use silent::Silent;
pub use upper::Upper;

/// The README's code is compiled by the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeDoctests;
