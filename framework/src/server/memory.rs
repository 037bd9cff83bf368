//! Opening a server in memory: with its own settings and factories, and nothing of the system's.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event::Event;
use crate::peer::{Address, UnixName};
use crate::schedule::{Concurrency, Engine, Sources};
use crate::server::Server;
use crate::server::hooks::tick_of;
use crate::server::listen::{How, Source};
use crate::server::open::Opening;
use crate::server::services::Services;
use crate::stage::Core;
use crate::sys::datagrams::DatagramSocket;

/// Connections that are let in at a time, if the server was not told how many.
const MOST_CONNECTIONS: usize = 1024;

/// In place of port 0: nobody binds here, so that any number is free.
const FIRST_PORT: u16 = 9999;

impl Server {
    /// As it is, but with other factories: a test puts its own around them.
    pub(crate) fn map_services(mut self, map: impl Fn(Services) -> Services) -> Self {
        for listen in &mut self.listeners {
            listen.how.services = listen.how.services.take().map(&map);
        }
        self.defaults.services = map(self.defaults.services);
        self
    }

    /// As it is, or if it was told no address on any port of this machine.
    pub(crate) fn listening_anywhere(self) -> Self {
        match (self.listeners.is_empty(), &self.defaults.services) {
            (true, Services::Datagrams(_)) => self.udp("127.0.0.1:0"),
            (true, Services::Messages(_) | Services::Bytes(_)) => self.tcp("127.0.0.1:0"),
            (false, _) => self,
        }
    }

    /// Opens it in memory. The concurrency that it was told is not used: there is one thread.
    pub(crate) fn open_in_memory(self) -> Result<Arc<Engine>> {
        self.config.check()?;
        self.check()?;
        let Self { defaults, listeners, config, mut hooks, .. } = self;
        let most = config.initial.max_connections.unwrap_or(MOST_CONNECTIONS);
        let core = Arc::new(Core::in_memory(config, hooks.observers()));
        let mut addresses = Vec::new();
        let engine = Engine::new(core.clone(), Concurrency::Inline, (most, most), |post| {
            let (core, sources) = (&core, Sources::default());
            let mut opening =
                Opening { core, post, defaults: &defaults, sources, addresses: Vec::new() };
            listeners.into_iter().try_for_each(|listen| opening.open(listen))?;
            addresses = opening.addresses;
            Ok(opening.sources)
        })?;
        if engine.is_first_to_tell_of_listeners() {
            for address in &addresses {
                core.events.emit(&Event::ListenerStarted { address });
            }
        }
        let addresses: Arc<[Address]> = addresses.into();
        let tick = |on_tick| tick_of(on_tick, Arc::downgrade(&engine), addresses.clone());
        engine.set_ticks(hooks.take_ticks().into_iter().map(tick));
        Ok(engine)
    }
}

impl Opening<'_> {
    /// Opens one more listener in memory.
    pub(super) fn open_in_memory(&mut self, source: Source, how: &How) -> Result<()> {
        let port = FIRST_PORT + self.addresses.len() as u16;
        let address = address_of(source, port, &how.name)?;
        if address.is_datagram() {
            self.datagrams(how, vec![DatagramSocket::in_memory(address)])
        } else {
            self.streams_in_memory(how, address)
        }
    }
}

/// The address that a listener would have.
fn address_of(source: Source, port: u16, name: &str) -> Result<Address> {
    let here = SocketAddr::from(([127, 0, 0, 1], port));
    let first = |addrs: std::io::Result<Vec<SocketAddr>>| -> Result<SocketAddr> {
        let addrs = addrs.map_err(|error| Error::listen(name, error))?;
        let mut addr = addrs.first().copied().unwrap_or(here);
        if addr.port() == 0 {
            addr.set_port(port);
        }
        Ok(addr)
    };
    Ok(match source {
        Source::Tcp(addrs) => Address::Tcp(first(addrs)?),
        Source::Udp(addrs) => Address::Udp(first(addrs)?),
        Source::Unix(name) => Address::Unix(name),
        Source::UnixGram(name) => Address::UnixGram(name),
        // What the program has opened itself is closed unused: an address like its own is not.
        Source::Streams(_) if name.starts_with("unix") => Address::Unix(UnixName::unnamed()),
        Source::Streams(_) => Address::Tcp(here),
        Source::Datagrams(_) if name.starts_with("unix") => Address::UnixGram(UnixName::unnamed()),
        Source::Datagrams(_) => Address::Udp(here),
    })
}
