//! Who is let in: a filter looks at each peer before a handler is made for it.

use std::sync::Arc;

use crate::peer::Peer;

/// What a filter says of a peer; see [`Server::filter`](crate::Server::filter).
///
/// | | a connection | a session of datagrams |
/// |---|---|---|
/// | `Accept` | is served | begins |
/// | `Reject` | is closed | does not begin; the datagram is dropped, and counted |
/// | `RejectWith` | gets these bytes, always whole, and is closed | gets these bytes as a datagram |
///
/// ```
/// use switchboard::{Next, Server, Verdict, handler_fn};
///
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)))
///     .filter(|peer| match peer.ip() {
///         Some(ip) if ip.is_loopback() => Verdict::Accept,
///         _ => Verdict::reject_with("only from this machine\n"),
///     });
/// # let _ = server;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Let it in.
    Accept,
    /// Turn it away without a word.
    Reject,
    /// Turn it away with these bytes, as they are: no framing is put around them.
    /// [`Verdict::reject_with`] makes one of any bytes or text.
    RejectWith(Arc<[u8]>),
}

impl Verdict {
    /// Turns a peer away with these bytes.
    #[must_use]
    pub fn reject_with(bytes: impl AsRef<[u8]>) -> Self {
        Self::RejectWith(bytes.as_ref().into())
    }
}

/// A filter as the server keeps it.
pub(crate) type Filter = Arc<dyn Fn(&Peer) -> Verdict + Send + Sync>;
