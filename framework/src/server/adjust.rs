//! What a handle changes while the server runs: limits, timeouts, and who makes the handlers.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Overflow;
use crate::error::{Error, Result};
use crate::handler::{Factories, Handler, StreamHandler};
use crate::peer::Peer;
use crate::server::ServerHandle;

/// # Settings that may change while the server runs
///
/// Each setter returns at once, and refuses what [`Server::bind`](crate::Server::bind) would refuse: then
/// everything stays as it was. What is set stays set until it is set again.
///
/// | setter | takes effect |
/// |---|---|
/// | [`set_max_connections`](Self::set_max_connections) | at once, exactly: lowered, nobody is dropped and nobody gets in until fewer are open; raised, those who are queued get in at once |
/// | [`set_max_sessions`](Self::set_max_sessions) | at once: lowered, sessions that are too many end, those used longest ago first |
/// | [`set_idle_timeout`](Self::set_idle_timeout), [`set_message_timeout`](Self::set_message_timeout), [`set_write_timeout`](Self::set_write_timeout) | at once, also for those who wait already: spans count from when they began. Only a callback that waits for its peer at this moment ends its wait by the old one |
/// | [`set_drain_timeout`](Self::set_drain_timeout) | at the next signal or `Next::StopServer`; a drain under way keeps its deadline |
/// | [`set_outbox_limit`](Self::set_outbox_limit), [`set_overflow`](Self::set_overflow) | with the next message that is sent; what waits already may be more, and is not dropped for it before |
/// | [`set_factory`](Self::set_factory), [`set_stream_factory`](Self::set_stream_factory) | for those who come from now on; whoever is there keeps the handler it has |
///
/// A change of a timeout or of `outbox_limit` costs a short turn of every connection and session that is
/// open: it is meant for an operator's hand, not for every message.
///
/// ```
/// use std::time::Duration;
/// use switchboard::{Next, Overflow, Server, handler_fn};
///
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
/// let server = server.tcp("127.0.0.1:0").udp("127.0.0.1:0").spawn()?;
/// server.set_max_sessions(500)?;
/// server.set_message_timeout(Duration::from_secs(5))?;
/// server.set_write_timeout(Duration::from_secs(5))?;
/// server.set_drain_timeout(Duration::from_secs(60));
/// server.set_outbox_limit(64 * 1024)?;
/// server.set_overflow(Overflow::DropOldest);
/// assert!(server.set_outbox_limit(1).is_err(), "nothing has changed");
/// # server.stop();
/// # Ok::<(), switchboard::Error>(())
/// ```
impl ServerHandle {
    /// Changes how many connections may be open at a time. Under [`Concurrency::Threads`] there are never
    /// more than threads, whatever is set.
    ///
    /// ```
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// let server = server.tcp("127.0.0.1:0").max_connections(100).spawn()?;
    /// server.set_max_connections(10)?;
    /// assert!(server.set_max_connections(0).is_err());
    /// server.stop();
    /// # Ok::<(), switchboard::Error>(())
    /// ```
    ///
    /// [`Concurrency::Threads`]: crate::Concurrency::Threads
    ///
    /// # Errors
    /// It is zero, or more than the descriptor limit had room for when the server was bound.
    pub fn set_max_connections(&self, connections: usize) -> Result<()> {
        self.engine.set_max_connections(connections)
    }

    /// Changes how many sessions each datagram listener holds at a time, 1 to 1,048,576. Sessions with
    /// datagrams waiting are spared until these are handled.
    ///
    /// # Errors
    /// It is out of bounds.
    pub fn set_max_sessions(&self, sessions: usize) -> Result<()> {
        self.engine.set_max_sessions(sessions)
    }

    /// Changes after how long a silence of its peer [`Handler::idle`] is asked; `None`: never. Whoever has
    /// been silent for longer already is asked at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// let server = server.tcp("127.0.0.1:0").spawn()?;
    /// server.set_idle_timeout(Duration::from_secs(10))?;
    /// server.set_idle_timeout(None)?;
    /// assert!(server.set_idle_timeout(Duration::ZERO).is_err());
    /// server.stop();
    /// # Ok::<(), switchboard::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is zero.
    pub fn set_idle_timeout(&self, timeout: impl Into<Option<Duration>>) -> Result<()> {
        self.engine.set_idle_timeout(timeout.into())
    }

    /// Changes how long one message may take, from its first byte to its last; `None`: for ever.
    ///
    /// # Errors
    /// It is zero.
    pub fn set_message_timeout(&self, timeout: impl Into<Option<Duration>>) -> Result<()> {
        self.engine.set_message_timeout(timeout.into())
    }

