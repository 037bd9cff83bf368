//! The contract for raw bytes: a plain blocking conversation.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;

use crate::handler::Next;
use crate::outbox::{Line, Remote};
use crate::peer::{ConnectionId, Peer};
use crate::reason::CloseReason;

/// Serves one connection as a blocking conversation, in the shape that people know from Python's
/// `StreamRequestHandler`: read, write, read again.
///
/// [`handle`](StreamHandler::handle) is called when bytes are there, and may read and write as it likes.
/// [`Next::Continue`] parks the connection until there is more; while `handle` runs it owns a thread, so
/// as many conversations as workers can be under way at once. Where messages can be cut out of the stream
/// by a framing, a [`Handler`](crate::Handler) serves more peers with less.
///
/// ```
/// use std::io::{self, BufRead, Read, Write};
/// use switchboard::{Next, Server, Stream, StreamHandler};
///
/// struct Greeter;
///
/// impl StreamHandler for Greeter {
///     fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
///         let mut name = String::new();
///         // Bounded: a peer that never ends its line must not fill the memory.
///         Read::by_ref(stream).take(1024).read_line(&mut name)?;
///         writeln!(stream, "hello, {}", name.trim_end())?;
///         Ok(Next::Continue)
///     }
/// }
///
/// let server = Server::streams(|_peer| Greeter).tcp("127.0.0.1:0");
/// # let _ = server;
/// ```
///
/// [`setup`](StreamHandler::setup) and [`finish`](StreamHandler::finish) stand around it:
///
/// ```
/// use std::io::{self, Write};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use switchboard::testing::{self, Step};
/// use switchboard::{CloseReason, Next, Stream, StreamHandler};
///
/// /// Says how many bytes it was sent, and adds them to a total in the end.
/// struct Counts {
///     own: u64,
///     total: Arc<AtomicU64>,
/// }
///
/// impl StreamHandler for Counts {
///     fn setup(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
///         write!(stream, "go on. ")?;
///         Ok(Next::Continue)
///     }
///
///     fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
///         self.own = io::copy(stream, &mut io::sink())?;
///         write!(stream, "{} bytes", self.own)?;
///         Ok(Next::Close)
///     }
///
///     fn finish(&mut self, _reason: &CloseReason) {
///         self.total.fetch_add(self.own, Ordering::Relaxed);
///     }
/// }
///
/// let total = Arc::new(AtomicU64::new(0));
/// let mut client = testing::converse(Counts { own: 0, total: total.clone() });
/// client.play([Step::send("hello"), Step::send("world"), Step::HalfClose]);
/// assert_eq!(client.received(), "go on. 10 bytes");
/// assert_eq!(total.load(Ordering::Relaxed), 10);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `StreamHandler`",
    note = "a closure is none: a conversation is a type that implements `StreamHandler`; for a message at a \
            time there are `Server::new` and `handler_fn(|message, cx| ...)`"
)]
pub trait StreamHandler: Send + 'static {
    /// The peer is there; nothing of it has been read. The server may speak first here.
    ///
    /// # Errors
    /// An error ends the connection; [`finish`](StreamHandler::finish) is not called then.
    fn setup(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        let _ = stream;
        Ok(Next::Continue)
    }

    /// Bytes are there. Bytes left unread are there at the next call, which follows at once.
    ///
    /// [`Next::Switch`] ends the connection with an error: there is no framing for another handler.
    ///
    /// # Errors
    /// An error ends the connection.
    fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next>;

    /// The connection has ended, for this reason.
    fn finish(&mut self, reason: &CloseReason) {
        let _ = reason;
    }
}

impl StreamHandler for Box<dyn StreamHandler> {
    fn setup(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        (**self).setup(stream)
    }

    fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
        (**self).handle(stream)
    }

    fn finish(&mut self, reason: &CloseReason) {
        (**self).finish(reason);
    }
}

/// The two directions of a connection, as its turn offers them to a [`Stream`].
pub(crate) trait Duplex {
    /// Bytes that are there; blocks until some are, or returns none at the end.
    fn fill(&mut self) -> io::Result<&[u8]>;
    fn consume(&mut self, bytes: usize);
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn flush(&mut self) -> io::Result<()>;
    fn is_draining(&self) -> bool;
    fn peer_gone(&self) -> bool;
}

/// A connection's bytes, to be read and written as from any file. It blocks, under the server's
/// deadlines.
///
/// What is written is collected: it leaves before a read would block, at `flush`, when 64 KiB are
/// together, and when `handle` returns. So a question is always out before its answer is awaited.
///
/// A read ends with `Ok(0)` when the peer has finished sending, and also when the server is drained and
/// nothing has been read in this call of `handle` yet. It fails with [`io::ErrorKind::TimedOut`] after the
/// idle timeout and at the drain's deadline. A write that the peer does not take fails with `TimedOut`
/// after the write timeout.
///
/// ```
/// use std::io::{self, BufRead, Read, Write};
/// use switchboard::{Next, Stream, StreamHandler, testing};
///
/// struct Desk;
///
/// impl StreamHandler for Desk {
///     fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
///         let mut line = String::new();
///         Read::by_ref(stream).take(1024).read_line(&mut line)?;
///         if line.is_empty() || stream.is_draining() || stream.peer_gone() {
///             return Ok(Next::Close);
///         }
///         let (peer, id) = (stream.peer().clone(), stream.id());
///         match line.trim_end() {
///             "address" => write!(stream, "{peer}")?,
///             "number" => write!(stream, "{id}")?,
///             "elsewhere" => {
///                 stream.remote().send("sent by a remote").map_err(io::Error::other)?;
///             }
///             _ => write!(stream, "what?")?,
///         }
///         Ok(Next::Continue)
///     }
/// }
///
/// let mut client = testing::converse(Desk);
/// client.send("address\n");
/// assert_eq!(client.received(), client.address().to_string().as_str());
/// client.send("elsewhere\n");
/// assert_eq!(client.received(), "sent by a remote");
/// ```
pub struct Stream<'a> {
    duplex: &'a mut dyn Duplex,
    line: &'a Arc<Line>,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(duplex: &'a mut dyn Duplex, line: &'a Arc<Line>) -> Self {
        Self { duplex, line }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.line.peer
    }

    /// The number of this connection.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.line.id
    }

    /// A handle to this peer that any thread may keep and send with. Its messages are not framed.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote::new(self.line.clone())
    }

    /// Whether the server is being drained: finish the conversation.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.duplex.is_draining()
    }

    /// Whether the peer is gone for good: it reset the connection, or both sides are closed.
    #[must_use]
    pub fn peer_gone(&self) -> bool {
        self.duplex.peer_gone()
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let there = self.duplex.fill()?;
        let taken = there.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&there[..taken]);
        self.duplex.consume(taken);
        Ok(taken)
    }
}

impl BufRead for Stream<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.duplex.fill()
    }

    fn consume(&mut self, bytes: usize) {
        self.duplex.consume(bytes);
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.duplex.write(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.duplex.flush()
    }
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id()).field("peer", self.peer()).finish()
    }
}
