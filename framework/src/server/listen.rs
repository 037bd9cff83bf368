//! What a server listens on: an address or a socket, and what differs from one listener to the next.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use crate::codec::Framing;
use crate::filter::{Filter, Verdict};
use crate::handler::{DatagramHandler, Handler, StreamHandler};
use crate::peer::{Peer, UnixName};
use crate::server::services::Services;
use crate::sys::listener::{Configure, Shared};
use crate::sys::{BorrowedFd, OwnedFd, UnixDatagram, UnixListener};

/// What a server is to listen on, and how.
///
/// [`Server::tcp`](crate::Server::tcp) and its likes say the same in fewer words where an address is
/// enough. A listener or datagram socket of the standard library is taken over as it is: it converts into
/// a `Listen`.
///
/// ```
/// use std::net::TcpListener;
/// use switchboard::{Framing, Listen, Next, Server, handler_fn};
///
/// let own = TcpListener::bind("127.0.0.1:0")?;
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)))
///     .listen(Listen::tcp("[::]:0").dual_stack(true).framing(Framing::lines()))
///     .listen(Listen::udp("127.0.0.1:0"))
///     .listen(own);
/// assert_eq!(server.bind()?.addresses().len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a listener is opened by the server that it is given to"]
pub struct Listen {
    pub(super) source: Source,
    pub(super) how: How,
}

/// What may differ from one listener to the next.
pub(super) struct How {
    /// As the listener was written, for messages.
    pub(super) name: String,
    pub(super) dual_stack: bool,
    pub(super) mode: Option<u32>,
    /// How many sockets share the port.
    pub(super) sockets: usize,
    pub(super) shared: Shared,
    pub(super) framing: Option<Framing>,
    pub(super) services: Option<Services>,
    pub(super) filter: Option<Filter>,
    pub(super) configure: Option<Arc<Configure>>,
}

/// Where a listener comes from.
#[derive(Debug)]
pub(super) enum Source {
    Tcp(io::Result<Vec<SocketAddr>>),
    Udp(io::Result<Vec<SocketAddr>>),
    Unix(UnixName),
    UnixGram(UnixName),
    /// A listening socket that the program made.
    Streams(OwnedFd),
    /// A datagram socket that the program made.
    Datagrams(OwnedFd),
}

impl Source {
    pub(super) fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp(_) | Self::UnixGram(_) | Self::Datagrams(_))
    }
}

impl Listen {
    /// A TCP listener. Port 0 takes any free port. A name that has several addresses is bound to the
    /// first one that is free.
    pub fn tcp(addr: impl ToSocketAddrs + fmt::Display) -> Self {
        let addrs = addr.to_socket_addrs().map(Iterator::collect);
        Self::new(Source::Tcp(addrs), format!("tcp://{addr}"))
    }

    /// A UDP socket.
    pub fn udp(addr: impl ToSocketAddrs + fmt::Display) -> Self {
        let addrs = addr.to_socket_addrs().map(Iterator::collect);
        Self::new(Source::Udp(addrs), format!("udp://{addr}"))
    }

