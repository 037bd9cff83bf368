//! Opening the reference server's listeners.
use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::target::Target;

const BACKLOG: i32 = 4096;

/// A listener at this address, and the address with its real port.
///
/// # Errors
/// What the system says.
pub(crate) fn listen(target: &Target) -> std::io::Result<(OwnedFd, Target)> {
    let (domain, kind, addr) = match target {
        Target::Tcp(addr) => (Domain::for_address(*addr), Type::STREAM, SockAddr::from(*addr)),
        Target::Udp(addr) => (Domain::for_address(*addr), Type::DGRAM, SockAddr::from(*addr)),
        Target::Unix(path) => (Domain::UNIX, Type::STREAM, SockAddr::unix(path)?),
        Target::UnixGram(path) => (Domain::UNIX, Type::DGRAM, SockAddr::unix(path)?),
    };
    if let Target::Unix(path) | Target::UnixGram(path) = target
        && fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
    {
        // Left over from a server that did not end well; anything else than a socket is not touched.
        fs::remove_file(path)?;
    }
    let socket = Socket::new(domain, kind.nonblocking(), None)?;
    if let Target::Tcp(_) = target {
        socket.set_reuse_address(true)?;
    }
    if let Target::Udp(_) = target {
        socket.set_recv_buffer_size(4 << 20)?;
    }
    socket.bind(&addr)?;
    if target.is_stream() {
        socket.listen(BACKLOG)?;
    }
    let real: Option<SocketAddr> = socket.local_addr()?.as_socket();
    let target = match (target, real) {
        (Target::Tcp(_), Some(real)) => Target::Tcp(real),
        (Target::Udp(_), Some(real)) => Target::Udp(real),
        _ => target.clone(),
    };
    Ok((socket.into(), target))
}
