//! The classic first server: everything comes back in upper case.

use std::io;

use switchboard::{Context, Handler, Next};

/// Answers each message in upper case: the ASCII letters of it, and every other byte as it is.
///
/// That is Python's `bytes.upper()`. Text in any encoding that keeps ASCII as it is survives, UTF-8
/// among them, but its other letters stay small.
///
/// ```
/// use std::net::UdpSocket;
/// use switchboard::Server;
/// use switchboard_handlers::Upper;
///
/// let server = Server::new(|_peer| Upper).udp("127.0.0.1:0").spawn()?;
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.connect(server.addresses()[0].socket_addr().expect("a UDP socket has one"))?;
///
/// client.send("straße, 10 km".as_bytes())?;
/// let mut answer = [0; 64];
/// let length = client.recv(&mut answer)?;
/// assert_eq!(&answer[..length], "STRAßE, 10 KM".as_bytes());
/// server.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Upper;

impl Handler for Upper {
    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        cx.send(message.to_ascii_uppercase());
        Ok(Next::Continue)
    }
}