    /// A Unix stream listener: a path of at most 107 bytes, or an abstract name if it begins with `@`.
    ///
    /// A file that a dead server left at the path is replaced. A live server's is not, nor anything that
    /// is no socket: that is an error. The file is taken away when the server stops, unless it is
    /// somebody else's by then.
    ///
    /// ```
    /// use switchboard::{Listen, Next, Server, handler_fn};
    ///
    /// let path = std::env::temp_dir().join(format!("doc-{}.sock", std::process::id()));
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Close)))
    ///     .listen(Listen::unix(&path).mode(0o600))
    ///     .bind()?;
    /// assert!(path.exists());
    /// drop(server);
    /// assert!(!path.exists());
    /// # Ok::<(), switchboard::Error>(())
    /// ```
    pub fn unix(name: impl AsRef<Path>) -> Self {
        let name = UnixName::new(name);
        let written = format!("unix:{name}");
        Self::new(Source::Unix(name), written)
    }

    /// A Unix datagram socket; the path is treated as [`Listen::unix`] does.
    ///
    /// Peers are told apart by the name that their own socket is bound to. One without a name can send,
    /// but not be answered, and each of its datagrams begins a session of its own.
    ///
    /// What peers leave unread is charged to the server's own send buffer (4 MiB are asked for, and the
    /// system may grant less). Once that is full nobody is answered until some of it is read or its reader
    /// is gone, and of a peer that is connected to the server nothing else limits how much that may be: let
    /// nobody to the socket who is not trusted that far (see [`mode`](Self::mode)).
    ///
    /// ```
    /// use switchboard::{Listen, Next, Server, handler_fn};
    ///
    /// let name = format!("@doc-{}", std::process::id());
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Close)))
    ///     .listen(Listen::unixgram(&name))
    ///     .bind()?;
    /// assert_eq!(server.addresses()[0].to_string(), format!("unixgram:{name}"));
    /// # Ok::<(), switchboard::Error>(())
    /// ```
    pub fn unixgram(name: impl AsRef<Path>) -> Self {
        let name = UnixName::new(name);
        let written = format!("unixgram:{name}");
        Self::new(Source::UnixGram(name), written)
    }

    fn new(source: Source, name: String) -> Self {
        let how = How {
            name,
            dual_stack: false,
            mode: None,
            sockets: 1,
            shared: Shared::default(),
            framing: None,
            services: None,
            filter: None,
            configure: None,
        };
        Self { source, how }
    }

    /// Whether an IPv6 listener of all addresses, `[::]`, serves IPv4 as well. Default: it does not,
    /// whatever the system's default is, so that `0.0.0.0` can be bound beside it.
    pub fn dual_stack(mut self, dual_stack: bool) -> Self {
        self.how.dual_stack = dual_stack;
        self
    }

    /// The permissions of a Unix socket's file, such as `0o660`; default: as the umask says. The file is
    /// at no time open to more than these. Without effect elsewhere.
    ///
    /// ```
    /// use switchboard::Listen;
    ///
    /// let ours_alone = Listen::unix("/run/echo.sock").mode(0o600);
    /// # let _ = ours_alone;
    /// ```
    pub fn mode(mut self, mode: u32) -> Self {
        self.how.mode = Some(mode);
        self
    }

    /// Opens so many sockets (at least 1, at most 64) on the same port, with SO_REUSEPORT, and the kernel
    /// spreads clients over them. It is for scaling only: another process of the same user could join the
    /// port. Not for Unix sockets, nor for sockets that were taken over.
    ///
    /// ```
    /// use switchboard::{Listen, Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Close)))
    ///     .listen(Listen::tcp("127.0.0.1:0").reuse_port(4))
    ///     .bind()?;
    /// assert_eq!(server.addresses().len(), 1, "one address, whatever is behind it");
    /// # Ok::<(), switchboard::Error>(())
    /// ```
    pub fn reuse_port(mut self, sockets: usize) -> Self {
        self.how.sockets = sockets;
        self
    }

    /// Says that another process holds the socket that was taken over as well, be it a supervisor or a
    /// successor: a drain then leaves whoever is queued to that one, instead of serving them first.
    ///
    /// ```
    /// use std::net::TcpListener;
    /// use switchboard::Listen;
    ///
    /// let inherited = TcpListener::bind("127.0.0.1:0")?;
    /// let listen = Listen::from(inherited).shared_with_others();
    /// # let _ = listen;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shared_with_others(mut self) -> Self {
        self.how.shared = Shared::WithOthers;
        self
    }

    /// Does something to the socket once it is bound and before anybody is heard on it; an error ends the
    /// start. Accepted connections inherit what is set here. (`socket2::SockRef` knows most options.)
    ///
    /// ```
    /// use std::os::fd::AsRawFd;
    /// use switchboard::Listen;
    ///
    /// let listen = Listen::tcp("127.0.0.1:0").configure(|socket| {
    ///     println!("bound descriptor {}", socket.as_raw_fd());
    ///     Ok(())
    /// });
    /// # let _ = listen;
    /// ```
    pub fn configure(
        mut self,
        configure: impl Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.how.configure = Some(Arc::new(configure));
        self
    }

    /// How messages are cut out of the streams of this listener; default: as the server says. Without
    /// effect on datagrams, which are messages as they are.
    pub fn framing(mut self, framing: Framing) -> Self {
        self.how.framing = Some(framing);
        self
    }

    /// Who serves the peers of this listener; default: as the server says.
    ///
    /// ```
    /// use switchboard::{Listen, Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)))
    ///     .tcp("127.0.0.1:0")
    ///     .listen(Listen::tcp("127.0.0.1:0").handler(|_peer| {
    ///         handler_fn(|_message, cx| {
    ///             cx.send("another door, another service");
    ///             Ok(Next::Close)
    ///         })
    ///     }));
    /// # let _ = server;
    /// ```
    pub fn handler<F, H>(mut self, factory: F) -> Self
    where
        F: Fn(&Peer) -> H + Send + Sync + 'static,
        H: Handler,
    {
        self.how.services = Some(Services::messages(factory));
        self
    }

    /// As [`Listen::handler`], with a [`StreamHandler`] for each connection.
    ///
    /// ```
    /// use std::io;
    /// use switchboard::{Listen, Next, Stream, StreamHandler};
    ///
    /// struct Greeter;
    /// impl StreamHandler for Greeter {
    ///     fn handle(&mut self, _stream: &mut Stream<'_>) -> io::Result<Next> {
    ///         Ok(Next::Close)
    ///     }
    /// }
    ///
    /// let listen = Listen::tcp("127.0.0.1:0").stream_handler(|_peer| Greeter);
    /// # let _ = listen;
    /// ```
    pub fn stream_handler<F, H>(mut self, factory: F) -> Self
    where
        F: Fn(&Peer) -> H + Send + Sync + 'static,
        H: StreamHandler,
    {
        self.how.services = Some(Services::bytes(factory));
        self
    }

    /// As [`Listen::handler`], with one [`DatagramHandler`] for all datagrams.
    ///
    /// ```
    /// use std::io;
    /// use switchboard::{Datagram, DatagramHandler, Listen, Replies};
    ///
    /// struct Count;
    /// impl DatagramHandler for Count {
    ///     fn handle(&self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) -> io::Result<()> {
    ///         replies.send(datagram.bytes().len().to_string());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let listen = Listen::udp("127.0.0.1:0").datagram_handler(Count);
    /// # let _ = listen;
    /// ```
    pub fn datagram_handler(mut self, handler: impl DatagramHandler) -> Self {
        self.how.services = Some(Services::Datagrams(Arc::new(handler)));
        self
    }

    /// Who is let in here; default: as the server says ([`Server::filter`](crate::Server::filter)).
    ///
    /// ```
    /// use switchboard::{Listen, Verdict};
    ///
    /// let listen = Listen::unix("/run/admin.sock").filter(|peer| {
    ///     let is_root = peer.credentials().is_some_and(|credentials| credentials.uid == 0);
    ///     if is_root { Verdict::Accept } else { Verdict::reject_with("root only\n") }
    /// });
    /// # let _ = listen;
    /// ```
    pub fn filter(mut self, filter: impl Fn(&Peer) -> Verdict + Send + Sync + 'static) -> Self {
        self.how.filter = Some(Arc::new(filter));
        self
    }
}

