//! The front doors: a TCP or a UDP server with all defaults, in the words of other frameworks.

use std::fmt;
use std::net::ToSocketAddrs;

use crate::error::Result;
use crate::handler::Handler;
use crate::peer::Peer;
use crate::server::{BoundServer, Server};

/// The front door to a TCP server, in the words of other frameworks.
///
/// ```
/// use switchboard::{Next, TcpServer, handler_fn};
///
/// let server = TcpServer::bind("127.0.0.1:0", |_peer| handler_fn(|_message, _cx| Ok(Next::Close)))?;
/// assert_eq!(server.addresses().len(), 1);
/// # Ok::<(), switchboard::Error>(())
/// ```
#[derive(Debug)]
pub struct TcpServer;

impl TcpServer {
    /// A bound server on one TCP address, with all defaults.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn bind<F, H>(addr: impl ToSocketAddrs + fmt::Display, factory: F) -> Result<BoundServer>
    where
        F: Fn(&Peer) -> H + Send + Sync + 'static,
        H: Handler,
    {
        Server::new(factory).tcp(addr).bind()
    }
}

/// The front door to a UDP server, in the words of other frameworks.
///
/// ```
/// use switchboard::{Next, UdpServer, handler_fn};
///
/// let server = UdpServer::bind("127.0.0.1:0", |_peer| handler_fn(|_message, _cx| Ok(Next::Close)))?;
/// assert_eq!(server.addresses().len(), 1);
/// # Ok::<(), switchboard::Error>(())
/// ```
#[derive(Debug)]
pub struct UdpServer;

impl UdpServer {
    /// A bound server on one UDP address, with all defaults.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn bind<F, H>(addr: impl ToSocketAddrs + fmt::Display, factory: F) -> Result<BoundServer>
    where
        F: Fn(&Peer) -> H + Send + Sync + 'static,
        H: Handler,
    {
        Server::new(factory).udp(addr).bind()
    }
}
