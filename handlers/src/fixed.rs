//! A server that always says the same.

use std::io;
use std::sync::Arc;

use switchboard::{Context, Handler, Next};

/// Answers each message, an empty one too, with the same bytes.
///
/// They are held once: clone one `Fixed` for every peer.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
/// use switchboard::Server;
/// use switchboard_handlers::Fixed;
///
/// let fixed = Fixed::new("no entrance");
/// let server = Server::new(move |_peer| fixed.clone()).tcp("127.0.0.1:0").spawn()?;
/// let address = server.addresses()[0].socket_addr().expect("a TCP listener has one");
///
/// let mut client = TcpStream::connect(address)?;
/// client.write_all(b"may I come in?")?;
/// let mut answer = [0; 11];
/// client.read_exact(&mut answer)?;
/// assert_eq!(&answer, b"no entrance");
/// server.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Fixed {
    answer: Arc<[u8]>,
}

impl Fixed {
    /// Answers with these bytes.
    #[must_use]
    pub fn new(answer: impl AsRef<[u8]>) -> Self {
        Self { answer: Arc::from(answer.as_ref()) }
    }

    /// Answers `thank you !`, as the tutorials' TCP server does.
    #[must_use]
    pub fn thank_you() -> Self {
        Self::new("thank you !")
    }

    /// Answers `i am server`, as the tutorials' threading UDP server does.
    #[must_use]
    pub fn i_am_server() -> Self {
        Self::new("i am server")
    }
}

impl Handler for Fixed {
    fn handle(&mut self, _message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        cx.send_shared(&self.answer);
        Ok(Next::Continue)
    }
}
