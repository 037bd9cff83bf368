//! The contract: all that a user of the framework implements, and reads.

mod actor;
mod call;
mod context;
mod datagram;
mod factory;
mod stream;

pub use context::Context;
pub use datagram::{Datagram, DatagramHandler, Replies};
pub use stream::{Stream, StreamHandler};

pub(crate) use actor::{Actor, Factory};
pub(crate) use call::{Step, discard, isolated, outcome};
pub(crate) use context::{Blocking, Host, Sink};
pub(crate) use factory::{Factories, Replaceable};
pub(crate) use stream::Duplex;

use std::fmt;
use std::io;
use std::time::Duration;

use crate::codec::FrameError;
use crate::reason::CloseReason;

/// Serves one peer: a connection, or whoever sends datagrams from one address.
///
/// The factory given to [`Server::new`](crate::Server::new) makes one value for each peer; its fields are
/// the session's state. The code is plain and may block: another worker goes on with the other peers.
///
/// # The life of a connection
/// 1. It is accepted and admitted: it holds one of `max_connections` until it has ended. Whoever comes
///    beyond waits in the kernel's queue; while the server is [suspended](crate::ServerHandle::suspend)
///    newcomers are refused, and whoever is here goes on. Observers are told
///    ([`Event::ConnectionOpened`](crate::Event::ConnectionOpened)).
/// 2. The [filter](crate::Server::filter) looks at the peer, on a worker. Whoever it turns away reads the
///    whole text, if there is one, and has no handler.
/// 3. The factory makes the handler, and [`setup`](Handler::setup) runs, once. The server may speak first
///    here, and the peer may join a [`Group`](crate::Group).
/// 4. Between messages the connection is parked: it costs a slot and no thread. What a
///    [`Remote`](crate::Remote) or a group sends leaves meanwhile, without a callback.
/// 5. When a message is complete, [`handle`](Handler::handle) gets it, on any worker, never on two at a
///    time. Replies are collected and leave together when the turn ends.
/// 6. What may happen instead: nothing arrives for the idle timeout ([`idle`](Handler::idle)); bytes that
///    are no message ([`rejected`](Handler::rejected)); the peer has finished sending
///    ([`half_closed`](Handler::half_closed)); the server is drained ([`draining`](Handler::draining)).
/// 7. Each callback returns a [`Next`], which says how it goes on. An `Err` or a panic ends this
///    connection and no other.
/// 8. At the end everything sent is flushed, within the write timeout, and the socket is closed so that
///    the peer can read all of it. No remote sends to it any more, and it has left its groups.
/// 9. [`finish`](Handler::finish) is told the one reason, exactly once, if `setup` returned `Ok`. Then
///    observers are ([`Event::ConnectionClosed`](crate::Event::ConnectionClosed), also of those without a
///    handler), and the next one in the queue may come in.
///
/// # The life of a session
/// Over datagrams a *session* takes the place of the connection.
/// 1. The first datagram of an address begins it, if it is not from a service port, the server is not
///    suspended and the table has room; a full one evicts whom it has not heard for longest
///    ([`CloseReason::Evicted`]).
/// 2. The filter, the factory and `setup` as above. Whoever is turned away gets the text as a datagram;
///    what it sent is dropped.
/// 3. Every datagram is a message, also an empty one; one that did not fit is
///    [`rejected`](Handler::rejected). Datagrams of one peer are handled in order. While its handler runs
///    up to 256 of them, or 1 MiB, wait for it; more are dropped, and counted.
/// 4. It ends when a callback says so, after the idle timeout, when it makes room for another one, or with
///    the server. `finish` is told why. The next datagram of the address begins a new session: nothing
///    tells a peer that its session has ended.
///
/// # Examples
/// ```
/// use std::io;
/// use switchboard::{Context, Handler, Next, Server};
///
/// /// Counts what its peer has sent.
/// struct Counter {
///     messages: u64,
/// }
///
/// impl Handler for Counter {
///     fn handle(&mut self, _message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
///         self.messages += 1;
///         cx.send(self.messages.to_string());
///         Ok(Next::Continue)
///     }
/// }
///
/// let server = Server::new(|_peer| Counter { messages: 0 }).tcp("127.0.0.1:0").udp("127.0.0.1:0");
/// # let _ = server;
/// ```
///
/// Every callback, played in memory:
///
/// ```
/// use std::io;
/// use std::sync::mpsc::SyncSender;
/// use std::time::Duration;
/// use switchboard::testing::MemoryServer;
/// use switchboard::{CloseReason, Context, FrameError, Framing, Handler, Next, Server};
///
/// struct Polite {
///     ends: SyncSender<&'static str>,
/// }
///
/// impl Handler for Polite {
///     fn setup(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
///         cx.send("welcome");
///         Ok(Next::Continue)
///     }
///     fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
///         cx.send(message);
///         Ok(Next::Continue)
///     }
///     fn idle(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
///         cx.send("you are silent");
///         Ok(Next::Close)
///     }
///     fn rejected(&mut self, _why: &FrameError, cx: &mut Context<'_>) -> io::Result<Next> {
///         // Short: `max_frame` bounds what is sent as well.
///         cx.send("that was no message");
///         Ok(Next::Close)
///     }
///     fn half_closed(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
///         cx.send("that was all?");
///         Ok(Next::Close)
///     }
///     fn draining(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
///         cx.send("we are closing");
///         Ok(Next::Close)
///     }
///     fn finish(&mut self, reason: &CloseReason) {
///         let _ = self.ends.try_send(reason.name());
///     }
/// }
///
/// let (ends, ended) = std::sync::mpsc::sync_channel(100);
/// let server = Server::new(move |_peer| Polite { ends: ends.clone() });
/// let server = MemoryServer::new(server.framing(Framing::lines().max_frame(80)));
///
/// let mut client = server.connect();
/// client.say("hello");
/// client.advance(Duration::from_secs(300));
/// assert_eq!(client.replies(), ["welcome", "hello", "you are silent"]);
///
/// let mut client = server.connect();
/// client.send([b'x'; 100]);
/// assert_eq!(client.replies(), ["welcome", "that was no message"]);
///
/// let mut client = server.connect();
/// client.half_close();
/// assert_eq!(client.replies(), ["welcome", "that was all?"]);
///
/// let mut client = server.connect();
/// server.drain(Duration::from_secs(5));
/// assert_eq!(client.replies(), ["welcome", "we are closing"]);
///
/// let ended: Vec<&str> = ended.try_iter().collect();
/// assert_eq!(ended, ["idle-timeout", "frame-too-large", "peer-eof", "draining"]);
/// ```
///
/// # Not guaranteed
/// Which thread runs a callback: it may be another one each time. Values that do not leave their thread
/// belong into the callback, not into the handler.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Handler`",
    note = "a closure becomes one by `handler_fn(|message, cx| ...)`; a type implements `Handler`"
)]
pub trait Handler: Send + 'static {
    /// The peer is there; nothing of it has been read. What is sent here arrives first.
    ///
    /// # Errors
    /// An error ends the connection; [`finish`](Handler::finish) is not called then.
    fn setup(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        let _ = cx;
        Ok(Next::Continue)
    }

    /// One message: a frame on a stream, a datagram otherwise. May block.
    ///
    /// `message` is borrowed from the worker's buffer: copy what must outlive the call.
    ///
    /// # Errors
    /// An error ends the connection.
    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next>;

    /// No byte of the peer has arrived for the idle timeout. `Continue` waits as long again.
    ///
    /// # Errors
    /// An error ends the connection.
    fn idle(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        let _ = cx;
        Ok(Next::Close)
    }

    /// Bytes arrived that are no message, or a datagram that did not fit the buffer.
    ///
    /// The connection ends after this, whatever is returned, unless `why` says that the stream goes on:
    /// an over-long message under `skip_overlong`, what a codec of one's own skips, or a truncated
    /// datagram. [`FrameError::is_fatal`] tells.
    ///
    /// An answer is a message like any other, so the same maximum bounds it: one that is longer ends the
    /// connection with [`CloseReason::HandlerErr`]. The text of `why` may be longer than a small maximum.
    ///
    /// # Errors
    /// An error ends the connection.
    fn rejected(&mut self, why: &FrameError, cx: &mut Context<'_>) -> io::Result<Next> {
        let _ = (why, cx);
        Ok(Next::Close)
    }

    /// The peer has finished sending, but may still receive. `Continue` keeps the connection open for
    /// what a [`Remote`](crate::Remote) sends. Never called over datagrams.
    ///
    /// # Errors
    /// An error ends the connection.
    fn half_closed(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        let _ = cx;
        Ok(Next::Close)
    }

    /// The server is drained; the socket is still open. `Continue` goes on until the drain's deadline.
    ///
    /// # Errors
    /// An error ends the connection.
    fn draining(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        let _ = cx;
        Ok(Next::Close)
    }

    /// The connection has ended, for this reason. Nothing can be sent any more.
    fn finish(&mut self, reason: &CloseReason) {
        let _ = reason;
    }
}

