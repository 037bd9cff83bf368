//! What can go wrong before a server runs, or as it is driven: what was being done, to what, and why.

use std::fmt;
use std::io;

/// A server could not be started or served.
///
/// One line says what was being done, to which address, and why it failed. `Debug` prints the same
/// line, so that a `main` that returns it shows it to a person.
///
/// ```
/// use switchboard::{Server, handler_fn, Next};
///
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
/// let error = server.tcp("no-port-in-here").bind().unwrap_err();
/// assert!(error.to_string().starts_with("cannot listen on tcp://no-port-in-here: "));
/// ```
pub struct Error {
    doing: String,
    kind: ErrorKind,
    source: Option<io::Error>,
}

/// What kind of failure an [`Error`] is.
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
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn listen(what: impl fmt::Display, source: io::Error) -> Self {
        Self {
            doing: format!("cannot listen on {what}"),
            kind: ErrorKind::Listen,
            source: Some(source),
        }
    }

    pub(crate) fn config(what: impl Into<String>) -> Self {
        Self { doing: what.into(), kind: ErrorKind::Config, source: None }
    }

    pub(crate) fn over(what: impl Into<String>) -> Self {
        Self { doing: what.into(), kind: ErrorKind::Over, source: None }
    }

    pub(crate) fn system(doing: impl Into<String>, source: io::Error) -> Self {
        Self { doing: doing.into(), kind: ErrorKind::System, source: Some(source) }
    }

    #[cfg(feature = "signals")]
    pub(crate) fn signals(source: io::Error) -> Self {
        let doing = "cannot watch for signals".to_owned();
        Self { doing, kind: ErrorKind::Signals, source: Some(source) }
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
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
