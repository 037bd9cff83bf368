//! Listening no more without giving the port up, and listening again on the same socket.
//!
//! What the system does with TCP was tried out, with IPv4, IPv6 and both, with connections established and
//! in TIME_WAIT: `shutdown` takes a listening socket back to where it was bound, and `listen` works on it
//! once more, with every option that it had. Whoever connects in between is refused.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;

use socket2::SockRef;

/// Stops listening. The port stays ours: as the socket listens no more, another one with SO_REUSEADDR could
/// take it, unless this one has it off. (Only afterwards: connections that are made meanwhile inherit
/// it, and a single one without it would forbid to listen again.)
pub(crate) fn stop_listening(socket: impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(&socket);
    socket.shutdown(Shutdown::Both)?;
    // A failure leaves the port a little less safe, and nothing else.
    drop(socket.set_reuse_address(false));
    // It would drop the first packet of everybody when the socket listens again.
    drop(socket.detach_filter());
    Ok(())
}

/// Listens again.
pub(crate) fn listen_again(socket: impl AsFd, backlog: u32) -> io::Result<()> {
    let socket = SockRef::from(&socket);
    // Its own connections have the port as well: without it they forbid to listen.
    socket.set_reuse_address(true)?;
    let listens = socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX));
    if listens.is_err() {
        drop(socket.set_reuse_address(false));
    }
    listens
}

/// Lets newcomers in whom a filter has turned away, on a socket that listens still.
pub(crate) fn pass_new(socket: impl AsFd) {
    // Without a filter there is nothing to take off.
    drop(SockRef::from(&socket).detach_filter());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::listener::{ListenOptions, Listener};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    fn listener(dual_stack: bool, addr: &str) -> (Listener, SocketAddr) {
        let keep_alive = (Duration::from_secs(60), Duration::from_secs(10), 3);
        let user_timeout = Duration::from_secs(60);
        let (backlog, reuse_port, mode) = (16, false, None);
        let options =
            ListenOptions { backlog, dual_stack, reuse_port, mode, keep_alive, user_timeout };
        let addr = addr.parse().expect("an address");
        let listener = Listener::tcp(addr, &options, &|_| Ok(())).expect("a port");
        let local = listener.local().ok().and_then(|local| local.socket_addr());
        let port = local.expect("its address").port();
        let ip = if addr.is_ipv6() { "::1" } else { "127.0.0.1" };
        (listener, SocketAddr::new(ip.parse().expect("an address"), port))
    }

    fn accepted(listener: &Listener) -> crate::sys::socket::Socket {
        let interest = crate::sys::poll::Interest::Read;
        let patience = Some(Duration::from_secs(10));
        crate::sys::poll::wait_one(listener, interest, None, patience).expect("somebody comes");
        listener.accept().expect("the connection").0
    }

    #[test]
    fn a_port_is_kept_while_nobody_listens_also_one_that_the_system_chose() {
        for (dual_stack, addr) in
            [(false, "127.0.0.1:0"), (false, "0.0.0.0:0"), (false, "[::1]:0"), (true, "[::]:0")]
        {
            let (listener, at) = listener(dual_stack, addr);
            let client = TcpStream::connect(at).expect("it listens");
            let stays = accepted(&listener);
            // One more is in TIME_WAIT on our side.
            let left = TcpStream::connect(at).expect("it listens");
            drop(accepted(&listener));
            drop(left);
            for _ in 0..3 {
                stop_listening(&listener).expect("it listened");
                let refused = TcpStream::connect(at).expect_err("nobody listens");
                assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{addr}");
                // The standard library's listeners have SO_REUSEADDR on.
                let wildcard: SocketAddr = addr.parse().expect("an address");
                let same = SocketAddr::new(wildcard.ip(), at.port());
                #[expect(clippy::disallowed_methods, reason = "it is somebody else's")]
                let taken = TcpListener::bind(same);
                assert!(taken.is_err(), "{addr}: somebody else took the port");
                listen_again(&listener, 16).expect("the port is kept");
                let again = TcpStream::connect(at).expect("it listens again");
                assert!(again.nodelay().is_ok());
                let socket = accepted(&listener);
                let options = SockRef::from(socket.descriptor());
                assert!(options.tcp_nodelay().expect("an option"));
                let local = socket.local().ok().and_then(|local| local.socket_addr());
                assert_eq!(local.expect("an address").port(), at.port());
            }
            drop((client, stays));
        }
    }
}
