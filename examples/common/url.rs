//! Where to listen, or whom to call: `tcp://127.0.0.1:9999`, `udp://[::1]:0`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use switchboard::Listen;

/// A transport, a host and a port. The host may be a name, and the port 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) transport: Transport,
    host_and_port: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

impl Url {
    /// `HOST:PORT`, to be resolved by the standard library.
    pub(crate) fn addr(&self) -> &str {
        &self.host_and_port
    }

    pub(crate) fn listen(&self) -> Listen {
        match self.transport {
            Transport::Tcp => Listen::tcp(self.addr()),
            Transport::Udp => Listen::udp(self.addr()),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        write!(f, "{scheme}://{}", self.host_and_port)
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write tcp://HOST:PORT or udp://HOST:PORT";
        let Some((scheme, rest)) = text.split_once(':') else { return Err(FORM.to_owned()) };
        let transport = match scheme {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            "unix" | "unixgram" => return Err(format!("{scheme}: is not supported yet; {FORM}")),
            _ => return Err(format!("unknown scheme {scheme:?}; {FORM}")),
        };
        let Some(rest) = rest.strip_prefix("//") else { return Err(FORM.to_owned()) };
        if let Some((_, query)) = rest.split_once('?') {
            return Err(format!("\"?{query}\": no settings are taken from an address here"));
        }
        check_host_and_port(rest)?;
        Ok(Self { transport, host_and_port: rest.to_owned() })
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
