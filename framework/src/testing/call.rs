//! What a handler was called with and what it returned, as a test reads and compares it.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use crate::codec::FrameError;
use crate::handler::Next;
use crate::reason::CloseReason;

/// The bytes of one message. It compares with text and with bytes. `Debug` shows all of them as text,
/// whatever they are; `Display` is the text itself, and what is none becomes `\u{fffd}`.
///
/// ```
/// use switchboard::testing::Message;
///
/// let message = Message::from(b"caf\xc3\xa9\n".to_vec());
/// assert_eq!(message, "café\n");
/// assert_eq!(message, format!("caf{}\n", 'é'));
/// assert_eq!(message, Message::from("café\n"));
/// assert_eq!(format!("{message:?}"), r#""caf\xc3\xa9\n""#);
/// assert_eq!(message.to_string(), "café\n");
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Message(Vec<u8>);

impl Message {
    /// Its bytes, to keep.
    ///
    /// ```
    /// use switchboard::testing::Message;
    ///
    /// assert_eq!(Message::from(vec![1, 2]).into_bytes(), [1, 2]);
    /// ```
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl Deref for Message {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for Message {
    fn eq(&self, text: &str) -> bool {
        self.0 == text.as_bytes()
    }
}

impl PartialEq<&str> for Message {
    fn eq(&self, text: &&str) -> bool {
        *self == **text
    }
}

impl PartialEq<String> for Message {
    fn eq(&self, text: &String) -> bool {
        *self == **text
    }
}

impl PartialEq<[u8]> for Message {
    fn eq(&self, bytes: &[u8]) -> bool {
        self.0 == bytes
    }
}

impl PartialEq<Vec<u8>> for Message {
    fn eq(&self, bytes: &Vec<u8>) -> bool {
        self.0 == *bytes
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Message {
    fn eq(&self, bytes: &&[u8; N]) -> bool {
        self.0 == **bytes
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// One call of a handler, and what came of it. It compares with its line of text, and `Debug` shows that
/// line, so that a comparison that fails can be read. [`Callback`] and [`Returned`] list all of them.
///
/// ```
/// use switchboard::{Next, handler_fn, testing};
///
/// let mut client = testing::connect(handler_fn(|_message, _cx| Ok(Next::Close)));
/// client.send("hello");
/// assert_eq!(
///     client.calls(),
///     ["setup -> Continue", "handle \"hello\" -> Close", "finish done"]
/// );
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// Which callback, with what.
    pub callback: Callback,
    /// What came of it.
    pub returned: Returned,
}

/// A callback of a handler, with what it was given. In the line of its [`Call`] it is the beginning:
///
/// | | the line begins with |
/// |---|---|
/// | `Setup` | `setup` |
/// | `Handle` | `handle "hello"`, with bytes that are not ASCII as `\xc3` |
/// | `Converse` | `handle` |
/// | `Idle` | `idle` |
/// | `Rejected` | `rejected (frame longer than the maximum of 80 bytes)`: the error's text |
/// | `HalfClosed` | `half_closed` |
/// | `Draining` | `draining` |
/// | `Finish` | `finish peer-eof`, `finish handler-err: as told`: the reason's text |
///
/// ```
/// use switchboard::testing::{self, Callback};
/// use switchboard::{Next, handler_fn};
///
/// let mut client = testing::connect(handler_fn(|_message, _cx| Ok(Next::Continue)));
/// client.send("hello");
/// let calls = client.calls();
/// assert_eq!(calls[0].callback, Callback::Setup);
/// assert!(matches!(&calls[1].callback, Callback::Handle(message) if *message == "hello"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Callback {
    /// The handler was made, and its peer is there.
    Setup,
    /// A message came.
    Handle(Message),
    /// Bytes came, and a [`StreamHandler`](crate::StreamHandler) converses.
    Converse,
    /// Nothing came for the idle timeout.
    Idle,
    /// What came was no message.
    Rejected(FrameError),
    /// The peer has finished sending.
    HalfClosed,
    /// The server is drained.
    Draining,
    /// It has ended, for this reason.
    Finish(CloseReason),
}

/// What came of a call: what a callback returned, as far as it can be compared. In the line of its
/// [`Call`] it is the end:
///
/// | | the line ends with |
/// |---|---|
/// | `Continue`, `Close`, `Abort`, `HalfClose`, `Switch`, `StopServer` | ` -> Continue` and so on |
/// | `Pause` | ` -> Pause(10s)` |
/// | `Nothing` | nothing: `finish done` is the whole line |
/// | `Error` | ` -> Error: as told` |
/// | `Panic` | ` -> Panic` |
///
/// ```
/// use switchboard::testing::{self, Returned};
/// use switchboard::{Next, handler_fn};
///
/// let mut client = testing::connect(handler_fn(|message, _cx| match message {
///     b"fail" => Err(std::io::Error::other("as told")),
///     _ => Ok(Next::Continue),
/// }));
/// client.send("hello");
/// client.send("fail");
/// assert_eq!(client.calls()[1].returned, Returned::Continue);
/// assert_eq!(client.calls()[2].returned, Returned::Error("as told".to_owned()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Returned {
    /// `Next::Continue`.
    Continue,
    /// `Next::Close`.
    Close,
    /// `Next::Abort`.
    Abort,
    /// `Next::HalfClose`.
    HalfClose,
    /// `Next::Pause`, for so long.
    Pause(Duration),
    /// `Next::Switch`: the calls that follow are those of the new handler, but for the old one's `finish`.
    Switch,
    /// `Next::StopServer`.
    StopServer,
    /// Nothing: `finish`, and a [`DatagramHandler`](crate::DatagramHandler), have nothing to say.
    Nothing,
    /// An error: its text.
    Error(String),
    /// It panicked.
    Panic,
}

impl Returned {
    pub(super) fn of(returned: &std::io::Result<Next>) -> Self {
        match returned {
            Ok(Next::Continue) => Self::Continue,
            Ok(Next::Close) => Self::Close,
            Ok(Next::Abort) => Self::Abort,
            Ok(Next::HalfClose) => Self::HalfClose,
            Ok(Next::Pause(span)) => Self::Pause(*span),
            Ok(Next::Switch(_)) => Self::Switch,
            Ok(Next::StopServer) => Self::StopServer,
            Err(error) => Self::Error(error.to_string()),
        }
    }
}

/// Its line, quoted as the text that it is compared with.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// One line: `handle "hello" -> Continue`, `finish peer-eof`.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.callback {
            Callback::Setup => f.write_str("setup")?,
            Callback::Handle(message) => write!(f, "handle {message:?}")?,
            Callback::Converse => f.write_str("handle")?,
            Callback::Idle => f.write_str("idle")?,
            Callback::Rejected(why) => write!(f, "rejected ({why})")?,
            Callback::HalfClosed => f.write_str("half_closed")?,
            Callback::Draining => f.write_str("draining")?,
            Callback::Finish(reason) => write!(f, "finish {reason}")?,
        }
        match &self.returned {
            Returned::Nothing => Ok(()),
            Returned::Error(text) => write!(f, " -> Error: {text}"),
            other => write!(f, " -> {other:?}"),
        }
    }
}

impl PartialEq<str> for Call {
    fn eq(&self, line: &str) -> bool {
        let own = self.to_string();
        own == line
    }
}

impl PartialEq<&str> for Call {
    fn eq(&self, line: &&str) -> bool {
        *self == **line
    }
}

/// Calls, as a person reads them.
pub(super) struct Lines<'a>(pub(super) &'a [Call]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("; "))
    }
}
