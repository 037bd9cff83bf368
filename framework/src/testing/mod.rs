//! A kit to test handlers with: in memory, on a real server, against peers that misbehave.
//!
//! **In memory** a handler runs as in a server, and by the server's own code: framing, limits, deadlines,
//! the end of a connection. But there is no socket, no thread and no waiting: a test takes microseconds,
//! and goes the same way each time.
//!
//! ```
//! use std::io;
//! use switchboard::{Context, Handler, Next, testing};
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
//! let mut client = testing::connect(Upper);
//! client.send("hello");
//! assert_eq!(client.received(), "HELLO");
//! ```
//!
//! # A test of one's own
//!
//! A protocol is more than its handler: the framing, the timeouts and the shared state belong to it. So
//! put what builds the server into a function, let `main` serve what it returns, and let tests hand it to
//! a [`MemoryServer`]. (The addresses that it was told are not opened there.)
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::io;
//! use std::sync::{Arc, Mutex};
//! use std::time::Duration;
//! use switchboard::testing::MemoryServer;
//! use switchboard::{CloseReason, Context, Framing, Handler, Next, Server};
//!
//! /// One peer of a key-value store: SET KEY VALUE, GET KEY, QUIT.
//! struct Session {
//!     store: Arc<Mutex<BTreeMap<String, String>>>,
//! }
//!
//! impl Handler for Session {
//!     fn handle(&mut self, line: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
//!         let line = String::from_utf8_lossy(line);
//!         match line.splitn(3, ' ').collect::<Vec<_>>()[..] {
//!             ["SET", key, value] => {
//!                 self.store.lock().unwrap().insert(key.to_owned(), value.to_owned());
//!                 cx.send("OK");
//!             }
//!             ["GET", key] => {
//!                 let value = self.store.lock().unwrap().get(key).cloned();
//!                 cx.send(value.unwrap_or_else(|| "NONE".to_owned()));
//!             }
//!             ["QUIT"] => return Ok(Next::Close),
//!             _ => cx.send("ERR"),
//!         }
//!         Ok(Next::Continue)
//!     }
//!
//!     fn idle(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
//!         cx.send("BYE you have been silent for long");
//!         Ok(Next::Close)
//!     }
//! }
//!
//! fn key_value_server() -> Server {
//!     let store = Arc::default();
//!     Server::new(move |_peer| Session { store: Arc::clone(&store) }).framing(Framing::lines())
//! }
//!
//! // What was set is there, for everybody.
//! let server = MemoryServer::new(key_value_server());
//! let (mut ada, mut bob) = (server.connect(), server.connect());
//! assert_eq!(ada.ask("SET colour sky blue"), "OK");
//! assert_eq!(bob.ask("GET colour"), "sky blue");
//!
//! // Commands arrive in pieces, and several at a time: the network cuts where it likes.
//! ada.send("GET col");
//! assert!(ada.replies().is_empty());
//! ada.send("our\nGET size\n");
//! assert_eq!(ada.replies(), ["sky blue", "NONE"]);
//!
//! // Whoever quits is closed: every call, and what it returned.
//! bob.say("QUIT");
//! assert_eq!(bob.close_reason(), Some(CloseReason::Done));
//! assert_eq!(bob.calls().last().unwrap(), &"finish done");
//!
//! // Five minutes of silence take no time.
//! ada.advance(Duration::from_secs(300));
//! assert_eq!(ada.replies(), ["BYE you have been silent for long"]);
//! assert_eq!(ada.close_reason(), Some(CloseReason::IdleTimeout));
//! ```
//!
//! # What a client does, and what it sees
//!
//! A [`Client`] does one thing after another. When a call returns the server has done everything that it
//! can do about it.
//!
//! | it does | |
//! |---|---|
//! | [`send`](Client::send) | bytes as they are, split as you like |
//! | [`say`](Client::say), [`ask`](Client::ask) | one message, framed; and its one reply |
//! | [`half_close`](Client::half_close), [`close`](Client::close), [`reset`](Client::reset) | leaves, in one way or another |
//! | [`stop_reading`](Client::stop_reading), [`read_on`](Client::read_on) | lets replies pile up: the outbox limit, the write timeout |
//! | [`advance`](Client::advance) | time passes: everything that falls due happens, in order |
//! | [`drain`](Client::drain) | the server is stopped |
//! | [`play`](Client::play) | a script of [`Step`]s, for conversations (below) |
//!
//! | it sees | |
//! |---|---|
//! | [`replies`](Client::replies) | the messages that came since the last look |
//! | [`received`](Client::received) | the same as raw bytes |
//! | [`calls`](Client::calls) | every callback, in order, and what it returned: a [`Call`] compares with its line of text |
//! | [`close_reason`](Client::close_reason), [`end`](Client::end) | why it ended, and how that looked to the client |
//!
//! What handlers send to each other, by a [`Remote`](crate::Remote) or a [`Group`](crate::Group), arrives
//! like replies: connect several clients to one [`MemoryServer`]. Observers and ticks of the server are
//! at work as well. Datagrams are sent by [`MemoryServer::correspond`] and [`datagrams`].
//!
//! # Conversations
//!
//! A [`StreamHandler`] may read more than there is. A server would wait then; a test says beforehand what
//! comes, as a script whose steps are taken one by one, each when the handler has nothing left to do but
//! wait. If nothing is left of the script the clock moves to the timeout, and the read fails as it would
//! in a server. See [`Step`] for an example.
//!
//! # On a real server
//!
//! A [`TestServer`] listens on a free port, on threads of its own, under the concurrency of your choice;
//! it connects clients to itself, over TCP, UDP and Unix sockets.
//! When the test ends it is drained, and the test fails if that does not work, or if the numbers of its
//! [`Stats`](crate::Stats) do not add up. [`bad`] has peers that misbehave, to be let loose on it: what
//! they find is how your limits and timeouts hold on a real network.
//!
//! # What it does not show
//!
//! - **Threads.** In memory handlers run one at a time, on the thread of the test: no race and no deadlock
//!   between them shows. Nor does a handler that blocks: [`Context::block`](crate::Context::block) just
//!   runs its code.
//! - **Real time.** The clock stands still while a handler runs. What it does by itself with
//!   [`Instant`](std::time::Instant) is not moved.
//! - **The kernel's buffers.** What a client does not read waits in the server at once; a kernel holds
//!   some megabytes of it first. What was sent before a reset has arrived; on a network it may be lost.
//! - **The system's refusals.** There is no shortage of descriptors, no port that is taken, no option of a
//!   socket. Datagrams are neither lost nor reordered, and whoever receives them is never slow: what a
//!   [`Group`](crate::Group) does about a member that does not read shows over streams alone.
//! - **The last word.** A group's [`last_word`](crate::GroupRules::last_word) leaves if the member's
//!   socket takes it at that moment. That of a client in memory which has stopped reading never does.
//! - **The server's handle.** A [`MemoryServer`] is no [`ServerHandle`](crate::ServerHandle): neither
//!   `suspend` and `resume`, nor limits that change, nor [`serve_one`](crate::BoundServer::serve_one).
//!   (What `on_tick` is handed is one, of this very server.)
//!
//! A test in memory says what a handler does; let a few tests on a [`TestServer`] say that the whole thing
//! runs.