/// How it goes on after a callback.
///
/// | | on a stream | over datagrams |
/// |---|---|---|
/// | `Continue` | wait for the next message | the same |
/// | `Close` | flush, then close; input that is unread harms no reply | send, then end the session; the next datagram begins a new one, also one that waits already |
/// | `Abort` | reset at once; unsent replies are lost (a Unix socket knows no reset: it is closed) | end the session; what this callback has collected is not sent |
/// | `HalfClose` | flush, then finish writing; reading goes on. A reply afterwards ends the connection with `HandlerErr`, whichever callback sends it, a goodbye in `idle`, `half_closed` or `draining` too; a `Remote` is told that it is closed, and the peer is in no group any more | as `Close` |
/// | `Pause` | read nothing for so long (below) | datagrams wait, up to 256 or 1 MiB, and more are dropped; the rest is the same |
/// | `Switch` | another handler takes over, with the bytes not read yet | another handler takes over, with the datagrams that wait |
/// | `StopServer` | flush, close, and drain the server within its drain timeout | send, end the session, and drain the server likewise |
///
/// While a `Pause` lasts:
/// - [`idle`](Handler::idle) is not asked, and the silence counts anew from its end;
/// - the peer's end, be it a FIN or a reset, is noticed when it is over, or when something is sent;
/// - what a [`Remote`](crate::Remote) or a group sends leaves, under the write timeout;
/// - a drain does not wait for it: `draining` is called at once. If that returns `Continue` the pause
///   goes on, up to the drain's deadline.
///
/// More than 16 handlers that take over from one another without a message between them end the
/// connection with [`CloseReason::HandlerErr`]. After [`rejected`](Handler::rejected) of a fatal error, and
/// after an `Err` or a panic, the connection ends whatever else was wanted.
///
/// A [`StreamHandler`] returns the same, but for `Switch`, which is an error there.
///
/// ```
/// use std::time::Duration;
/// use switchboard::testing::{self, End};
/// use switchboard::{Next, handler_fn};
///
/// let handler = || {
///     handler_fn(|message, cx| {
///         cx.send("ok");
///         Ok(match message {
///             b"quit" => Next::Close,
///             b"kill" => Next::Abort,
///             b"wait" => Next::Pause(Duration::from_secs(10)),
///             b"loud" => Next::Switch(Box::new(handler_fn(|message, cx| {
///                 cx.send(message.to_ascii_uppercase());
///                 Ok(Next::Continue)
///             }))),
///             b"stop" => Next::StopServer,
///             _ => Next::Continue,
///         })
///     })
/// };
///
/// let mut client = testing::connect(handler());
/// assert_eq!(client.ask("hello"), "ok");
/// assert_eq!(client.ask("quit"), "ok");
/// assert_eq!(client.end(), End::Closed);
///
/// let mut client = testing::connect(handler());
/// client.send("kill");
/// assert_eq!((client.received().len(), client.end()), (0, End::Reset));
///
/// let mut client = testing::connect(handler());
/// assert_eq!(client.ask("wait"), "ok");
/// client.send("loud");
/// assert_eq!(client.received(), "", "nothing is read meanwhile");
/// client.advance(Duration::from_secs(10));
/// assert_eq!(client.received(), "ok");
/// assert_eq!(client.ask("hello"), "HELLO", "another handler has taken over");
/// ```
#[non_exhaustive]
pub enum Next {
    /// Park this connection; call again when there is more.
    Continue,
    /// Flush everything that was sent, then close.
    Close,
    /// Reset the connection.
    Abort,
    /// Flush, then finish writing; the peer may still send. Nothing can be sent after it: a reply of
    /// any later callback ends the connection with [`CloseReason::HandlerErr`].
    HalfClose,
    /// Read nothing for so long; what happens meanwhile is said above.
    Pause(Duration),
    /// Let another handler take over: the old one's `finish` gets [`CloseReason::Switched`], the new
    /// one's `setup` runs, and the bytes not handled yet are its first. The framing stays, and so do the
    /// groups and the number of the peer.
    Switch(Box<dyn Handler>),
    /// Close this connection, and drain the server.
    StopServer,
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => f.write_str("Continue"),
            Self::Close => f.write_str("Close"),
            Self::Abort => f.write_str("Abort"),
            Self::HalfClose => f.write_str("HalfClose"),
            Self::Pause(span) => f.debug_tuple("Pause").field(span).finish(),
            Self::Switch(_) => f.write_str("Switch(..)"),
            Self::StopServer => f.write_str("StopServer"),
        }
    }
}

