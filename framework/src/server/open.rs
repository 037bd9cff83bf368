//! Opening the listeners of a server: all of them, or none.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use crate::codec::Framing;
use crate::datagram::DatagramListener;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::outbox::{LineSettings, Post};
use crate::peer::Address;
use crate::schedule::Sources;
use crate::server::listen::{How, Listen, Source};
use crate::server::services::Services;
use crate::stage::Core;
use crate::stream::listen::StreamListener;
use crate::sys::datagrams::{DatagramOptions, DatagramSocket};
use crate::sys::listener::{Configure, ListenOptions, Listener};

/// Sockets that may share a port.
const MOST_SOCKETS: usize = 64;

/// What holds for listeners that do not say otherwise.
pub(super) struct Defaults {
    pub(super) services: Services,
    pub(super) framing: Framing,
    pub(super) filter: Option<Filter>,
}

impl Defaults {
    fn services_of<'a>(&'a self, how: &'a How) -> &'a Services {
        how.services.as_ref().unwrap_or(&self.services)
    }

    /// Refuses a listener that cannot be meant.
    pub(super) fn check(&self, listen: &Listen) -> Result<()> {
        let Listen { source, how } = listen;
        let services = self.services_of(how);
        let serves = match source.is_datagram() {
            true => services.of_datagrams().is_some(),
            false => services.of_streams().is_some(),
        };
        let name = &how.name;
        if !serves {
            return self.misfit(how);
        }
        match (source, how.sockets) {
            (_, 0) => {
                Err(Error::config(format!("{name}: reuse_port is zero: nobody would listen")))
            }
            (_, 1) | (Source::Tcp(_) | Source::Udp(_), 2..=MOST_SOCKETS) => Ok(()),
            (Source::Tcp(_) | Source::Udp(_), many) => Err(Error::config(format!(
                "{name}: reuse_port is {many}; at most {MOST_SOCKETS} sockets share a port"
            ))),
            _ => Err(Error::config(format!(
                "{name}: reuse_port is for TCP and UDP addresses: no two sockets share this one"
            ))),
        }
    }

    fn misfit(&self, how: &How) -> Result<()> {
        let (service, name) = (self.services_of(how).name(), &how.name);
        Err(Error::config(format!("{service} cannot serve {name}")))
    }

    fn settings(&self, how: &How, core: &Core, post: &Weak<dyn Post>) -> LineSettings {
        let framing = match self.services_of(how) {
            // Whoever reads and writes bytes as they are has no framing, nor have its remotes.
            Services::Bytes(_) => Framing::raw(),
            _ => how.framing.as_ref().unwrap_or(&self.framing).clone(),
        };
        let filter = how.filter.as_ref().or(self.filter.as_ref()).cloned();
        let (live, post, open_sockets) = (core.live.clone(), post.clone(), AtomicUsize::new(0));
        LineSettings { framing, filter, live, post, open_sockets }
    }
}

/// The listeners that are open so far.
pub(super) struct Opening<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) post: Weak<dyn Post>,
    pub(super) defaults: &'a Defaults,
    pub(super) sources: Sources,
    /// One for each [`Listen`], in their order.
    pub(super) addresses: Vec<Address>,
}