pub mod bad;
mod call;
mod client;
mod memory;
mod recorder;
mod server;
mod step;
mod world;

pub use call::{Call, Callback, Message, Returned};
pub use client::{Client, End};
pub use memory::MemoryServer;
pub use server::TestServer;
pub use step::Step;

use parking_lot::Mutex;

use crate::handler::{DatagramHandler, Handler, StreamHandler};
use crate::server::Server;

/// A client of this one handler, in memory, with all defaults: the framing is raw.
///
/// ```
/// use switchboard::{Next, handler_fn, testing};
///
/// let mut client = testing::connect(handler_fn(|message, cx| {
///     cx.send(message.to_ascii_uppercase());
///     Ok(Next::Continue)
/// }));
/// client.send("hello");
/// assert_eq!(client.received(), "HELLO");
/// ```
#[must_use]
pub fn connect(handler: impl Handler) -> Client {
    MemoryServer::new(Server::new(once(handler))).connect()
}

/// A client of this one conversation, in memory, with all defaults.
///
/// A handler that reads beyond what was sent waits; what comes then is planned by [`Client::play`], and
/// if nothing is the clock moves to its timeout.
///
/// ```
/// use std::io::{self, BufRead, Write};
/// use switchboard::{Next, Stream, StreamHandler, testing};
///
/// struct Echo;
///
/// impl StreamHandler for Echo {
///     fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
///         let mut line = String::new();
///         stream.read_line(&mut line)?;
///         stream.write_all(line.as_bytes())?;
///         Ok(Next::Continue)
///     }
/// }
///
/// let mut client = testing::converse(Echo);
/// client.send("hello\n");
/// assert_eq!(client.received(), "hello\n");
/// ```
#[must_use]
pub fn converse(handler: impl StreamHandler) -> Client {
    MemoryServer::new(Server::streams(once(handler))).connect()
}

/// Somebody who sends datagrams to this handler, in memory, with all defaults. For a
/// [`Handler`] over datagrams see [`MemoryServer::correspond`].
///
/// ```
/// use std::io;
/// use switchboard::{Datagram, DatagramHandler, Replies, testing};
///
/// struct Lengths;
///
/// impl DatagramHandler for Lengths {
///     fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()> {
///         replies.send(datagram.bytes().len().to_string());
///         Ok(())
///     }
/// }
///
/// assert_eq!(testing::datagrams(Lengths).ask("hello"), "5");
/// ```
#[must_use]
pub fn datagrams(handler: impl DatagramHandler) -> Client {
    MemoryServer::new(Server::datagrams(handler)).correspond()
}

/// A factory that has one handler to give.
fn once<H: Send>(handler: H) -> impl Fn(&crate::peer::Peer) -> H + Send + Sync {
    let handler = Mutex::new(Some(handler));
    move |_peer| handler.lock().take().expect("one handler serves one connection")
}