/// Takes over a listener that the program has bound. The options that accepted connections inherit
/// (no delay, keep-alive) are set as for listeners of our own.
impl From<TcpListener> for Listen {
    fn from(listener: TcpListener) -> Self {
        let name = listener.local_addr().map(|addr| format!("tcp://{addr}"));
        Self::new(Source::Streams(listener.into()), taken_over(name))
    }
}

/// Takes over a socket that the program has bound. A receive buffer of 4 MiB is asked for, as for our own;
/// [`Listen::configure`] has the last word.
impl From<UdpSocket> for Listen {
    fn from(socket: UdpSocket) -> Self {
        let name = socket.local_addr().map(|addr| format!("udp://{addr}"));
        Self::new(Source::Datagrams(socket.into()), taken_over(name))
    }
}

/// Takes over a listener that the program has bound. Its file stays when the server stops: it is the
/// program's.
impl From<UnixListener> for Listen {
    fn from(listener: UnixListener) -> Self {
        Self::new(Source::Streams(listener.into()), taken_over(Ok("unix:".to_owned())))
    }
}

/// Takes over a socket that the program has bound. Its file stays when the server stops, and its send buffer is
/// left as it is: see [`Listen::unixgram`] for what hangs on that.
impl From<UnixDatagram> for Listen {
    fn from(socket: UnixDatagram) -> Self {
        Self::new(Source::Datagrams(socket.into()), taken_over(Ok("unixgram:".to_owned())))
    }
}

fn taken_over(name: io::Result<String>) -> String {
    format!("{} (taken over)", name.unwrap_or_default())
}

impl fmt::Debug for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listen")
            .field("name", &self.how.name)
            .field("framing", &self.how.framing)
            .finish_non_exhaustive()
    }
}
