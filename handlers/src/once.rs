//! A wrapper for short conversations: one exchange and no more.

use std::io;

use switchboard::{CloseReason, Context, FrameError, Handler, Next};

/// Lets the handler inside answer one message, then ends the conversation: what was answered is
/// flushed first. Over datagrams every datagram is a conversation of its own then.
///
/// Whatever else the handler wants after that message (to wait, to pause, to let another one take over)
/// no longer happens; if it resets the connection or stops the server, it does.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
/// use switchboard::Server;
/// use switchboard_handlers::{Fixed, Once};
///
/// let once = Once::new(Fixed::thank_you());
/// let server = Server::new(move |_peer| once.clone()).tcp("127.0.0.1:0").spawn()?;
/// let address = server.addresses()[0].socket_addr().expect("a TCP listener has one");
///
/// let mut client = TcpStream::connect(address)?;
/// client.write_all(b"a present")?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert_eq!(answer, "thank you !");
/// server.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Once<H> {
    inner: H,
}

impl<H> Once<H> {
    /// Ends the conversation when `inner` has answered one message.
    #[must_use]
    pub const fn new(inner: H) -> Self {
        Self { inner }
    }

    #[allow(clippy::unused_self, reason = "what every wrapper has, to pass callbacks on")]
    fn keep(&self, next: Next) -> Next {
        match next {
            Next::Switch(handler) => Next::Switch(Box::new(Once::new(handler))),
            other => other,
        }
    }
}

impl<H: Handler> Handler for Once<H> {
    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        Ok(only_end(self.inner.handle(message, cx)?))
    }

    pass_on_all_but_handle!();
}

/// What is left of an answer when the conversation is to end.
fn only_end(next: Next) -> Next {
    match next {
        Next::Abort | Next::StopServer => next,
        _ => Next::Close,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Upper;
    use std::time::Duration;

    #[test]
    fn after_the_one_message_only_the_stronger_ways_to_end_remain() {
        assert!(matches!(only_end(Next::Continue), Next::Close));
        assert!(matches!(only_end(Next::Pause(Duration::from_secs(1))), Next::Close));
        assert!(matches!(only_end(Next::Switch(Box::new(Upper))), Next::Close));
        assert!(matches!(only_end(Next::HalfClose), Next::Close));
        assert!(matches!(only_end(Next::Abort), Next::Abort));
        assert!(matches!(only_end(Next::StopServer), Next::StopServer));
    }
}
