//! A client in memory: what a peer can do, and what a test can see of it.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use crate::codec::{Decoded, Decoder, Framing};
use crate::event::Stats;
use crate::peer::Address;
use crate::reason::CloseReason;
use crate::sys::memory::ServerSide;
use crate::testing::call::{Call, Lines, Message};
use crate::testing::step::Step;
use crate::testing::world::{Other, Way, World};

/// A client of a server in memory. Whatever it does, the server has done all that it can do about it when
/// the call returns.
///
/// It reads everything at once, unless it was told otherwise, and closes when it has read the end of what
/// the server sends, as most clients do; not after [`Next::HalfClose`](crate::Next::HalfClose). Dropping it
/// leaves the connection open, as that of a peer who falls silent: [`close`](Client::close) it first.
///
/// ```
/// use switchboard::testing::{MemoryServer, Step};
/// use switchboard::{Address, CloseReason, Framing, Next, Server, handler_fn};
///
/// let upper = || handler_fn(|line, cx| {
///     cx.send(line.to_ascii_uppercase());
///     Ok(Next::Continue)
/// });
/// let server = MemoryServer::new(Server::new(move |_peer| upper()).framing(Framing::lines()));
///
/// let mut client = server.connect();
/// client.send("hel");
/// assert!(client.replies().is_empty(), "the line is not whole");
/// client.send("lo\nworld\n");
/// assert_eq!(client.replies(), ["HELLO", "WORLD"]);
///
/// client.play([Step::send("bye"), Step::HalfClose]);
/// assert_eq!(client.received(), "BYE\n");
/// assert_eq!(client.calls().last().unwrap(), &"finish peer-eof");
/// assert_eq!(client.close_reason(), Some(CloseReason::PeerEof));
/// assert!(matches!(client.address(), Address::Tcp(_)));
/// ```
pub struct Client {
    world: Arc<World>,
    other: Arc<Other>,
    framing: Framing,
    decoder: Decoder,
    /// What was received and handed to the test neither as bytes nor as messages.
    unread: Vec<u8>,
    /// The same, of datagrams.
    datagrams: Vec<Vec<u8>>,
}

/// How a server has ended a connection, as its client sees it.
///
/// ```
/// use switchboard::testing::{self, End};
/// use switchboard::{Next, handler_fn};
///
/// let mut client = testing::connect(handler_fn(|_message, _cx| Ok(Next::Close)));
/// client.send("hello");
/// assert_eq!(client.end(), End::Closed);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// It has not: the connection is open.
    Open,
    /// In order: the client has read everything, and then the end.
    Closed,
    /// By a reset.
    Reset,
}

// ---- what it does ----

impl Client {
    pub(super) fn new(world: Arc<World>, other: Arc<Other>, framing: Framing) -> Self {
        let decoder = framing.decoder();
        let (unread, datagrams) = (Vec::new(), Vec::new());
        Self { world, other, framing, decoder, unread, datagrams }
    }

