//! Who the reference server talks with.
use std::os::fd::OwnedFd;

use rustix::net::SocketAddrAny;

/// Who sent a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// A connection: its place, and a number that no other connection ever had.
    Connection(usize, u64),
    /// An address, at this listener.
    Address(usize, SocketAddrAny),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) fd: OwnedFd,
    pub(super) number: u64,
    pub(super) received: Vec<u8>,
    pub(super) unsent: Vec<u8>,
    /// To be closed when all is sent.
    pub(super) closing: bool,
}