/// A handler chosen at run time is a handler.
///
/// ```
/// use switchboard::{Handler, Next, Server, handler_fn};
///
/// let server = Server::new(|peer| -> Box<dyn Handler> {
///     if peer.is_datagram() {
///         Box::new(handler_fn(|_message, _cx| Ok(Next::Close)))
///     } else {
///         Box::new(handler_fn(|message, cx| {
///             cx.send(message);
///             Ok(Next::Continue)
///         }))
///     }
/// });
/// # let _ = server;
/// ```
impl Handler for Box<dyn Handler> {
    fn setup(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        (**self).setup(cx)
    }

    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        (**self).handle(message, cx)
    }

    fn idle(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        (**self).idle(cx)
    }

    fn rejected(&mut self, why: &FrameError, cx: &mut Context<'_>) -> io::Result<Next> {
        (**self).rejected(why, cx)
    }

    fn half_closed(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        (**self).half_closed(cx)
    }

    fn draining(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        (**self).draining(cx)
    }

    fn finish(&mut self, reason: &CloseReason) {
        (**self).finish(reason);
    }
}

/// Makes a closure a handler: it gets each message.
///
/// (A function, because a bare closure's argument types would have to be written out.)
///
/// ```
/// use switchboard::{Next, Server, handler_fn};
///
/// let server = Server::new(|_peer| {
///     let mut count = 0;
///     handler_fn(move |message, cx| {
///         count += 1;
///         cx.send(format!("{count}: {} bytes", message.len()));
///         Ok(Next::Continue)
///     })
/// });
/// # let _ = server;
/// ```
pub fn handler_fn<F>(handle: F) -> HandlerFn<F>
where
    F: FnMut(&[u8], &mut Context<'_>) -> io::Result<Next> + Send + 'static,
{
    HandlerFn(handle)
}

/// A closure as a handler; see [`handler_fn`].
///
/// ```
/// use switchboard::{HandlerFn, Next, handler_fn, testing};
///
/// let silent: HandlerFn<_> = handler_fn(|_message, _cx| Ok(Next::Continue));
/// let mut client = testing::connect(silent);
/// client.send("hello");
/// assert_eq!(client.received(), "");
/// ```
#[derive(Clone, Copy)]
pub struct HandlerFn<F>(F);

impl<F> Handler for HandlerFn<F>
where
    F: FnMut(&[u8], &mut Context<'_>) -> io::Result<Next> + Send + 'static,
{
    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        (self.0)(message, cx)
    }
}

impl<F> fmt::Debug for HandlerFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerFn(..)")
    }
}
