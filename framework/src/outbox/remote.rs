//! A handle to one peer that any thread may keep: it sends, never blocks, and is harmless afterwards.

use std::sync::Arc;
use std::{fmt, io};

use crate::codec::{EncodeError, Framing};
use crate::fault::Fault;
use crate::outbox::{Chunk, Line};
use crate::peer::{ConnectionId, Peer};
use crate::sys::errno;

/// A handle to one peer, to send to it from anywhere: another handler, a timer, any thread.
///
/// It is made by [`Context::remote`](crate::Context::remote), is cheap to clone, never blocks, and may be
/// kept after its peer is gone: then it only says [`SendError::Closed`].
///
/// A message is written at once if nothing is pending for the peer and its handler does not run; else it
/// is queued, behind what waits already, and leaves with it. How much may wait, and what happens beyond,
/// is set by `Server::outbox_limit` and [`Overflow`](crate::Overflow). To send to many peers at once there
/// is a [`Group`](crate::Group); what waits of groups takes no room from a remote.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use switchboard::{Next, Remote, Server, handler_fn};
///
/// // Everybody hears what anybody says.
/// let everybody: Arc<Mutex<Vec<Remote>>> = Arc::default();
/// let server = Server::new(move |_peer| {
///     let everybody = everybody.clone();
///     let mut joined = false;
///     handler_fn(move |message, cx| {
///         let mut members = everybody.lock().unwrap();
///         if !std::mem::replace(&mut joined, true) {
///             members.push(cx.remote());
///         }
///         members.retain(|member| member.send(message).is_ok());
///         Ok(Next::Continue)
///     })
/// });
/// # let _ = server;
/// ```
///
/// It may be kept for as long as one likes:
///
/// ```
/// use std::sync::{Arc, mpsc};
/// use switchboard::{Next, Remote, SendError, handler_fn, testing};
///
/// let (give, take) = mpsc::sync_channel::<Remote>(1);
/// let mut client = testing::connect(handler_fn(move |_message, cx| {
///     let _ = give.try_send(cx.remote());
///     Ok(Next::Continue)
/// }));
/// client.send("hello");
/// let remote = take.try_recv()?;
/// assert_eq!(remote.peer().address(), client.address());
/// assert!(remote.is_open(), "{} is there", remote.id());
/// remote.send("good ")?;
/// remote.send_shared(&Arc::from(*b"morning"))?;
/// assert_eq!(client.received(), "good morning");
///
/// client.close();
/// assert!(!remote.is_open());
/// assert_eq!(remote.send("still there?"), Err(SendError::Closed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Remote {
    line: Arc<Line>,
}

/// Why a message was not taken. Nothing of it was sent, and it is still the caller's, who only lent it.
///
/// ```
/// use std::sync::mpsc;
/// use switchboard::testing::MemoryServer;
/// use switchboard::{Next, Overflow, Server, SendError, handler_fn};
///
/// let (give, take) = mpsc::sync_channel(1);
/// let server = Server::new(move |_peer| {
///     let give = give.clone();
///     handler_fn(move |_message, cx| {
///         let _ = give.try_send(cx.remote());
///         Ok(Next::Continue)
///     })
/// });
/// let server = server.outbox_limit(4096).overflow(Overflow::DropNewest);
/// let mut client = MemoryServer::new(server).connect();
/// client.send("hello");
/// client.stop_reading();
/// let remote = take.try_recv()?;
/// let refused = std::iter::repeat_with(|| remote.send([b'x'; 100])).take(100).find_map(Result::err);
/// assert_eq!(refused, Some(SendError::Full));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The peer is gone, or its connection is being closed.
    Closed,
    /// As much waits for the peer as may: the policy dropped this message, or ends the connection.
    Full,
    /// The framing cannot carry it.
    Unencodable(EncodeError),
    /// Over datagrams: the peer sends back what it is sent, which looks like a loop, and is broken by
    /// withholding this one. The next is taken.
    Withheld,
    /// It is longer than a datagram can be, or the system refused to send it: its error number.
    Refused(i32),
}

