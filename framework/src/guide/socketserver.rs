//! Coming from Python's `socketserver`: where each name went, the same programs in both, what stayed behind.
//!
//! The idea is the same: you write a handler, a server calls it, and whether peers are served one after
//! another or side by side is said elsewhere. Three things differ from the first line on.
//!
//! - `handle` is called for each *message*, not once for each connection. What cuts messages out of the bytes is a
//!   [`Framing`], and between two messages a connection holds no thread. A [`StreamHandler`] has `handle` the old
//!   way: a conversation over a file-like [`Stream`].
//! - Nothing is inherited. What Python has you override is a value that you set: [`Concurrency`] is no
//!   mix-in, a filter is a closure.
//! - Limits, timeouts and an orderly end are there before you ask for them.
//!
//! # The same program in both
//!
//! **Each message in upper case.** In Python `recv` returns what has arrived by then, and so does a
//! [`Framing::raw`], which is the default here.
//!
//! ```python
//! import socketserver
//!
//! class Upper(socketserver.BaseRequestHandler):
//!     def handle(self):
//!         while message := self.request.recv(65536):
//!             self.request.sendall(message.upper())
//!
//! with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Upper) as server:
//!     server.serve_forever()
//! ```
//!
//! ```
//! use std::io;
//! use switchboard::{Context, Handler, Next, TcpServer};
//!
//! struct Upper;
//!
//! impl Handler for Upper {
//!     fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
//!         cx.send(message.to_ascii_uppercase());
//!         Ok(Next::Continue)
//!     }
//! }
//!
//! let server = TcpServer::bind("127.0.0.1:0", |_peer| Upper)?;
//! # server.handle().begin_drain(std::time::Duration::ZERO);
//! server.serve()?;
//! # let mut client = switchboard::testing::connect(Upper);
//! # assert_eq!(client.ask("hello"), "HELLO");
//! # Ok::<(), switchboard::Error>(())
//! ```
//!
//! **Line by line, as with a file.** `rfile` and `wfile` are one [`Stream`], which reads and writes. It is
//! flushed before it waits for the peer. In Python a line without an end fills the memory; here `take` bounds it.
//!
//! ```python
//! class UpperLines(socketserver.StreamRequestHandler):
//!     def handle(self):
//!         for line in self.rfile:
//!             self.wfile.write(line.upper())
//! ```
//!
//! ```
//! use std::io::{self, BufRead, Read, Write};
//! use switchboard::{Next, Server, Stream, StreamHandler};
//!
//! struct UpperLines;
//!
//! impl StreamHandler for UpperLines {
//!     fn handle(&mut self, stream: &mut Stream<'_>) -> io::Result<Next> {
//!         let mut line = String::new();
//!         Read::by_ref(stream).take(8192).read_line(&mut line)?;
//!         if line.is_empty() {
//!             return Ok(Next::Close);
//!         }
//!         stream.write_all(line.to_uppercase().as_bytes())?;
//!         // Come back when there is more; until then no thread waits.
//!         Ok(Next::Continue)
//!     }
//! }
//!
//! let server = Server::streams(|_peer| UpperLines).tcp("127.0.0.1:0");
//! # let mut client = switchboard::testing::MemoryServer::new(server).connect();
//! # client.send("hello\nworld\n");
//! # assert_eq!(client.received(), "HELLO\nWORLD\n");
//! ```
//!
//! With [`Framing::lines`] the first handler does the same without a conversation, and serves more peers
//! with less.
//!
//! **Over UDP, several at a time.** Python starts a thread for each datagram. Here it is the same `Upper` as
//! over TCP, one value for each peer, and each peer's datagrams stay in order.
//!
//! ```python
//! class UpperDatagram(socketserver.DatagramRequestHandler):
//!     def handle(self):
//!         self.wfile.write(self.rfile.read().upper())
//!
//! with socketserver.ThreadingUDPServer(("127.0.0.1", 0), UpperDatagram) as server:
//!     server.serve_forever()
//! ```
//!
//! ```
//! use switchboard::{Concurrency, Next, Server, handler_fn};
//!
//! let server = Server::new(|_peer| {
//!     handler_fn(|message, cx| {
//!         cx.send(message.to_ascii_uppercase());
//!         Ok(Next::Continue)
//!     })
//! })
//! .udp("127.0.0.1:0")
//! .concurrency(Concurrency::pool(16))
//! .spawn()?;
//!
//! let client = std::net::UdpSocket::bind("127.0.0.1:0")?;
//! client.set_read_timeout(Some(std::time::Duration::from_secs(20)))?;
//! client.send_to(b"hello", server.addresses()[0].socket_addr().unwrap())?;
//! let mut reply = [0; 100];
//! let length = client.recv(&mut reply)?;
//! assert_eq!(&reply[..length], b"HELLO");
//! server.drain(std::time::Duration::from_secs(5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where each name went
//!
//! | servers | here |
//! |---|---|
//! | `TCPServer`, `UDPServer` | [`TcpServer::bind`], [`UdpServer::bind`]; or [`Server::tcp`] and [`Server::udp`], any number of each in one server |
//! | `UnixStreamServer`, `UnixDatagramServer` | [`Server::unix`], [`Server::unixgram`] |
//! | `BaseServer` | [`Server`] until it listens, [`BoundServer`] until it serves, [`ServerHandle`] from anywhere. There is nothing to derive from: another transport is not offered |
//! | `ThreadingMixIn` and `Threading…Server` | [`Concurrency::threads`], or [`Concurrency::pool`], which is the default |
//! | no mix-in: one peer after another | [`Concurrency::Inline`] runs one handler at a time; other connections stay open meanwhile |
//! | `ForkingMixIn` and `Forking…Server`, `max_children`, `active_children`, `collect_children` | not offered: a process that runs threads cannot be forked safely. A panic ends one peer as an exception in a child does; several processes share a port by [`Listen::reuse_port`] |
//!
//! | what is set | here |
//! |---|---|
//! | `server_address`, port 0 | [`BoundServer::addresses`], with the real ports |
//! | `RequestHandlerClass` | the factory: a closure from the [`Peer`] to a handler, with whatever it has captured |
//! | `bind_and_activate=False`, `socket` | [`Listen::configure`] sees the bound socket; one that you have made yourself is given to [`Server::listen`] |
//! | `address_family` | not needed: the address says it. [`Listen::dual_stack`] serves IPv4 on an IPv6 socket |
//! | `socket_type` | not needed: [`Listen::tcp`] and [`Listen::udp`] say it |
//! | `allow_reuse_address` | not needed: on for TCP; never for UDP, where another program could take the port |
//! | `allow_reuse_port` | [`Listen::reuse_port`], with the number of sockets |
//! | `request_queue_size` | [`Server::backlog`]; how many may be *open* is [`Server::max_connections`] |
//! | `max_packet_size` | [`Server::max_datagram`] |
//! | `timeout` of a server | the argument of [`BoundServer::serve_one`] |
//! | `daemon_threads`, `block_on_close` | not needed: a drain waits, up to its deadline, and says who is stuck ([`DrainReport`]) |
//!
//! | what is called | here |
//! |---|---|
//! | `server_bind`, `server_activate` | [`Server::bind`]: all listeners, or none and an [`Error`] that says which |
//! | `serve_forever` | [`BoundServer::serve`]; [`BoundServer::spawn`] on a thread of its own; `Server::run_until_signal` until Ctrl-C |
//! | `poll_interval` | not needed: nothing polls |
//! | `handle_request` | [`BoundServer::serve_one`] |
//! | `shutdown` | [`ServerHandle::drain`], [`stop`](crate::ServerHandle::stop), or [`begin_drain`](crate::ServerHandle::begin_drain), which does not wait. From any thread, and from a handler |
//! | `server_close`, leaving `with` | part of the drain; dropping a [`BoundServer`] that never served closes it as well |
//! | serving again after `shutdown` | [`ServerHandle::suspend`] and [`resume`](crate::ServerHandle::resume). A server that was drained has ended: bind another one, its port is free |
//! | `fileno` | not offered: one server has any number of listeners, and waits for them itself |
//!
//! | what is overridden | here |
//! |---|---|
//! | `get_request` | not offered: accepting knows every error and never ends |
//! | `verify_request` | [`Server::filter`], for one listener [`Listen::filter`]; its [`Verdict`] may carry a text |
//! | `process_request`, `process_request_thread` | not needed: [`Concurrency`] |
//! | `finish_request` | the factory, which sees the peer and returns any handler (`Box<dyn Handler>`) |
//! | `shutdown_request`, `close_request` | what the handler returns: [`Next::Close`], [`Next::HalfClose`], [`Next::Abort`] |
//! | `handle_error` | [`Handler::finish`] with [`CloseReason::HandlerErr`] or [`CloseReason::HandlerPanic`], one line in the log, and [`Server::observer`] |
//! | `handle_timeout` | [`Served::TimedOut`] is what [`BoundServer::serve_one`] returns |
//! | `service_actions` | [`Server::on_tick`], at an interval of its own |
//!
//! | in a handler | here |
//! |---|---|
//! | `BaseRequestHandler` | [`Handler`] |
//! | `setup`, `handle`, `finish` | the same names. `setup` and `finish` once each; `handle` for each message |
//! | `request` | the message, and [`Context::send`]; a [`StreamHandler`] has the [`Stream`] |
//! | `client_address` | [`Context::peer`], with the local address that was reached |
//! | `server`, to share state | what the factory's closure captured: an `Arc`, say. To stop the server: [`Next::StopServer`] |
//! | `StreamRequestHandler`, `rfile`, `wfile` | [`StreamHandler`]; [`Stream`] is `Read`, `BufRead` and `Write` |
//! | `rbufsize`, `wbufsize` | not needed: reads come from the worker's buffer, writes are collected and leave before a read waits |
//! | `timeout` of a handler | [`Server::idle_timeout`], [`message_timeout`](crate::Server::message_timeout), [`write_timeout`](crate::Server::write_timeout); [`Handler::idle`] is asked |
//! | `disable_nagle_algorithm` | not needed: it is off, and what a turn has sent leaves in one piece |
//! | `DatagramRequestHandler`, `packet`, `socket` | [`Handler`] with a value for each peer, or a [`DatagramHandler`] with one for all; [`Replies`] |
//!
//! # What stayed behind
//!
//! Defects and surprises of the original, with CPython's issue where there is one, and what happens here.
//!
//! 1. **Stopping takes up to half a second**, since the loop polls (gh-85265, gh-88932). Here it is woken; an
//!    idle server makes no wake-ups at all.
//! 2. **`shutdown` deadlocks** when the serving thread calls it, as a handler without a mix-in or a signal
//!    handler does (its documentation warns, gh-83978), and waits for ever when nobody serves. Here every call of a
//!    [`ServerHandle`] comes back, from wherever it is made, and twice.
//! 3. **Closing waits for ever** for a thread whose client says nothing (`block_on_close`, gh-75416,
//!    gh-84485). Here a drain tells everybody, flushes, and ends by its deadline with a report.
//! 4. **Threads without a limit**, and their objects kept until the next connection (gh-81374). Here the
//!    number is yours, threads are kept and reused, and in a pool a silent client has none.
//! 5. **A backlog of 5 and no reuse of the address** by default (gh-80184): clients lost in a burst, a
//!    restart that fails. Here 4,096, and on.
//! 6. **No timeouts**: one client that sends nothing holds its thread, and the server's `timeout` does not
//!    bound a handler (gh-102156). Those that can be set count one call, so that a byte now and then renews
//!    them. Here silence, a message and a peer that does not read have deadlines from the start.
//! 7. **Out of descriptors it spins**: each failure of `accept` is swallowed, and tried again at once. Here
//!    the listener rests, tries again by and by, and says so in one line.
//! 8. **An exception in `verify_request` or `service_actions` ends the server.** Here a filter that
//!    panics turns that one peer away, and a tick that panics is told of and runs again.
//! 9. **`service_actions` runs as often as there are connections**, or every poll interval. Here a tick has
//!    instants of its own, under load as well.
//! 10. **Every reset by a client is a traceback** of many lines, and those of several threads mix
//!     (bpo-14574). Here it is counted, and a line for those who debug; an error is one line.
//! 11. **Mix-ins in the wrong order** compile and serve one client at a time. Here concurrency is a value.
//! 12. **IPv6 needs a subclass** (gh-64414). Here it needs an IPv6 address.
//! 13. **A Unix socket's file stays**, and the next start fails on it. Here ours is taken away at the end, a
//!     dead server's is replaced, and a live one's is never stolen.
//! 14. **A long datagram is cut at 8,192 bytes without a word.** Here the limit is 65,535, and what is longer
//!     comes to [`Handler::rejected`] or is [flagged](crate::Datagram::is_truncated), and is counted.
//! 15. **A datagram handler that says nothing answers all the same**, with an empty datagram (gh-152024).
//!     Here only what is sent is sent.
//! 16. **Datagrams of one peer overtake each other** in threads, and replies still in the making are lost
//!     when the server closes. Here their order is kept, and a drain sends what was asked for.
//! 17. **A reply over UDP may leave from another address** than the one that was asked, where the
//!     server listens on all. Here it does not.
//! 18. **A reply can be lost on the last metre** when the connection is closed with input unread: the
//!     system sends a reset behind it. Here the rest of the input is read first, for a bounded time.
//! 19. **Nowhere to pass arguments**: the constructor of a handler does all its work (gh-74133, gh-89976). Here a
//!     factory captures what it likes.
//!
//! What is there and not here: forking; TLS, which Python has by wrapping the socket (and then handshakes hold up
//! its accept loop); a descriptor to put into a loop of your own; other systems than Linux.
//!
//! `tests/PORTED.md` in the repository lists the tests of the original, and how each of them fares here.
//!
//! [`BoundServer`]: crate::BoundServer
//! [`BoundServer::addresses`]: crate::BoundServer::addresses
//! [`BoundServer::serve`]: crate::BoundServer::serve
//! [`BoundServer::serve_one`]: crate::BoundServer::serve_one
//! [`BoundServer::spawn`]: crate::BoundServer::spawn
//! [`CloseReason::HandlerErr`]: crate::CloseReason::HandlerErr
//! [`CloseReason::HandlerPanic`]: crate::CloseReason::HandlerPanic
//! [`Concurrency`]: crate::Concurrency
//! [`Concurrency::Inline`]: crate::Concurrency::Inline
//! [`Concurrency::pool`]: crate::Concurrency::pool
//! [`Concurrency::threads`]: crate::Concurrency::threads
//! [`Context::peer`]: crate::Context::peer
//! [`Context::send`]: crate::Context::send
//! [`DatagramHandler`]: crate::DatagramHandler
//! [`DrainReport`]: crate::DrainReport
//! [`Error`]: crate::Error
//! [`Framing`]: crate::Framing
//! [`Framing::lines`]: crate::Framing::lines
//! [`Framing::raw`]: crate::Framing::raw
//! [`Handler`]: crate::Handler
//! [`Handler::finish`]: crate::Handler::finish
//! [`Handler::idle`]: crate::Handler::idle
//! [`Handler::rejected`]: crate::Handler::rejected
//! [`Listen::configure`]: crate::Listen::configure
//! [`Listen::dual_stack`]: crate::Listen::dual_stack
//! [`Listen::filter`]: crate::Listen::filter
//! [`Listen::reuse_port`]: crate::Listen::reuse_port
//! [`Listen::tcp`]: crate::Listen::tcp
//! [`Listen::udp`]: crate::Listen::udp
//! [`Next::Abort`]: crate::Next::Abort
//! [`Next::Close`]: crate::Next::Close
//! [`Next::HalfClose`]: crate::Next::HalfClose
//! [`Next::StopServer`]: crate::Next::StopServer
//! [`Peer`]: crate::Peer
//! [`Replies`]: crate::Replies
//! [`Served::TimedOut`]: crate::Served::TimedOut
//! [`Server`]: crate::Server
//! [`Server::backlog`]: crate::Server::backlog
//! [`Server::bind`]: crate::Server::bind
//! [`Server::filter`]: crate::Server::filter
//! [`Server::idle_timeout`]: crate::Server::idle_timeout
//! [`Server::listen`]: crate::Server::listen
//! [`Server::max_connections`]: crate::Server::max_connections
//! [`Server::max_datagram`]: crate::Server::max_datagram
//! [`Server::observer`]: crate::Server::observer
//! [`Server::on_tick`]: crate::Server::on_tick
//! [`Server::tcp`]: crate::Server::tcp
//! [`Server::udp`]: crate::Server::udp
//! [`Server::unix`]: crate::Server::unix
//! [`Server::unixgram`]: crate::Server::unixgram
//! [`ServerHandle`]: crate::ServerHandle
//! [`ServerHandle::drain`]: crate::ServerHandle::drain
//! [`ServerHandle::suspend`]: crate::ServerHandle::suspend
//! [`Stream`]: crate::Stream
//! [`StreamHandler`]: crate::StreamHandler
//! [`TcpServer::bind`]: crate::TcpServer::bind
//! [`UdpServer::bind`]: crate::UdpServer::bind
//! [`Verdict`]: crate::Verdict
