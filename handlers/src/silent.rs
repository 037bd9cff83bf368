//! A server that only listens.

use std::io;

use switchboard::{Context, Handler, Next};

/// Takes every message and answers nothing: a sink, or what is left of a handler to look at with
/// [`Inspect`](crate::Inspect).
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::{Shutdown, TcpStream};
/// use switchboard::Server;
/// use switchboard_handlers::Silent;
///
/// let server = Server::new(|_peer| Silent).tcp("127.0.0.1:0").spawn()?;
/// let address = server.addresses()[0].socket_addr().expect("a TCP listener has one");
///
/// let mut client = TcpStream::connect(address)?;
/// client.write_all(b"is anybody there?")?;
/// client.shutdown(Shutdown::Write)?;
/// assert_eq!(client.read(&mut [0; 16])?, 0);
/// server.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Handler for Silent {
    fn handle(&mut self, _message: &[u8], _cx: &mut Context<'_>) -> io::Result<Next> {
        Ok(Next::Continue)
    }
}
