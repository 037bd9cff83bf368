//! Whether handshakes with a listener are under way: clients that have been answered and not been heard of again.
//!
//! The kernel says so through its socket diagnosis, a question of 72 bytes that costs about a millisecond.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// A question by address family, and its answers.
const BY_FAMILY: u16 = 20;
/// The end of the answers.
const DONE: u16 = 3;
/// A question that wants all answers: REQUEST and DUMP.
const ALL: u16 = 0x301;
/// Sockets in this state: SYN_RECV.
const HALF_OPEN: u32 = 1 << 3;
const TCP: u8 = 6;

/// The lengths of the header that each message has, and of the question.
const HEADER: usize = 16;
const QUESTION: usize = HEADER + 56;

/// Whether a handshake with the TCP listener at this address is under way at this moment.
///
/// # Errors
/// The system does not say.
pub(crate) fn are_under_way(listener: SocketAddr) -> io::Result<bool> {
    let kernel = diagnosis()?;
    send(&kernel, &question(listener), SendFlags::DONTWAIT)?;
    // The answer is made while the question is sent. How it begins is enough: with a socket, or the end.
    let mut answer = [0_u8; 512];
    let (_, length) = recv(&kernel, &mut answer[..], RecvFlags::DONTWAIT)?;
    match (length.min(answer.len()) >= HEADER).then(|| u16::from_ne_bytes([answer[4], answer[5]])) {
        Some(BY_FAMILY) => Ok(true),
        Some(DONE) => Ok(false),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn diagnosis() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let diagnosis = Some(netlink::SOCK_DIAG);
    Ok(socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, diagnosis)?)
}

/// The kernel filters by family, state and the listener's port. An IPv6 listener that serves IPv4 as well
/// has the handshakes of both in its own family.
fn question(listener: SocketAddr) -> [u8; QUESTION] {
    let family = if listener.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let mut question = [0; QUESTION];
    question[..4].copy_from_slice(&(QUESTION as u32).to_ne_bytes());
    question[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    question[6..8].copy_from_slice(&ALL.to_ne_bytes());
    question[HEADER] = family.as_raw() as u8;
    question[HEADER + 1] = TCP;
    question[HEADER + 4..HEADER + 8].copy_from_slice(&HALF_OPEN.to_ne_bytes());
    question[HEADER + 8..HEADER + 10].copy_from_slice(&listener.port().to_be_bytes());
    // No single socket is meant.
    question[QUESTION - 8..].fill(0xff);
    question
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::listener::{ListenOptions, Listener};
    use crate::sys::poll::{Interest, wait_one};
    use socket2::{SockFilter, SockRef};
    use std::io::Write;
    use std::net::TcpStream;
    use std::time::Duration;

    /// Drops what only acknowledges: the last packet of a handshake, until data comes along.
    const NO_ACKS: [SockFilter; 5] = [
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x54, 0, 0, 0x12),
        SockFilter::new(0x15, 0, 1, 0x10),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];

    #[test]
    fn a_handshake_is_under_way_until_its_last_packet_has_come() {
        for (dual_stack, addr, ip) in [
            (false, "127.0.0.1:0", "127.0.0.1"),
            (false, "[::1]:0", "::1"),
            (true, "[::]:0", "127.0.0.1"),
        ] {
            let keep_alive = (Duration::from_secs(60), Duration::from_secs(10), 3);
            let user_timeout = Duration::from_secs(60);
            let (backlog, reuse_port, mode) = (16, false, None);
            let options =
                ListenOptions { backlog, dual_stack, reuse_port, mode, keep_alive, user_timeout };
            let listener = Listener::tcp(addr.parse().expect("an address"), &options, &|_| Ok(()));
            let listener = listener.expect("a port");
            let at = listener.local().ok().and_then(|local| local.socket_addr());
            let at = at.expect("its address");
            assert!(!are_under_way(at).expect("the system says"), "{addr}");

            SockRef::from(&listener).attach_filter(&NO_ACKS).expect("a filter");
            let to = SocketAddr::new(ip.parse().expect("an address"), at.port());
            let mut client = TcpStream::connect(to).expect("for the client it is over");
            assert!(are_under_way(at).expect("the system says"), "{addr}");

            SockRef::from(&listener).detach_filter().expect("it was there");
            client.write_all(b"x").expect("sent");
            let patience = Some(Duration::from_secs(10));
            wait_one(&listener, Interest::Read, None, patience).expect("it is queued");
            assert!(!are_under_way(at).expect("the system says"), "{addr}");
        }
    }
}
