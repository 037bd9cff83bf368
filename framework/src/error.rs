//! What can go wrong before a server runs, or as it is driven: what was being done, to what, and why.

use std::fmt;
use std::io;

use crate::fault::Fault;

/// A server could not be started or served.
///
/// One line says what was being done, to which address, and why it failed. `Debug` prints the same
/// line, so that a `main` that returns it shows it to a person. A program asks [`kind`](Error::kind),
/// [`fault`](Error::fault), [`address`](Error::address), and the system's own error as the
/// [`source`](std::error::Error::source).
///
/// Whatever call returned it has closed again what it had opened.
///
/// ```
/// use switchboard::{ErrorKind, Fault, Next, Server, handler_fn};
///
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
/// let error = server.tcp("no-port-in-here").bind().unwrap_err();
/// assert!(error.to_string().starts_with("cannot listen on tcp://no-port-in-here: "));
/// assert_eq!((error.kind(), error.fault()), (ErrorKind::Listen, Fault::Caller));
/// assert_eq!(error.address(), Some("tcp://no-port-in-here"));
/// ```
pub struct Error {
    doing: String,
    kind: ErrorKind,
    address: Option<String>,
    source: Option<io::Error>,
}

/// What kind of failure an [`Error`] is.
///
/// ```
/// use switchboard::{ErrorKind, Next, Server, handler_fn};
///
/// let server = || Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
/// assert_eq!(server().bind().unwrap_err().kind(), ErrorKind::Config, "nothing to listen on");
/// let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// let error = server().tcp(taken.local_addr().unwrap()).bind().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Listen);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A listener could not be opened: the address is busy, foreign, forbidden or not an address.
    Listen,
    /// The settings contradict each other, or one of them makes no sense.
    Config,
    /// The operating system refused something that a running server needs.
    System,
    /// Signals could not be watched (feature `signals`).
    Signals,
    /// The server is being drained or has ended, so that it cannot do this any more.
    Over,
}

/// What starting or serving a server returns.
///
/// ```
/// use switchboard::{Next, ServerHandle, TcpServer, handler_fn};
///
/// fn start() -> switchboard::Result<ServerHandle> {
///     let server = TcpServer::bind("127.0.0.1:0", |_peer| {
///         handler_fn(|_message, _cx| Ok(Next::Continue))
///     })?;
///     Ok(server.spawn()?)
/// }
///
/// start()?.stop();
/// # Ok::<(), switchboard::Error>(())
/// ```
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn listen(what: impl fmt::Display, source: io::Error) -> Self {
        let address = what.to_string();
        Self {
            doing: format!("cannot listen on {address}"),
            kind: ErrorKind::Listen,
            address: Some(address),
            source: Some(source),
        }
    }

    pub(crate) fn suspend(what: impl fmt::Display, source: io::Error) -> Self {
        let (address, source) = (Some(what.to_string()), Some(source));
        Self { doing: format!("cannot suspend {what}"), kind: ErrorKind::System, address, source }
    }

    pub(crate) fn config(what: impl Into<String>) -> Self {
        Self { doing: what.into(), kind: ErrorKind::Config, address: None, source: None }
    }

    pub(crate) fn over(what: impl Into<String>) -> Self {
        Self { doing: what.into(), address: None, kind: ErrorKind::Over, source: None }
    }

    pub(crate) fn system(doing: impl Into<String>, source: io::Error) -> Self {
        let (doing, source) = (doing.into(), Some(source));
        Self { doing, kind: ErrorKind::System, address: None, source }
    }

    #[cfg(feature = "signals")]
    pub(crate) fn signals(source: io::Error) -> Self {
        let doing = "cannot watch for signals".to_owned();
        Self { doing, kind: ErrorKind::Signals, address: None, source: Some(source) }
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was being done, without the system's answer: `cannot listen on tcp://127.0.0.1:80`.
    ///
    /// ```
    /// use switchboard::{Next, Server, handler_fn};
    ///
    /// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
    /// let error = server.tcp("no-port-in-here").bind().unwrap_err();
    /// assert_eq!(error.doing(), "cannot listen on tcp://no-port-in-here");
    /// ```
    #[must_use]
    pub fn doing(&self) -> &str {
        &self.doing
    }

    /// The address that could not be listened on, as it was written, with its transport.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// Whose fault it is: [`Fault::Caller`] where another address or setting would do, else
    /// [`Fault::System`].
    #[must_use]
    pub fn fault(&self) -> Fault {
        match (self.kind, &self.source) {
            (ErrorKind::Config | ErrorKind::Over, _) => Fault::Caller,
            (ErrorKind::Listen, Some(source)) => fault_of_an_address(source.kind()),
            (ErrorKind::Listen | ErrorKind::System | ErrorKind::Signals, _) => Fault::System,
        }
    }
}

/// Whether another address would do, or the system lacks something for any.
fn fault_of_an_address(why: io::ErrorKind) -> Fault {
    use io::ErrorKind::{
        AddrInUse, AddrNotAvailable, AlreadyExists, InvalidInput, NotADirectory, NotFound,
        PermissionDenied, Unsupported,
    };
    match why {
        AddrInUse | AddrNotAvailable | AlreadyExists | InvalidInput | NotADirectory | NotFound
        | PermissionDenied | Unsupported => Fault::Caller,
        _ => Fault::System,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_address_is_the_callers_fault_and_a_lack_of_descriptors_the_systems() {
        let busy = Error::listen("tcp://x:1", io::ErrorKind::AddrInUse.into());
        assert_eq!((busy.fault(), busy.address()), (Fault::Caller, Some("tcp://x:1")));
        // EMFILE
        let full = Error::listen("tcp://x:1", io::Error::from_raw_os_error(24));
        assert_eq!(full.fault(), Fault::System);
        assert_eq!(Error::config("no").fault(), Fault::Caller);
        let refused = Error::system("cannot make a poller", io::ErrorKind::OutOfMemory.into());
        assert_eq!((refused.fault(), refused.address()), (Fault::System, None));
        assert_eq!(refused.doing(), "cannot make a poller");
        let open = Error::suspend("tcp://x:1", io::ErrorKind::OutOfMemory.into());
        assert_eq!((open.kind(), open.address()), (ErrorKind::System, Some("tcp://x:1")));
        assert_eq!(open.doing(), "cannot suspend tcp://x:1");
    }
}