    /// Sends bytes as they are, in one piece; over datagrams, one datagram. How a stream is cut into
    /// pieces is up to the test: the network cuts where it likes.
    ///
    /// What is sent to a server that has closed the connection is lost.
    ///
    /// ```
    /// use switchboard::{Next, handler_fn, testing};
    ///
    /// let mut client = testing::connect(handler_fn(|message, cx| {
    ///     cx.send(message);
    ///     Ok(Next::Continue)
    /// }));
    /// client.send("hel");
    /// client.send("lo");
    /// assert_eq!(client.received(), "hello");
    /// ```
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.play([Step::send(bytes)]);
    }

    /// Sends one message, framed as the server expects it.
    ///
    /// ```
    /// use switchboard::testing::MemoryServer;
    /// use switchboard::{Framing, Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// let mut client = MemoryServer::new(server.framing(Framing::lines())).connect();
    /// client.say("hello");
    /// assert_eq!(client.calls()[1], "handle \"hello\" -> Continue");
    /// ```
    ///
    /// # Panics
    /// The framing cannot carry it.
    #[track_caller]
    pub fn say(&mut self, message: impl AsRef<[u8]>) {
        if let Way::Datagrams(_) = self.other.way {
            return self.send(message);
        }
        let mut framed = Vec::new();
        let encoded = self.framing.encode(message.as_ref(), &mut framed);
        encoded.unwrap_or_else(|error| panic!("the message cannot be framed: {error}"));
        self.send(framed);
    }

    /// Says something and returns the one reply to it.
    ///
    /// # Panics
    /// There is no reply, or there are several, or earlier ones were not looked at.
    ///
    /// ```
    /// use switchboard::{Next, handler_fn, testing};
    ///
    /// let mut client = testing::connect(handler_fn(|message, cx| {
    ///     cx.send(message.len().to_string());
    ///     Ok(Next::Continue)
    /// }));
    /// assert_eq!(client.ask("hello"), "5");
    /// ```
    #[track_caller]
    pub fn ask(&mut self, message: impl AsRef<[u8]>) -> Message {
        self.say(message);
        let mut replies = self.replies();
        let reply = replies.pop();
        match reply {
            Some(reply) if replies.is_empty() => reply,
            Some(last) => panic!("more than one reply: {replies:?}, {last:?}"),
            None => panic!("no reply, after these calls: {}", Lines(&self.calls())),
        }
    }

    /// Plays a script: each step is taken when the server has nothing left to do but wait, be it for the
    /// next message or in the middle of a call. So a [`StreamHandler`](crate::StreamHandler) that reads
    /// further than its first bytes finds what is to come.
    ///
    /// A wait that no step ends takes as long as the server's timeout allows: the clock moves there.
    ///
    /// # Panics
    /// A handler waits for what never comes, and has no timeout; or a step is for streams alone, and this
    /// client sends datagrams.
    pub fn play(&mut self, steps: impl IntoIterator<Item = Step>) {
        self.world.play(&self.other, steps);
    }

    /// Finishes sending, and still receives.
    ///
    /// ```
    /// use switchboard::{CloseReason, Next, handler_fn, testing};
    ///
    /// let mut client = testing::connect(handler_fn(|message, cx| {
    ///     cx.send(message);
    ///     Ok(Next::Continue)
    /// }));
    /// client.half_close();
    /// assert_eq!(client.close_reason(), Some(CloseReason::PeerEof));
    /// ```
    ///
    /// # Panics
    /// It sends datagrams.
    #[track_caller]
    pub fn half_close(&mut self) {
        self.on_a_stream("half_close", Step::HalfClose);
    }

    /// Closes: it sends no more, and receives no more.
    ///
    /// ```
    /// use switchboard::{CloseReason, Next, handler_fn, testing};
    ///
    /// let mut client = testing::connect(handler_fn(|message, cx| {
    ///     cx.send(message);
    ///     Ok(Next::Continue)
    /// }));
    /// client.close();
    /// client.send("lost");
    /// assert_eq!(client.close_reason(), Some(CloseReason::PeerEof));
    /// ```
    ///
    /// # Panics
    /// It sends datagrams.
    #[track_caller]
    pub fn close(&mut self) {
        self.on_a_stream("close", Step::Close);
    }

    /// Resets the connection.
    ///
    /// ```
    /// use switchboard::{CloseReason, Next, handler_fn, testing};
    ///
    /// let mut client = testing::connect(handler_fn(|message, cx| {
    ///     cx.send(message);
    ///     Ok(Next::Continue)
    /// }));
    /// client.reset();
    /// assert_eq!(client.close_reason(), Some(CloseReason::PeerReset));
    /// ```
    ///
    /// # Panics
    /// It sends datagrams.
    #[track_caller]
    pub fn reset(&mut self) {
        self.on_a_stream("reset", Step::Reset);
    }

    /// Reads no more: what is sent to it piles up in the server.
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchboard::{CloseReason, Next, handler_fn, testing};
    ///
    /// let mut client = testing::connect(handler_fn(|message, cx| {
    ///     cx.send(message);
    ///     Ok(Next::Continue)
    /// }));
    /// client.stop_reading();
    /// client.send("hello");
    /// client.advance(Duration::from_secs(30));
    /// assert_eq!(client.close_reason(), Some(CloseReason::SlowWrite));
    /// ```
    ///
    /// # Panics
    /// It sends datagrams.
    #[track_caller]
    pub fn stop_reading(&mut self) {
        self.on_a_stream("stop_reading", Step::ReadOnly(0));
    }

    /// Reads everything again.
    ///
    /// ```
    /// use switchboard::{Next, handler_fn, testing};
    ///
    /// let mut client = testing::connect(handler_fn(|message, cx| {
    ///     cx.send(message);
    ///     Ok(Next::Continue)
    /// }));
    /// client.stop_reading();
    /// client.send("hello");
    /// assert_eq!(client.received(), "");
    /// client.read_on();
    /// assert_eq!(client.received(), "hello");
    /// ```
    ///
    /// # Panics
    /// It sends datagrams.
    #[track_caller]
    pub fn read_on(&mut self) {
        self.on_a_stream("read_on", Step::ReadOn);
    }

    /// Does what only the peer at the end of a stream can do.
    #[track_caller]
    fn on_a_stream(&mut self, method: &str, step: Step) {
        let Way::Stream(_) = self.other.way else {
            panic!("Client::{method} is for streams, not for datagrams")
        };
        self.play([step]);
    }

    /// Moves the clock of the server on, and fires what falls due on the way, in order. Deadlines one
    /// behind another take a millisecond more each; see [`MemoryServer::advance`](super::MemoryServer::advance).
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchboard::{CloseReason, Next, handler_fn, testing};
    ///
    /// let mut client = testing::connect(handler_fn(|message, cx| {
    ///     cx.send(message);
    ///     Ok(Next::Continue)
    /// }));
    /// client.advance(Duration::from_secs(300));
    /// assert_eq!(client.close_reason(), Some(CloseReason::IdleTimeout));
    /// ```
    pub fn advance(&mut self, span: Duration) {
        self.world.advance(span);
    }

    /// Begins to drain its server; what has not ended after `within` is ended once the clock is there.
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchboard::{CloseReason, Next, handler_fn, testing};
    ///
    /// let mut client = testing::connect(handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// client.drain(Duration::from_secs(5));
    /// assert_eq!(client.close_reason(), Some(CloseReason::Draining));
    /// ```
    pub fn drain(&mut self, within: Duration) {
        self.play([Step::Drain(within)]);
    }
}

