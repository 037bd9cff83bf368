//! Why a connection or session ended: one reason each.

use std::fmt;

use crate::fault::Fault;

/// Why a connection, or a session of datagrams, ended. Every one ends for exactly one of these.
///
/// Those that a later feature brings are named already, so that a `match` on them stays true.
///
/// ```
/// use switchboard::{CloseReason, Fault, Next, handler_fn, testing};
///
/// let mut client = testing::connect(handler_fn(|_message, _cx| {
///     Err(std::io::Error::other("the disk is full"))
/// }));
/// client.send("hello");
/// let reason = client.close_reason().expect("an error ends a connection");
/// assert_eq!(reason, CloseReason::HandlerErr("the disk is full".to_owned()));
/// assert_eq!(reason.to_string(), "handler-err: the disk is full");
/// assert_eq!((reason.name(), reason.fault()), ("handler-err", Some(Fault::Handler)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The handler said so (`Next::Close`, `Next::StopServer`).
    Done,
    /// The peer closed its side, between two messages.
    PeerEof,
    /// The peer reset the connection, or cannot be reached any more.
    PeerReset,
    /// No byte of the peer for the idle timeout.
    IdleTimeout,
    /// The peer took longer than the message timeout to send one message whole.
    SlowRead,
    /// The peer took none of the bytes that waited for it for the write timeout.
    SlowWrite,
    /// A handler ran longer than it may.
    HandlerDeadline,
    /// A message was longer than the framing allows.
    FrameTooLarge,
    /// The bytes were no message: a negative length, FIN in the middle of one, or whatever a codec of
    /// one's own refuses.
    BadFrame,
    /// A callback of the handler panicked, or a codec of one's own.
    HandlerPanic,
    /// A callback of the handler returned an error: its text.
    HandlerErr(String),
    /// The server had no room for another connection.
    MaxConns,
    /// Its source had as many connections as one source may have.
    PerSource,
    /// Its source opened connections faster than it may.
    Rate,
    /// The server was drained.
    Draining,
    /// The drain's deadline had passed.
    Forced,
    /// The handshake took too long.
    TlsTimeout,
    /// The handshake failed.
    TlsError,
    /// The PROXY header was missing or wrong.
    BadProxyHeader,
    /// The operating system reported this error number on the socket.
    Io(i32),
    /// It made room: for a newer connection, or in the table of sessions.
    Evicted,
    /// It had reached the greatest age a connection may have.
    MaxAge,
    /// A filter did not let it in.
    Filtered,
    /// More bytes waited for the peer than may wait (`Overflow::Disconnect`).
    Overflow,
    /// Not the connection but its handler ended: another one took over (`Next::Switch`).
    Switched,
    /// The handler reset the connection (`Next::Abort`).
    Aborted,
}

impl CloseReason {
    /// How many kinds there are: the size of a table by [`CloseReason::kind`].
    pub(crate) const KINDS: usize = Self::NAMES.len();

    const NAMES: [&str; 26] = [
        "done",
        "peer-eof",
        "peer-reset",
        "idle-timeout",
        "slow-read",
        "slow-write",
        "handler-deadline",
        "frame-too-large",
        "bad-frame",
        "handler-panic",
        "handler-err",
        "max-conns",
        "per-source",
        "rate",
        "draining",
        "forced",
        "tls-timeout",
        "tls-error",
        "bad-proxy-header",
        "io",
        "evicted",
        "max-age",
        "filtered",
        "overflow",
        "switched",
        "aborted",
    ];

    /// Its place in a table by kind.
    pub(crate) const fn kind(&self) -> usize {
        match self {
            Self::Done => 0,
            Self::PeerEof => 1,
            Self::PeerReset => 2,
            Self::IdleTimeout => 3,
            Self::SlowRead => 4,
            Self::SlowWrite => 5,
            Self::HandlerDeadline => 6,
            Self::FrameTooLarge => 7,
            Self::BadFrame => 8,
            Self::HandlerPanic => 9,
            Self::HandlerErr(_) => 10,
            Self::MaxConns => 11,
            Self::PerSource => 12,
            Self::Rate => 13,
            Self::Draining => 14,
            Self::Forced => 15,
            Self::TlsTimeout => 16,
            Self::TlsError => 17,
            Self::BadProxyHeader => 18,
            Self::Io(_) => 19,
            Self::Evicted => 20,
            Self::MaxAge => 21,
            Self::Filtered => 22,
            Self::Overflow => 23,
            Self::Switched => 24,
            Self::Aborted => 25,
        }
    }

    /// Its kind in one word, as counters and logs name it: `idle-timeout`.
    ///
    /// ```
    /// assert_eq!(switchboard::CloseReason::IdleTimeout.name(), "idle-timeout");
    /// ```
    #[must_use]
    pub const fn name(&self) -> &'static str {
        Self::NAMES[self.kind()]
    }

    /// Whose fault it is; `None` for an end that is in order.
    ///
    /// ```
    /// use switchboard::{CloseReason, Fault};
    ///
    /// assert_eq!(CloseReason::PeerEof.fault(), None);
    /// assert_eq!(CloseReason::SlowWrite.fault(), Some(Fault::Peer));
    /// assert_eq!(CloseReason::HandlerPanic.fault(), Some(Fault::Handler));
    /// ```
    #[must_use]
    pub const fn fault(&self) -> Option<Fault> {
        match self {
            Self::Done
            | Self::PeerEof
            | Self::IdleTimeout
            | Self::Draining
            | Self::MaxAge
            | Self::Switched
            | Self::Aborted => None,
            Self::PeerReset
            | Self::SlowRead
            | Self::SlowWrite
            | Self::FrameTooLarge
            | Self::BadFrame
            | Self::PerSource
            | Self::Rate
            | Self::TlsTimeout
            | Self::TlsError
            | Self::BadProxyHeader
            | Self::Filtered
            | Self::Overflow => Some(Fault::Peer),
            Self::HandlerDeadline | Self::HandlerPanic | Self::HandlerErr(_) => {
                Some(Fault::Handler)
            }
            Self::MaxConns | Self::Forced | Self::Evicted => Some(Fault::Server),
            Self::Io(_) => Some(Fault::System),
        }
    }

    pub(crate) const fn name_of_kind(kind: usize) -> &'static str {
        Self::NAMES[kind]
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::HandlerErr(text) => write!(f, ": {text}"),
            Self::Io(errno) => write!(f, ": {}", std::io::Error::from_raw_os_error(*errno)),
            _ => Ok(()),
        }
    }
}
