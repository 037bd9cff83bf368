//! A socket-server framework: write one handler; it serves TCP, UDP and Unix sockets, as concurrently as you say.
//!
//! Handlers are plain blocking code. There is no async runtime, and no unsafe code.
//!
#![cfg_attr(feature = "signals", doc = "```no_run")]
#![cfg_attr(not(feature = "signals"), doc = "```ignore")]
//! use std::io;
//! use switchboard::{Concurrency, Context, Handler, Next, Outcome, Server};
//!
//! struct Upper;
//!
//! impl Handler for Upper {
//!     fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
//!         cx.send(message.to_ascii_uppercase());
//!         Ok(Next::Continue)
//!     }
//! }
//!
//! fn main() -> switchboard::Result<Outcome> {
//!     env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
//!     Server::new(|_peer| Upper)
//!         .tcp("127.0.0.1:9999")
//!         .udp("127.0.0.1:9999")
//!         .concurrency(Concurrency::pool(16))
//!         .run_until_signal()
//! }
//! ```
//!
//! # The map
//!
//! **What you write** is one of three handlers, and a factory that makes one for each peer:
//!
//! | | gets | state | serves |
//! |---|---|---|---|
//! | [`Handler`] | one message at a time | a value for each peer | streams, datagrams |
//! | [`StreamHandler`] | a [`Stream`] to read and write as it likes | a value for each connection | streams |
//! | [`DatagramHandler`] | one [`Datagram`] at a time, and [`Replies`] | one value for all | datagrams |
//!
//! [`handler_fn`] makes a closure a [`Handler`] (a [`HandlerFn`]). Each callback returns a [`Next`], which
//! says how it goes on; a connection ends for exactly one [`CloseReason`]. What it lives through, step by
//! step, stands [at `Handler`](Handler#the-life-of-a-connection).
//!
//! **What sends** is the [`Context`] that each callback gets; a [`Remote`], which sends to its peer from any
//! thread; and a [`Group`], which sends to many peers at once by its [`GroupRules`], and says in a
//! [`FanOut`] who has the message. How much may wait for a peer is set on the server, and what happens
//! beyond is [`Overflow`].
//!
//! **Who is there** is a [`Peer`]: its [`Address`] (a [`UnixName`], of Unix sockets), the address that it
//! reached, its [`Credentials`] where the system knows them. [`ConnectionId`] is its number.
//!
//! **What cuts messages out of a stream** is a [`Framing`]: raw reads, lines, a delimiter, a fixed length,
//! a length before each message, or a [`Codec`](codec::Codec) of your own. The module [`codec`] has them
//! without any socket. A datagram is a message as it is.
//!
//! **What serves** is a [`Server`]: listeners ([`Listen`]: TCP, UDP, Unix streams and datagrams, sockets that
//! the program has bound), a filter ([`Verdict`]), limits and timeouts, each with a default that
//! is listed [there](Server#defaults). [`Server::bind`] opens the listeners and gives a [`BoundServer`]
//! that knows its addresses; [`Server::serve`] runs on the calling thread, [`Server::spawn`] on its own,
//! and [`BoundServer::serve_one`] serves a single connection or datagram, and says which ([`Served`]).
//! [`TcpServer`] and [`UdpServer`] are short ways in.
//!
//! **What drives it** is a [`ServerHandle`], from any thread and from handlers. Limits and timeouts
//! [change while it runs](ServerHandle#settings-that-may-change-while-the-server-runs).
//! [`suspend`](ServerHandle::suspend) turns newcomers away and keeps the port, and those who are there go
//! on, until [`resume`](ServerHandle::resume).
//!
//! **What ends it** is a drain, by a [`ServerHandle`], by [`Next::StopServer`] or by a signal: nobody new
//! is let in, those who are queued are served, everybody is told, everything is flushed, and a
//! [`DrainReport`] says what became of whom. `Server::run_until_signal` returns an [`Outcome`] whose
//! exit status says the same.
//!
//! **How it stands** is what [`ServerHandle::status`] says, a [`Status`] for a person to read: its
//! [`ServerStage`], the [`ListenerState`] of each listener ([`ListenerStatus`]), and its [`Workers`].
//!
//! **What it did** is in the numbers of [`ServerHandle::stats`] ([`Stats`], [`Histogram`]), and in lines of
//! the `log` crate under the target `switchboard`; without a logger they go nowhere. An [`Observer`] is told
//! of each [`Event`] itself ([`Server::observer`]): with the [`Traffic`] of each peer, the [`DropReason`] of
//! each datagram that was not handled, and how a pool gets by ([`HeldBy`], [`Sharing`]).
//! [`Server::on_tick`] runs something at regular instants.
//!
//! **What went wrong** says what was being done and whose [`Fault`] it is: an [`Error`] before a server
//! serves (of an [`ErrorKind`]; a [`Result`] has it, a [`SpawnError`] hands the server back), a
//! [`CloseReason`] for each peer, a [`SendError`] for what was not sent, a [`FrameError`] for bytes that
//! are no message.
//!
//! **What tests it** is the module [`testing`]: a handler driven in memory, with a clock that the test
//! moves; a real server whose end is checked; peers that misbehave.
//!
//! **What there is to read** is the [`guide`]: [what is promised](guide::promises), and which tests prove
//! it; and [coming from Python's `socketserver`](guide::socketserver).
//!
//! # Concurrency
//!
//! One value of [`Concurrency`] selects how handlers run. Handlers are the same under each, and so is
//! what is promised to them.
//!
//! | | `Inline` | `Threads { max }` | `Pool { workers }` (default) |
//! |---|---|---|---|
//! | a connection between messages | parked | holds its thread | parked: a slot and no thread |
//! | a handler that blocks | blocks the server | blocks its own thread | a sleeping worker takes over |
//! | datagrams | on the serving thread | on any thread that is free | on any worker that is free |
//! | good for | tests, tiny tools | odd protocols, debugging, a few hundred peers | everything else |
//!
//! The datagrams of one peer are handled in order under each.
//!
//! # Features
//!
//! | feature | default | brings |
//! |---|---|---|
//! | `signals` | yes | `run_until_signal`: SIGINT and SIGTERM drain the server |
//!
//! # Platform
//!
//! Linux only for now: on other systems it does not compile, and says so.
#![forbid(unsafe_code)]

mod fault;

mod config;
mod error;
mod filter;
mod peer;
mod reason;

mod sys;

pub mod codec;
mod timer;

mod event;

mod stage;

mod outbox;

mod handler;

mod desk;

mod slots;

mod stream;

mod datagram;

mod schedule;

mod server;

pub mod testing;

pub mod guide;

pub use codec::{FrameError, Framing};
pub use config::Overflow;
pub use error::{Error, ErrorKind, Result};
pub use event::{DropReason, Event, HeldBy, Histogram, Observer, Sharing, Stats, Traffic};
pub use fault::Fault;
pub use filter::Verdict;
pub use handler::{
    Context, Datagram, DatagramHandler, Handler, HandlerFn, Next, Replies, Stream, StreamHandler,
    handler_fn,
};
pub use outbox::{FanOut, Group, GroupRules, Remote, SendError};
pub use peer::{Address, ConnectionId, Credentials, Peer, UnixName};
pub use reason::CloseReason;
pub use schedule::{
    Concurrency, DrainReport, ListenerState, ListenerStatus, Served, ServerStage, Status, Workers,
};
pub use server::{
    BoundServer, Listen, Outcome, Server, ServerHandle, SpawnError, TcpServer, UdpServer,
};