// ---- what it sees ----

impl Client {
    /// The whole messages that came since this was last asked, cut out by the framing of the server. A
    /// part of one is left for the next time.
    ///
    /// With [`Framing::raw`] that is everything together: a stream has no borders. Over datagrams each is a
    /// message.
    ///
    /// # Panics
    /// What came is no message.
    #[track_caller]
    pub fn replies(&mut self) -> Vec<Message> {
        self.fetch();
        let datagrams = std::mem::take(&mut self.datagrams);
        if !datagrams.is_empty() {
            return datagrams.into_iter().map(Message::from).collect();
        }
        let ended = self.end() != End::Open;
        let (mut replies, mut used) = (Vec::new(), 0);
        loop {
            let rest = &self.unread[used..];
            let decoder = &mut self.decoder;
            match if ended { decoder.decode_end(rest) } else { decoder.decode(rest) } {
                Ok(Decoded::Frame { body, consumed }) => {
                    replies.push(Message::from(rest[body].to_vec()));
                    used += consumed;
                }
                Ok(Decoded::Skipped { consumed }) => used += consumed,
                Ok(Decoded::Incomplete) => break,
                Err(why) => panic!("the server sent what is no message ({why}): {rest:?}"),
            }
        }
        self.unread.drain(..used);
        replies
    }

    /// The bytes that came and were not taken by [`replies`](Client::replies), as they are; of datagrams
    /// all that came, one behind the other.
    pub fn received(&mut self) -> Message {
        self.fetch();
        self.unread.extend(self.datagrams.drain(..).flatten());
        // Whatever was in the middle of a message is gone with it.
        self.decoder = self.framing.decoder();
        Message::from(std::mem::take(&mut self.unread))
    }

    fn fetch(&mut self) {
        match &self.other.way {
            Way::Stream(pipe) => self.unread.extend(pipe.received()),
            Way::Datagrams(socket) => {
                let received = socket.memory().map(|socket| socket.received(&self.other.address));
                self.datagrams.extend(received.into_iter().flatten());
            }
        }
    }

    /// Every call of its handlers so far, in order, with what came of it.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.other.journal.calls()
    }

    /// Why its connection has ended, once it has. Over datagrams: its last session.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.other.journal.ended()
    }

    /// How the server has ended the connection. Datagrams have none, and stay open.
    ///
    /// ```
    /// use switchboard::testing::{self, End};
    /// use switchboard::{Next, handler_fn};
    ///
    /// let mut client = testing::connect(handler_fn(|_message, _cx| Ok(Next::Abort)));
    /// assert_eq!(client.end(), End::Open);
    /// client.send("hello");
    /// assert_eq!(client.end(), End::Reset);
    /// ```
    #[must_use]
    pub fn end(&self) -> End {
        let Way::Stream(pipe) = &self.other.way else { return End::Open };
        match pipe.server() {
            ServerSide::Open => End::Open,
            ServerSide::Finished | ServerSide::Closed => End::Closed,
            ServerSide::Reset => End::Reset,
        }
    }

    /// The address under which its handler sees it.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.other.address
    }

    /// What its server has counted so far.
    ///
    /// ```
    /// use switchboard::{Next, handler_fn, testing};
    ///
    /// let mut client = testing::connect(handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// client.send("hello");
    /// assert_eq!(client.stats().messages, 1);
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.world.engine.stats()
    }
}

/// A test may look at it behind a panic that it caught, and at whatever its handler had come to.
impl UnwindSafe for Client {}
impl RefUnwindSafe for Client {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", self.address())
            .field("end", &self.end())
            .field("close_reason", &self.close_reason())
            .field("calls", &self.calls())
            .finish_non_exhaustive()
    }
}
