//! What a callback can do beside returning: reply, ask who is there, say that it will block.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::outbox::{Line, Remote};
use crate::peer::{ConnectionId, Peer};

/// Where the replies of a callback go. A stream's turn, a datagram's turn: each has its own.
pub(crate) trait Sink {
    /// One whole message, to be framed.
    fn send(&mut self, message: &[u8]);
    /// Bytes as they go over the wire.
    fn send_raw(&mut self, bytes: &[u8]);
    /// One whole message that others get as well.
    fn send_shared(&mut self, message: &Arc<[u8]>);
    /// Hands what is collected to the system, as much as it takes now.
    fn flush(&mut self) -> io::Result<()>;
    fn peer_gone(&self) -> bool;
}

/// What a callback reaches of the server that runs it.
pub(crate) trait Host {
    fn is_draining(&self) -> bool;
    /// The running thread is going to block: let another one take over what it holds.
    fn block_begins(&self);
    /// It has blocked.
    fn block_ends(&self);
    /// Drain the server, within the default time.
    fn stop_server(&self);
}

/// Handed to every callback of a [`Handler`](crate::Handler): replies, the peer, and the server behind.
///
/// Replies are collected: they leave when the turn ends, when 64 KiB are together (or 32 datagrams), at
/// [`flush`](Context::flush), or before [`block`](Context::block) blocks. A `Context` is a
/// [`Write`](io::Write) as well, so that a reply need not be allocated first.
///
/// ```
/// use std::io;
/// use std::sync::Arc;
/// use switchboard::{Context, Handler, Next, testing};
///
/// struct Desk {
///     greeting: Arc<[u8]>,
/// }
///
/// impl Handler for Desk {
///     fn setup(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
///         cx.send_shared(&self.greeting);
///         // Not at the end of the turn, but now.
///         cx.flush()?;
///         Ok(Next::Continue)
///     }
///
///     fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
///         if cx.is_draining() || cx.peer_gone() {
///             return Ok(Next::Close);
///         }
///         match message {
///             b"address" => cx.send(cx.peer().to_string()),
///             b"number" => cx.send(cx.id().to_string()),
///             b"as it is" => cx.send_raw("no framing around this"),
///             // Any thread may keep the remote, and send whenever it likes.
///             b"elsewhere" => cx.remote().send("sent by a remote").map_err(io::Error::other)?,
///             _ => cx.send("what?"),
///         }
///         Ok(Next::Continue)
///     }
/// }
///
/// let mut client = testing::connect(Desk { greeting: Arc::from(*b"welcome") });
/// assert_eq!(client.received(), "welcome");
/// assert_eq!(client.ask("address"), client.address().to_string().as_str());
/// assert_eq!(client.ask("as it is"), "no framing around this");
/// assert_eq!(client.ask("elsewhere"), "sent by a remote");
/// ```
pub struct Context<'a> {
    line: &'a Arc<Line>,
    sink: &'a mut dyn Sink,
    host: &'a dyn Host,
    /// The message that is being written piece by piece.
    draft: &'a mut Vec<u8>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        line: &'a Arc<Line>,
        sink: &'a mut dyn Sink,
        host: &'a dyn Host,
        draft: &'a mut Vec<u8>,
    ) -> Self {
        draft.clear();
        Self { line, sink, host, draft }
    }

    /// Replies with one message, framed as this connection is; over datagrams, with one datagram.
    ///
    /// It cannot fail: what cannot be sent ends the connection, and [`finish`](crate::Handler::finish)
    /// says why. The causes are:
    ///
    /// | | the reason |
    /// |---|---|
    /// | the framing cannot carry it: it is longer than [`max_frame`](crate::Framing::max_frame), which bounds both directions, of another length than a fixed one, or refused by a codec | [`HandlerErr`](crate::CloseReason::HandlerErr) |
    /// | a datagram of more than 65,507 bytes | `HandlerErr` |
    /// | it comes after [`Next::HalfClose`](crate::Next::HalfClose) | `HandlerErr` |
    /// | the peer is gone | [`PeerReset`](crate::CloseReason::PeerReset), [`Io`](crate::CloseReason::Io) |
    /// | the peer does not read, for the write timeout, while this call blocks (below) | [`SlowWrite`](crate::CloseReason::SlowWrite) |
    /// | the same at a drain's deadline | [`Forced`](crate::CloseReason::Forced) |
    ///
    /// What was sent before is still flushed, if the peer is there to take it. (A datagram that the system
    /// refuses to send is counted, and ends nothing.)
    ///
    /// While more than the outbox limit waits for a peer that does not read, this call blocks, up to the
    /// write timeout.
    pub fn send(&mut self, message: impl AsRef<[u8]>) {
        self.finish_draft();
        self.sink.send(message.as_ref());
    }

    /// Sends bytes as they are, without framing: for a protocol's own preamble or an answer that is
    /// framed already. Over datagrams it is [`send`](Context::send).
    pub fn send_raw(&mut self, bytes: impl AsRef<[u8]>) {
        self.finish_draft();
        self.sink.send_raw(bytes.as_ref());
    }

    /// Replies with a message that many peers share.
    pub fn send_shared(&mut self, message: &Arc<[u8]>) {
        self.finish_draft();
        self.sink.send_shared(message);
    }

    /// Writes what was collected so far to the socket now. What the peer does not take at once stays
    /// collected; this call does not wait for it.
    ///
    /// It also ends a message that was written through [`Write`](io::Write).
    ///
    /// # Errors
    /// The peer is gone. The connection ends for that reason, whatever is returned.
    pub fn flush(&mut self) -> io::Result<()> {
        self.finish_draft();
        self.sink.flush()
    }

    /// Runs code that blocks (a query, a file, a lock), after telling the pool, so that another worker
    /// takes over at once. Without it the pool notices by itself, some milliseconds later.
    ///
    /// What was collected is written first. Under `Inline` nobody can take over: the code blocks the
    /// server.
    ///
    /// ```
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| {
    ///     handler_fn(|message, cx| {
    ///         let name = String::from_utf8_lossy(message).into_owned();
    ///         let size = cx.block(|| std::fs::metadata(&name).map(|file| file.len()))?;
    ///         cx.send(size.to_string());
    ///         Ok(Next::Continue)
    ///     })
    /// });
    /// # let _ = server;
    /// ```
    pub fn block<T>(&mut self, blocking: impl FnOnce() -> T) -> T {
        // An error here is met again when the turn ends, and closes the connection then.
        drop(self.flush());
        let _over = Blocking::begin(self.host);
        blocking()
    }

    /// A handle to this peer that any thread may keep and send with.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote::new(self.line.clone())
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.line.peer
    }

    /// The number of this connection or session.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.line.id
    }

    /// Whether the server is being drained: begin nothing long.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.host.is_draining()
    }

    /// Whether the peer is gone for good: it reset the connection, or both sides are closed. A peer that
    /// has only finished sending is not gone, and always `false` over datagrams. One system call.
    #[must_use]
    pub fn peer_gone(&self) -> bool {
        self.sink.peer_gone()
    }

    /// Sends the message that was written piece by piece.
    pub(crate) fn finish_draft(&mut self) {
        if !self.draft.is_empty() {
            self.sink.send(self.draft);
            self.draft.clear();
        }
    }
}

/// Pieces of one message. It ends, and is framed, at the next [`send`](Context::send), at
/// [`flush`](Context::flush), or when the callback returns. If nothing was written there is no message;
/// an empty one is sent with `send("")`.
///
/// ```
/// use std::io::Write;
/// use switchboard::{Next, Server, handler_fn};
///
/// let server = Server::new(|_peer| {
///     handler_fn(|message, cx| {
///         write!(cx, "{} bytes", message.len())?;
///         write!(cx, ", thank you")?;
///         Ok(Next::Continue)
///     })
/// });
/// # let _ = server;
/// ```
impl io::Write for Context<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.draft.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Context::flush(self)
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("id", &self.id()).field("peer", self.peer()).finish()
    }
}

/// A span in which the running thread blocks; it ends also when the code in it panics.
pub(crate) struct Blocking<'a>(&'a dyn Host);

impl<'a> Blocking<'a> {
    pub(crate) fn begin(host: &'a dyn Host) -> Self {
        host.block_begins();
        Self(host)
    }
}

impl Drop for Blocking<'_> {
    fn drop(&mut self) {
        self.0.block_ends();
    }
}
