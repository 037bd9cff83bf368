//! A wrapper that shows what comes in.

use std::fmt;
use std::io;
use std::sync::Arc;

use switchboard::{CloseReason, Context, FrameError, Handler, Next, Peer};

/// Shows each message to a closure before the handler inside gets it.
///
/// The closure is called on the thread that handles the message, for several peers at a time.
///
/// ```
/// use std::net::UdpSocket;
/// use std::sync::mpsc;
/// use switchboard::Server;
/// use switchboard_handlers::{Escaped, Inspect, Upper};
///
/// let (transcript, lines) = mpsc::sync_channel(16);
/// let inspect = Inspect::new(Upper, move |peer, message| {
///     let _ = transcript.send(format!("{peer}: {}", Escaped(message)));
/// });
/// let server = Server::new(move |_peer| inspect.clone()).udp("127.0.0.1:0").spawn()?;
///
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"hello\n", server.addresses()[0].socket_addr().expect("a UDP socket has one"))?;
/// assert_eq!(lines.recv()?, format!("udp://{}: hello\\n", client.local_addr()?));
/// server.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Inspect<H> {
    inner: H,
    show: Arc<Show>,
}

/// Sees who said what.
type Show = dyn Fn(&Peer, &[u8]) + Send + Sync;

impl<H> Inspect<H> {
    /// Calls `show` with the peer and each of its messages, then `inner`.
    #[must_use]
    pub fn new(inner: H, show: impl Fn(&Peer, &[u8]) + Send + Sync + 'static) -> Self {
        Self { inner, show: Arc::new(show) }
    }

    fn keep(&self, next: Next) -> Next {
        match next {
            Next::Switch(handler) => {
                Next::Switch(Box::new(Inspect { inner: handler, show: self.show.clone() }))
            }
            other => other,
        }
    }
}

impl<H: Handler> Handler for Inspect<H> {
    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        (self.show)(cx.peer(), message);
        let next = self.inner.handle(message, cx)?;
        Ok(self.keep(next))
    }

    pass_on_all_but_handle!();
}

impl<H: fmt::Debug> fmt::Debug for Inspect<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspect").field("inner", &self.inner).finish_non_exhaustive()
    }
}
