//! The error numbers that a stage decides by, under their names.

use rustix::io::Errno;

/// Nobody is queued. (EWOULDBLOCK is the same number here.)
pub(crate) const AGAIN: i32 = Errno::AGAIN.raw_os_error();

/// What accept(2) reports of one connection: somebody connected and failed, or a filter of the system's
/// said no. The manual tells Linux servers to treat pending network errors of the new socket like "try
/// again".
pub(crate) const ONE_CONNECTIONS: [i32; 12] = [
    Errno::INTR.raw_os_error(),
    Errno::CONNABORTED.raw_os_error(),
    Errno::PROTO.raw_os_error(),
    Errno::NOPROTOOPT.raw_os_error(),
    Errno::HOSTDOWN.raw_os_error(),
    Errno::NONET.raw_os_error(),
    Errno::HOSTUNREACH.raw_os_error(),
    Errno::OPNOTSUPP.raw_os_error(),
    Errno::NETDOWN.raw_os_error(),
    Errno::NETUNREACH.raw_os_error(),
    Errno::TIMEDOUT.raw_os_error(),
    Errno::PERM.raw_os_error(),
];

/// What it reports of the listening socket itself: it is none.
pub(crate) const BROKEN_LISTENER: [i32; 3] =
    [Errno::BADF.raw_os_error(), Errno::NOTSOCK.raw_os_error(), Errno::INVAL.raw_os_error()];

/// A datagram is longer than its transport carries.
pub(crate) const TOO_LONG: i32 = Errno::MSGSIZE.raw_os_error();
