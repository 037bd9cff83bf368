//! What a client in memory does next: one step of a script.

use std::time::Duration;

/// One thing that a [`Client`](super::Client) does. A script of them is played by
/// [`Client::play`](super::Client::play).
///
/// ```
/// use std::time::Duration;
/// use switchboard::testing::{self, Step};
/// use switchboard::{Next, Stream, StreamHandler};
/// use std::io::{self, BufRead, Write};
///
/// struct Greeter;
///
/// impl StreamHandler for Greeter {
///     fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
///         let (mut first, mut last) = (String::new(), String::new());
///         stream.read_line(&mut first)?;
///         write!(stream, "and your last name? ")?;
///         stream.read_line(&mut last)?;
///         write!(stream, "hello, {} {}", first.trim(), last.trim())?;
///         Ok(Next::Close)
///     }
/// }
///
/// let mut client = testing::converse(Greeter);
/// client.play([
///     Step::send("Ada\n"),
///     Step::Wait(Duration::from_secs(20)),
///     Step::send("Lovelace\n"),
/// ]);
/// assert_eq!(client.received(), "and your last name? hello, Ada Lovelace");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// These bytes arrive, or this datagram.
    Send(Vec<u8>),
    /// The client finishes sending, and still receives.
    HalfClose,
    /// It closes, and receives no more.
    Close,
    /// It resets the connection.
    Reset,
    /// It takes so many bytes more, and then none, as one whose buffers are full.
    ReadOnly(usize),
    /// It takes whatever it is sent.
    ReadOn,
    /// So much time passes.
    Wait(Duration),
    /// Somebody begins to drain the server, with this much patience.
    Drain(Duration),
}

impl Step {
    /// These bytes arrive.
    ///
    /// ```
    /// use switchboard::testing::Step;
    ///
    /// assert_eq!(Step::send("hello"), Step::Send(b"hello".to_vec()));
    /// ```
    #[must_use]
    pub fn send(bytes: impl AsRef<[u8]>) -> Self {
        Self::Send(bytes.as_ref().to_vec())
    }
}
