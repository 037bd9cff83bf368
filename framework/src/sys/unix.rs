//! Names of Unix sockets: to the system and back, bound without stealing, and taken away again.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::fs::{CWD, FileType, Mode, RenameFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType};

use crate::peer::UnixName;

/// The name as the system wants it.
pub(super) fn to_system(name: &UnixName) -> io::Result<SocketAddrUnix> {
    if let Some(bytes) = name.abstract_bytes() {
        return Ok(SocketAddrUnix::new_abstract_name(bytes)?);
    }
    match name.path() {
        Some(path) if path.as_os_str().len() > LONGEST_PATH => {
            let text = "the path is too long for a Unix socket, which takes 107 bytes";
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
        Some(path) => Ok(SocketAddrUnix::new(path)?),
        None => Ok(SocketAddrUnix::new_unnamed()),
    }
}

/// In bytes. Linux takes one more, and leaves out the NUL behind it: others cannot read such a name.
const LONGEST_PATH: usize = 107;

/// The bytes of a whole `sockaddr_un`. The name of a socket whose path has 108 bytes is said to have one
/// more than that.
const WHOLE_ADDRESS: u32 = 110;

/// The name that the system says.
pub(super) fn from_system(addr: Option<SocketAddrAny>) -> UnixName {
    // A path of 108 bytes, which a peer may have chosen to do harm, would be read beyond its end: that
    // peer is taken for one without a name.
    let addr = addr.filter(|addr| addr.addr_len() <= WHOLE_ADDRESS);
    let Some(addr) = addr.and_then(|addr| SocketAddrUnix::try_from(addr).ok()) else {
        return UnixName::unnamed();
    };
    // (An unnamed socket's name is found to be an empty abstract one.)
    if let Some(bytes) = addr.abstract_name().filter(|bytes| !bytes.is_empty()) {
        return UnixName::in_abstract(bytes);
    }
    match addr.path_bytes() {
        // (A relative path that begins with `@` is no abstract name.)
        Some(bytes) if bytes.starts_with(b"@") => {
            UnixName::new(Path::new(".").join(OsStr::from_bytes(bytes)))
        }
        Some(bytes) => UnixName::new(OsStr::from_bytes(bytes)),
        None => UnixName::unnamed(),
    }
}

/// A socket that is made and bound, and the file that is ours to take away.
pub(super) struct Bound {
    pub(super) fd: OwnedFd,
    pub(super) file: Option<SocketFile>,
}

/// Binds a new socket to a name. A file that a dead server left is replaced; a live server's is not, nor
/// anything that is no socket.
pub(super) fn bind(name: &UnixName, kind: SocketType, mode: Option<u32>) -> io::Result<Bound> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    let addr = to_system(name)?;
    let Some(path) = name.path() else {
        rustix::net::bind(&fd, &addr)?;
        return Ok(Bound { fd, file: None });
    };
    // The file takes the socket's own mode (less the umask), so that it is never open to more than it
    // will be in the end.
    let mode = mode.map(Mode::from_raw_mode);
    if let Some(mode) = mode {
        rustix::fs::fchmod(&fd, mode)?;
    }
    match rustix::net::bind(&fd, &addr) {
        Err(Errno::ADDRINUSE) => {
            clear_away(path, &addr, kind)?;
            rustix::net::bind(&fd, &addr)?;
        }
        bound => bound?,
    }
    let file = SocketFile::of(path)?;
    if let Some(mode) = mode {
        rustix::fs::chmod(path, mode)?;
    }
    Ok(Bound { fd, file: Some(file) })
}

/// Takes away the file that a server left which is not there any more.
fn clear_away(path: &Path, addr: &SocketAddrUnix, kind: SocketType) -> io::Result<()> {
    let before = rustix::fs::lstat(path)?;
    if FileType::from_raw_mode(before.st_mode) != FileType::Socket {
        let text = "there is a file of this name, and it is no socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    if is_alive(addr, kind)? {
        return Err(Errno::ADDRINUSE.into());
    }
    // Between the look and the deed somebody else may have bound here. So it is moved aside first: what
    // was moved is looked at once more, and put back if it is not what was found dead.
    let aside = aside(path);
    rustix::fs::rename(path, &aside)?;
    let moved = rustix::fs::lstat(&aside)?;
    if (moved.st_dev, moved.st_ino) == (before.st_dev, before.st_ino) {
        return Ok(rustix::fs::unlink(&aside)?);
    }
    rustix::fs::renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE)?;
    Err(Errno::ADDRINUSE.into())
}

/// A name beside `path` that nobody else takes.
fn aside(path: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut name = path.as_os_str().to_os_string().into_vec();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    name.extend_from_slice(format!(".stale-{}-{count}", std::process::id()).as_bytes());
    PathBuf::from(OsStr::from_bytes(&name))
}

/// Whether a socket is bound to this file. One that is not refuses; anything else is alive, also one of
/// another kind, or one whose queue is full.
fn is_alive(addr: &SocketAddrUnix, kind: SocketType) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    Ok(rustix::net::connect(&probe, addr) != Err(Errno::CONNREFUSED))
}

/// The file of a socket that is ours. It is taken away when this is dropped, or before, once; not if
/// another file stands there by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    dev: u64,
    ino: u64,
    gone: AtomicBool,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let file = rustix::fs::lstat(path)?;
        // Absolute, since the program may change its directory.
        let path = std::path::absolute(path)?;
        Ok(Self { path, dev: file.st_dev, ino: file.st_ino, gone: AtomicBool::new(false) })
    }

    /// Takes it away. To be called while the socket is still alive: a server that starts at this moment
    /// would otherwise find it dead, and bind between our look and our deed.
    pub(super) fn remove(&self) {
        if self.gone.swap(true, Ordering::SeqCst) {
            return;
        }
        let same = |file: &rustix::fs::Stat| (file.st_dev, file.st_ino) == (self.dev, self.ino);
        if rustix::fs::lstat(&self.path).is_ok_and(|file| same(&file)) {
            // Somebody else may have taken it away meanwhile: then it is gone as well.
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The name that a socket is bound to.
pub(super) fn local_name(socket: impl AsFd) -> io::Result<UnixName> {
    Ok(from_system(Some(rustix::net::getsockname(socket)?)))
}
