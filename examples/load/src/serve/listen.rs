//! Opening the reference server's listeners.
use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;

use socket2::{Domain, Socket, Type};

use crate::target::Target;

const BACKLOG: i32 = 4096;

/// A listener at this address, and the address with its real port.
///
/// # Errors
/// What the system says.
pub(crate) fn listen(target: &Target) -> std::io::Result<(OwnedFd, Target)> {
    let addr = target.sock_addr()?;
    let (domain, kind) = match target {
        Target::Tcp(addr) => (Domain::for_address(*addr), Type::STREAM),
        Target::Udp(addr) => (Domain::for_address(*addr), Type::DGRAM),
        Target::Unix(_) => (Domain::UNIX, Type::STREAM),
        Target::UnixGram(_) => (Domain::UNIX, Type::DGRAM),
    };
    if let Target::Unix(path) | Target::UnixGram(path) = target
        && addr.as_abstract_namespace().is_none()
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
