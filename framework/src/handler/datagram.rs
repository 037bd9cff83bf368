//! The contract for raw datagrams: no state for a peer, several at a time.

use std::fmt;
use std::io;

use crate::peer::{Address, Peer};
use crate::sys::datagrams::SendBatch;

/// Serves datagrams one by one, without a session for each peer.
///
/// One value serves everybody, by several workers at a time; its state is what it locks itself.
///
/// # Not guaranteed
/// Order: while a call blocks, the next datagram, also one of the same peer, is handled by another
/// worker. A [`Handler`](crate::Handler) over UDP keeps the order of each peer.
///
/// ```
/// use std::io;
/// use switchboard::{Datagram, DatagramHandler, Replies, Server};
///
/// /// Says how long each datagram was.
/// struct Lengths;
///
/// impl DatagramHandler for Lengths {
///     fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()> {
///         replies.send(datagram.bytes().len().to_string());
///         Ok(())
///     }
/// }
///
/// let server = Server::datagrams(Lengths).udp("127.0.0.1:0");
/// # let _ = server;
/// ```
pub trait DatagramHandler: Send + Sync + 'static {
    /// One datagram; it may be empty. May block.
    ///
    /// # Errors
    /// An error is counted and logged, and replies that have not left yet are dropped; the server goes
    /// on.
    fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()>;
}

/// One datagram and where it came from.
///
/// ```
/// use std::io;
/// use switchboard::testing::MemoryServer;
/// use switchboard::{Datagram, DatagramHandler, Replies, Server};
///
/// struct Describes;
///
/// impl DatagramHandler for Describes {
///     fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()> {
///         let cut = if datagram.is_truncated() { ", cut off" } else { "" };
///         replies.send(format!("{}: {} bytes{cut}", datagram.peer(), datagram.bytes().len()));
///         Ok(())
///     }
/// }
///
/// let server = Server::datagrams(Describes).udp("127.0.0.1:0").max_datagram(4);
/// let mut client = MemoryServer::new(server).correspond();
/// let address = client.address().to_string();
/// assert_eq!(client.ask("abc"), format!("{address}: 3 bytes").as_str());
/// assert_eq!(client.ask("abcdef"), format!("{address}: 4 bytes, cut off").as_str());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    bytes: &'a [u8],
    peer: &'a Peer,
    truncated: bool,
}

impl<'a> Datagram<'a> {
    pub(crate) fn new(bytes: &'a [u8], peer: &'a Peer, truncated: bool) -> Self {
        Self { bytes, peer, truncated }
    }

    /// Its bytes; there may be none.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Who sent it, and to which of our addresses.
    #[must_use]
    pub const fn peer(&self) -> &'a Peer {
        self.peer
    }

    /// Whether it was longer than `max_datagram`: then its end is missing.
    #[must_use]
    pub const fn is_truncated(&self) -> bool {
        self.truncated
    }
}

/// Collects the answers to one datagram. They leave when the handler has returned, together with those
/// to other peers, or when 32 of them or 64 KiB are together.
///
/// ```
/// use std::io;
/// use std::sync::Mutex;
/// use switchboard::testing::MemoryServer;
/// use switchboard::{Address, Datagram, DatagramHandler, Replies, Server};
///
/// /// Passes on what each one sends to whoever sent before.
/// struct PassesOn(Mutex<Option<Address>>);
///
/// impl DatagramHandler for PassesOn {
///     fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()> {
///         let sender = datagram.peer().address().clone();
///         let earlier = self.0.lock().unwrap().replace(sender);
///         if let Some(earlier) = earlier {
///             replies.send_to(&earlier, datagram.bytes());
///         }
///         replies.send("passed on");
///         Ok(())
///     }
/// }
///
/// let server = Server::datagrams(PassesOn(Mutex::new(None))).udp("127.0.0.1:0");
/// let server = MemoryServer::new(server);
/// let (mut ada, mut bob) = (server.correspond(), server.correspond());
/// assert_eq!(ada.ask("hello"), "passed on");
/// assert_eq!(bob.ask("hello, ada"), "passed on");
/// assert_eq!(ada.replies(), ["hello, ada"]);
/// ```
pub struct Replies<'a> {
    peer: &'a Peer,
    collected: &'a mut SendBatch,
    send: &'a dyn Fn(&mut SendBatch),
}

impl<'a> Replies<'a> {
    pub(crate) fn new(
        peer: &'a Peer,
        collected: &'a mut SendBatch,
        send: &'a dyn Fn(&mut SendBatch),
    ) -> Self {
        Self { peer, collected, send }
    }

    /// Answers the sender with one datagram, from the address that it asked. An empty one is sent as
    /// well.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.send_to(self.peer.address(), bytes);
    }

    /// Sends one datagram to anybody who can be reached from this socket. (What cannot be sent is
    /// counted: `Stats::replies_failed`.)
    pub fn send_to(&mut self, peer: &Address, bytes: impl AsRef<[u8]>) {
        self.collected.push(bytes.as_ref(), peer, self.peer.reached());
        if self.collected.is_full() {
            (self.send)(self.collected);
        }
    }
}

impl fmt::Debug for Replies<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("collected", &self.collected.len()).finish()
    }
}
