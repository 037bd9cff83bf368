//! Where to listen, or whom to call: `tcp://127.0.0.1:9999`, `udp://[::1]:0`, `unix:/run/echo.sock`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use switchboard::Listen;

/// A transport and an address there. A host may be a name, and a port 0. The name of a Unix socket is a
/// path, or a name in the abstract namespace if it begins with `@`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Url {
    /// `HOST:PORT`, to be resolved by the standard library.
    Tcp(String),
    /// `HOST:PORT` as well.
    Udp(String),
    /// The name of a Unix stream socket.
    Unix(String),
    /// The name of a Unix datagram socket.
    UnixGram(String),
}

impl Url {
    pub(crate) fn listen(&self) -> Listen {
        match self {
            Self::Tcp(addr) => Listen::tcp(addr),
            Self::Udp(addr) => Listen::udp(addr),
            Self::Unix(name) => Listen::unix(name),
            Self::UnixGram(name) => Listen::unixgram(name),
        }
    }

    pub(crate) fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp(_) | Self::UnixGram(_))
    }

    /// Whether it is a Unix socket that has a file.
    pub(crate) fn has_a_file(&self) -> bool {
        matches!(self, Self::Unix(name) | Self::UnixGram(name) if !name.starts_with('@'))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "tcp://{addr}"),
            Self::Udp(addr) => write!(f, "udp://{addr}"),
            Self::Unix(name) => write!(f, "unix:{name}"),
            Self::UnixGram(name) => write!(f, "unixgram:{name}"),
        }
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write tcp://HOST:PORT, udp://HOST:PORT, unix:PATH or unixgram:PATH";
        let Some((scheme, rest)) = text.split_once(':') else { return Err(FORM.to_owned()) };
        if let Some((_, query)) = rest.split_once('?') {
            return Err(format!("\"?{query}\": no settings are taken from an address here"));
        }
        let host_and_port = || {
            let rest = rest.strip_prefix("//").ok_or_else(|| FORM.to_owned())?;
            check_host_and_port(rest).map(|()| rest.to_owned())
        };
        match scheme {
            "tcp" => host_and_port().map(Self::Tcp),
            "udp" => host_and_port().map(Self::Udp),
            "unix" => socket_name(rest).map(Self::Unix),
            "unixgram" => socket_name(rest).map(Self::UnixGram),
            _ => Err(format!("unknown scheme {scheme:?}; {FORM}")),
        }
    }
}

/// How long it may be is the system's affair: that is said when it is bound or called.
fn socket_name(text: &str) -> Result<String, String> {
    match text {
        "" => Err("the path is missing".to_owned()),
        "@" => Err("the abstract name is missing".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

fn check_host_and_port(text: &str) -> Result<(), String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("{text:?} has no port"));
    };
    if port.parse::<u16>().is_err() || port.starts_with('+') {
        return Err(format!("{port:?} is no port between 0 and 65535"));
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let why = |_| format!("{v6:?} is no IPv6 address");
        return v6.parse::<Ipv6Addr>().map(drop).map_err(why);
    }
    let strange = |c: char| c.is_whitespace() || c.is_control() || "/@[]".contains(c);
    match host {
        "" => Err("the host is missing".to_owned()),
        _ if host.contains(':') => Err("put an IPv6 address in brackets: [::1]:9999".to_owned()),
        _ if host.contains(strange) => Err(format!("{host:?} is no host")),
        _ => Ok(()),
    }
}