impl Opening<'_> {
    /// Opens one more.
    pub(super) fn open(&mut self, listen: Listen) -> Result<()> {
        let Listen { source, how } = listen;
        if self.core.is_in_memory() {
            return self.open_in_memory(source, &how);
        }
        let nothing: Arc<Configure> = Arc::new(|_| Ok(()));
        let configure = how.configure.clone().unwrap_or(nothing);
        match source {
            Source::Tcp(addrs) => {
                let options = self.listen_options(&how);
                let bind = |addr| Listener::tcp(addr, &options, &*configure);
                let local = |listener: &Listener| listener.local().ok()?.socket_addr();
                let sockets = several(&how, addrs, bind, local)?;
                self.streams(&how, sockets)
            }
            Source::Unix(name) => {
                let options = self.listen_options(&how);
                let bound = Listener::unix(&name, &options, &*configure);
                self.streams(&how, vec![failing(&how, bound)?])
            }
            Source::Streams(fd) => {
                let options = self.listen_options(&how);
                let bound = Listener::adopt(fd, &options, &*configure, how.shared);
                self.streams(&how, vec![failing(&how, bound)?])
            }
            Source::Udp(addrs) => {
                let options = self.datagram_options(&how);
                let bind = |addr| DatagramSocket::udp(addr, &options, &*configure);
                let local = |socket: &DatagramSocket| socket.local().socket_addr();
                let sockets = several(&how, addrs, bind, local)?;
                self.datagrams(&how, sockets)
            }
            Source::UnixGram(name) => {
                let options = self.datagram_options(&how);
                let bound = DatagramSocket::unix(&name, &options, &*configure);
                self.datagrams(&how, vec![failing(&how, bound)?])
            }
            Source::Datagrams(fd) => {
                let options = self.datagram_options(&how);
                let bound = DatagramSocket::adopt(fd, &options, &*configure);
                self.datagrams(&how, vec![failing(&how, bound)?])
            }
        }
    }

    fn listen_options(&self, how: &How) -> ListenOptions {
        let config = &self.core.config;
        ListenOptions {
            backlog: config.backlog,
            dual_stack: how.dual_stack,
            reuse_port: how.sockets > 1,
            mode: how.mode,
            keep_alive: config.keep_alive,
            user_timeout: config.user_timeout,
        }
    }

    fn datagram_options(&self, how: &How) -> DatagramOptions {
        DatagramOptions {
            dual_stack: how.dual_stack,
            reuse_port: how.sockets > 1,
            mode: how.mode,
            buffer: self.core.config.receive_buffer,
        }
    }

    fn streams(&mut self, how: &How, sockets: Vec<Listener>) -> Result<()> {
        let settings = Arc::new(self.defaults.settings(how, self.core, &self.post));
        let Some(factory) = self.defaults.services_of(how).of_streams() else {
            return self.defaults.misfit(how);
        };
        let first = self.sources.streams.len();
        for socket in sockets {
            let listener = StreamListener::new(socket, factory.clone(), settings.clone());
            self.sources.streams.push(Arc::new(failing(how, listener)?));
        }
        let addresses = self.sources.streams[first..].iter().map(|open| open.address.clone());
        self.addresses.extend(addresses.take(1));
        Ok(())
    }

    /// A listener in memory: whoever connects is handed over.
    pub(super) fn streams_in_memory(&mut self, how: &How, address: Address) -> Result<()> {
        let settings = Arc::new(self.defaults.settings(how, self.core, &self.post));
        let Some(factory) = self.defaults.services_of(how).of_streams() else {
            return self.defaults.misfit(how);
        };
        let listener = StreamListener::in_memory(address.clone(), factory, settings);
        self.sources.streams.push(Arc::new(listener));
        self.addresses.push(address);
        Ok(())
    }

    pub(super) fn datagrams(&mut self, how: &How, sockets: Vec<DatagramSocket>) -> Result<()> {
        let settings = Arc::new(self.defaults.settings(how, self.core, &self.post));
        let first = self.sources.datagrams.len();
        for (index, socket) in (first..).zip(sockets) {
            let Some(service) = self.defaults.services_of(how).of_datagrams() else {
                return self.defaults.misfit(how);
            };
            let (settings, core) = (settings.clone(), self.core.clone());
            let open = DatagramListener::new(index, socket, service, settings, core);
            self.sources.datagrams.push(Arc::new(open.shared(how.shared)));
        }
        let addresses = self.sources.datagrams[first..].iter().map(|open| open.address.clone());
        self.addresses.extend(addresses.take(1));
        Ok(())
    }
}

/// Binds to the first address that is free; further sockets to that one's, with the port it was given.
fn several<T>(
    how: &How,
    addrs: io::Result<Vec<SocketAddr>>,
    bind: impl Fn(SocketAddr) -> io::Result<T>,
    local: impl Fn(&T) -> Option<SocketAddr>,
) -> Result<Vec<T>> {
    let addrs = failing(how, addrs)?;
    let nowhere = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    let mut bound = Err(nowhere);
    for addr in addrs {
        bound = bind(addr);
        if bound.is_ok() {
            break;
        }
    }
    let mut sockets = vec![failing(how, bound)?];
    while sockets.len() < how.sockets
        && let Some(addr) = sockets.first().and_then(&local)
    {
        sockets.push(failing(how, bind(addr))?);
    }
    Ok(sockets)
}

fn failing<T>(how: &How, result: io::Result<T>) -> Result<T> {
    result.map_err(|error| Error::listen(&how.name, error))
}
