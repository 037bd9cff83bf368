//! A kit to test handlers with: in memory, on a real server, against peers that misbehave.

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
/// [`Handler`](crate::Handler) over datagrams see [`MemoryServer::correspond`].
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