impl SendError {
    /// Whose fault it is.
    ///
    /// ```
    /// use switchboard::{Fault, SendError};
    ///
    /// assert_eq!(SendError::Full.fault(), Fault::Peer);
    /// ```
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            // It left, does not read what waits for it, or sends all of it back.
            Self::Closed | Self::Full | Self::Withheld => Fault::Peer,
            Self::Unencodable(why) => why.fault(),
            Self::Refused(errno::TOO_LONG) => Fault::Caller,
            Self::Refused(_) => Fault::System,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer is gone"),
            Self::Full => f.write_str("as much waits for the peer as may"),
            Self::Withheld => f.write_str("withheld: the peer sends back what it is sent"),
            Self::Unencodable(why) => fmt::Display::fmt(why, f),
            Self::Refused(errno) => {
                write!(f, "not sent: {}", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl std::error::Error for SendError {}

/// For `?` in a callback, whose errors are [`io::Error`]s. The kind says which one it was, and the error
/// itself is inside.
///
/// | | kind |
/// |---|---|
/// | `Closed` | `BrokenPipe` |
/// | `Full` | `WouldBlock` |
/// | `Unencodable` | `InvalidInput` |
/// | `Refused` | that of the error number |
///
/// ```
/// use switchboard::{Next, SendError, handler_fn, testing};
///
/// let mut client = testing::connect(handler_fn(|message, cx| {
///     cx.remote().send(message)?;
///     Ok(Next::Continue)
/// }));
/// client.send("hello");
/// assert_eq!(client.received(), "hello");
///
/// let error = std::io::Error::from(SendError::Closed);
/// assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
/// assert_eq!(error.downcast::<SendError>().ok(), Some(SendError::Closed));
/// ```
impl From<SendError> for io::Error {
    fn from(why: SendError) -> Self {
        let kind = match &why {
            SendError::Closed => io::ErrorKind::BrokenPipe,
            SendError::Full | SendError::Withheld => io::ErrorKind::WouldBlock,
            SendError::Unencodable(_) => io::ErrorKind::InvalidInput,
            SendError::Refused(errno) => Self::from_raw_os_error(*errno).kind(),
        };
        Self::new(kind, why)
    }
}

impl From<EncodeError> for SendError {
    fn from(why: EncodeError) -> Self {
        Self::Unencodable(why)
    }
}

impl Remote {
    pub(crate) fn new(line: Arc<Line>) -> Self {
        Self { line }
    }

    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// Sends one message, framed as its connection is; over datagrams, as one datagram.
    ///
    /// Ok means taken, not arrived: the peer may vanish before it reads.
    ///
    /// # Errors
    /// [`SendError`] says why it was not taken.
    ///
    /// # Panics
    /// Only if a codec of one's own ([`Codec`](crate::codec::Codec)) does: it runs on the calling
    /// thread. Nothing was sent then, and the connection goes on.
    pub fn send(&self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        let message = message.as_ref();
        let chunk = if self.line.peer.is_datagram() {
            Chunk::Framed(message.to_vec())
        } else {
            Chunk::framed(&self.line.settings.framing, message)?
        };
        self.line.send_from_elsewhere(chunk)
    }

    /// Sends a message that many peers share, without copying it for each. (A codec of one's own
    /// encodes it for each.)
    ///
    /// # Errors
    /// As [`Remote::send`].
    ///
    /// # Panics
    /// As [`Remote::send`].
    pub fn send_shared(&self, message: &Arc<[u8]>) -> Result<(), SendError> {
        let raw = Framing::raw();
        let framing = if self.line.peer.is_datagram() { &raw } else { &self.line.settings.framing };
        self.line.send_from_elsewhere(Chunk::shared(framing, message)?)
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.line.peer
    }

    /// The number of the connection or session.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.line.id
    }

    /// Whether messages are still taken. It may change right after the answer.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.line.is_open()
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("id", &self.id()).field("peer", self.peer()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_fits_nowhere_is_the_callers_fault_and_a_refusal_the_systems() {
        assert_eq!(SendError::Refused(errno::TOO_LONG).fault(), Fault::Caller);
        // ENOBUFS
        assert_eq!(SendError::Refused(105).fault(), Fault::System);
        assert_eq!(SendError::Closed.fault(), Fault::Peer);
        let unencodable = SendError::from(EncodeError::TooLong { len: 2, max: 1 });
        assert_eq!(unencodable.fault(), Fault::Caller);
    }

    #[test]
    fn as_an_error_of_a_callback_it_has_a_kind_and_says_the_same() {
        let unencodable = SendError::from(EncodeError::TooLong { len: 2, max: 1 });
        for (why, kind) in [
            (SendError::Closed, io::ErrorKind::BrokenPipe),
            (SendError::Full, io::ErrorKind::WouldBlock),
            (unencodable, io::ErrorKind::InvalidInput),
            // EPERM
            (SendError::Refused(1), io::ErrorKind::PermissionDenied),
        ] {
            let error = io::Error::from(why.clone());
            assert_eq!((error.kind(), error.to_string()), (kind, why.to_string()));
            assert_eq!(error.downcast::<SendError>().ok(), Some(why));
        }
    }
}
