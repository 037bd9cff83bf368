//! Names of Unix sockets: to the system and back, bound without stealing, and taken away again.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, RenameFlags, Stat};
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
            let _alone = clear_away(path, &addr)?;
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

/// Takes away the file that a server left which is not there any more. Nobody else of us replaces it for
/// as long as what is returned lives.
fn clear_away(path: &Path, addr: &SocketAddrUnix) -> io::Result<Replacing> {
    let found = rustix::fs::lstat(path)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        let text = "there is a file of this name, and it is no socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let alone = Replacing::begin(&found)?;
    // Somebody may have replaced it before that.
    if !is_same(&found, &rustix::fs::lstat(path)?) || is_alive(addr)? {
        return Err(Errno::ADDRINUSE.into());
    }
    // Other programs ask nobody. So it is moved aside first: what was moved is looked at once more, and
    // put back if it is not what was found dead.
    let aside = aside(path);
    rustix::fs::rename(path, &aside)?;
    if is_same(&found, &rustix::fs::lstat(&aside)?) {
        rustix::fs::unlink(&aside)?;
        return Ok(alone);
    }
    rustix::fs::renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE)?;
    Err(Errno::ADDRINUSE.into())
}

fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// The right to replace a dead file, which one alone has: an abstract name, that the system gives back
/// however its owner ends. Numbers of files are used again at once, so that without it somebody who has
/// looked at the dead file would take the one for it that has replaced it.
#[derive(Debug)]
struct Replacing(
    #[expect(dead_code, reason = "it has the name for as long as it is open")] OwnedFd,
);

impl Replacing {
    fn begin(file: &Stat) -> io::Result<Self> {
        let name = format!("switchboard-replaces-{}-{}", file.st_dev, file.st_ino);
        let fd = datagram_socket()?;
        rustix::net::bind(&fd, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        Ok(Self(fd))
    }
}

/// A client of the stream listener with this name, with this patience for everything.
pub(crate) fn connect_unix(name: &UnixName, patience: Duration) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let client = UnixStream::from(socket);
    client.set_read_timeout(Some(patience))?;
    // It is that of `connect` as well, should the queue be full.
    client.set_write_timeout(Some(patience))?;
    rustix::net::connect(&client, &to_system(name)?)?;
    Ok(client)
}

/// A socket with a name of its own that talks to the datagram socket with this one, with this patience for
/// everything.
pub(crate) fn correspond_unix(name: &UnixName, patience: Duration) -> io::Result<UnixDatagram> {
    let client = UnixDatagram::from(datagram_socket()?);
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(patience))?;
    client.set_write_timeout(Some(patience))?;
    // The system chooses an abstract name: whoever has none hears no answer.
    rustix::net::bind(&client, &SocketAddrUnix::new_unnamed())?;
    rustix::net::connect(&client, &to_system(name)?)?;
    Ok(client)
}

fn datagram_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?)
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
/// another kind. (A stream would be refused by a listener that is bound and does not listen yet, and be
/// a client of one that does.)
fn is_alive(addr: &SocketAddrUnix) -> io::Result<bool> {
    Ok(rustix::net::connect(datagram_socket()?, addr) != Err(Errno::CONNREFUSED))
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
        let same = |file: &Stat| (file.st_dev, file.st_ino) == (self.dev, self.ino);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A name in a directory of this test's own.
    fn name_for(test: &str) -> UnixName {
        let dir = std::env::temp_dir().join(format!("switchboard-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        UnixName::new(dir.join("s"))
    }

    fn tidy_up(name: &UnixName) {
        let dir = name.path().and_then(Path::parent).expect("a directory");
        std::fs::remove_dir_all(dir).expect("it is ours");
    }

    #[test]
    fn a_socket_that_is_bound_and_does_not_listen_yet_keeps_its_file() {
        let name = name_for("bound");
        let first = bind(&name, SocketType::STREAM, None).expect("nobody is there");
        for kind in [SocketType::STREAM, SocketType::DGRAM] {
            let error = bind(&name, kind, None).err().expect("somebody is there");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
        rustix::net::listen(&first.fd, 1).expect("it is bound");
        drop(bind(&name, SocketType::STREAM, None).err().expect("somebody is there"));
        let nobody = rustix::net::accept_with(&first.fd, SocketFlags::NONBLOCK);
        assert_eq!(nobody.err(), Some(Errno::AGAIN), "whoever looks is no client");
        drop(first);
        tidy_up(&name);
    }

    #[test]
    fn one_alone_replaces_a_dead_file() {
        let name = name_for("alone");
        let path = name.path().expect("it has one");
        drop(std::os::unix::net::UnixDatagram::bind(path).expect("a file"));
        let first = Replacing::begin(&rustix::fs::lstat(path).expect("the file"));
        let second = bind(&name, SocketType::STREAM, None).err().expect("the first one does it");
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(first.expect("nobody else does"));
        drop(bind(&name, SocketType::STREAM, None).expect("nobody does any more"));
        tidy_up(&name);
    }
}