    /// Changes for how long a peer may take none of the bytes that wait for it; `None`: for ever.
    ///
    /// # Errors
    /// It is zero.
    pub fn set_write_timeout(&self, timeout: impl Into<Option<Duration>>) -> Result<()> {
        self.engine.set_write_timeout(timeout.into())
    }

    /// Changes how long a drain that nobody gives a time will wait.
    pub fn set_drain_timeout(&self, timeout: Duration) {
        self.engine.core.live.set_drain_timeout(timeout);
    }

    /// Changes how many bytes may wait for one peer; see [`Server::outbox_limit`](crate::Server::outbox_limit).
    ///
    /// # Errors
    /// It is below 32 bytes.
    pub fn set_outbox_limit(&self, bytes: usize) -> Result<()> {
        self.engine.set_outbox_limit(bytes)
    }

    /// Changes what happens when a [`Remote`](crate::Remote) sends to a peer for whom as much waits as may.
    pub fn set_overflow(&self, overflow: Overflow) {
        self.engine.core.live.set_overflow(overflow);
    }

    /// Lets another factory make the [`Handler`]s of those who come from now on, on every listener that
    /// has no factory of its own. The old factory is dropped once nobody asks it any more.
    ///
    /// ```
    /// use std::io::Read;
    /// use std::net::TcpStream;
    /// use switchboard::{Context, Handler, Next, Server};
    ///
    /// struct Says(&'static str);
    ///
    /// impl Handler for Says {
    ///     fn setup(&mut self, cx: &mut Context<'_>) -> std::io::Result<Next> {
    ///         cx.send(self.0);
    ///         Ok(Next::Close)
    ///     }
    ///     fn handle(&mut self, _message: &[u8], _cx: &mut Context<'_>) -> std::io::Result<Next> {
    ///         Ok(Next::Close)
    ///     }
    /// }
    ///
    /// let server = Server::new(|_peer| Says("old")).tcp("127.0.0.1:0").spawn()?;
    /// server.set_factory(|_peer| Says("new"))?;
    /// let mut text = String::new();
    /// let addr = server.addresses()[0].socket_addr().unwrap();
    /// TcpStream::connect(addr)?.read_to_string(&mut text)?;
    /// assert_eq!(text, "new");
    /// server.stop();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The server was not made by [`Server::new`](crate::Server::new).
    pub fn set_factory<F, H>(&self, factory: F) -> Result<()>
    where
        F: Fn(&Peer) -> H + Send + Sync + 'static,
        H: Handler,
    {
        let Factories::Messages(place) = &self.engine.sources.factories else {
            return Err(Error::config("a server without Handlers has no factory for them"));
        };
        place.replace(Arc::new(move |peer| Box::new(factory(peer))));
        Ok(())
    }

    /// As [`set_factory`](Self::set_factory), for a server of [`StreamHandler`]s.
    ///
    /// ```
    /// use std::io::{self, Read, Write};
    /// use switchboard::{Next, Server, Stream, StreamHandler};
    ///
    /// struct Says(&'static str);
    ///
    /// impl StreamHandler for Says {
    ///     fn setup(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
    ///         write!(stream, "{}", self.0)?;
    ///         Ok(Next::Close)
    ///     }
    ///     fn handle(&mut self, _stream: &mut Stream<'_>) -> io::Result<Next> {
    ///         Ok(Next::Close)
    ///     }
    /// }
    ///
    /// let server = Server::streams(|_peer| Says("old")).tcp("127.0.0.1:0").spawn()?;
    /// server.set_stream_factory(|_peer| Says("new"))?;
    /// let mut text = String::new();
    /// let addr = server.addresses()[0].socket_addr().unwrap();
    /// std::net::TcpStream::connect(addr)?.read_to_string(&mut text)?;
    /// assert_eq!(text, "new");
    /// # server.stop();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The server was not made by [`Server::streams`](crate::Server::streams).
    pub fn set_stream_factory<F, H>(&self, factory: F) -> Result<()>
    where
        F: Fn(&Peer) -> H + Send + Sync + 'static,
        H: StreamHandler,
    {
        let Factories::Bytes(place) = &self.engine.sources.factories else {
            return Err(Error::config("a server without StreamHandlers has no factory for them"));
        };
        place.replace(Arc::new(move |peer| Box::new(factory(peer))));
        Ok(())
    }
}
