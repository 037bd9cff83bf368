//! The operating system: the only place that names a platform, a descriptor or a system call.
//!
//! Everything above speaks of sockets, readiness and addresses in the words of this module, so that
//! another system, or a simulated one, can replace it whole. Nothing here decides anything: policy is
//! in the stages that call.

pub(crate) mod poll;
pub(crate) mod wake;

pub(crate) mod datagrams;
pub(crate) mod handshakes;
mod inet_datagrams;
pub(crate) mod listener;
pub(crate) mod memory;
pub(crate) mod memory_datagrams;
pub(crate) mod socket;
pub(crate) mod suspend;
mod unix;
mod unix_datagrams;

pub(crate) mod errno;
pub(crate) mod limits;
pub(crate) mod thread;

pub(crate) use std::os::fd::{BorrowedFd, OwnedFd};
pub(crate) use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

pub(crate) use unix::{connect_unix, correspond_unix};

#[cfg(not(target_os = "linux"))]
compile_error!("switchboard runs on Linux only for now: sys/ is written on epoll and eventfd");
