//! Who serves: a factory or a handler, and what kinds of transports it fits.

use std::sync::Arc;

use crate::datagram::DatagramService;
use crate::handler::{DatagramHandler, Factory, Handler, StreamHandler};
use crate::peer::Peer;
use crate::stream::ServiceFactory;

/// Who serves the peers of a listener.
#[derive(Clone)]
pub(crate) enum Services {
    Messages(Factory<dyn Handler>),
    Bytes(Factory<dyn StreamHandler>),
    Datagrams(Arc<dyn DatagramHandler>),
}

impl Services {
    pub(super) fn messages<F, H>(factory: F) -> Self
    where
        F: Fn(&Peer) -> H + Send + Sync + 'static,
        H: Handler,
    {
        Self::Messages(Arc::new(move |peer| Box::new(factory(peer))))
    }

    pub(super) fn bytes<F, H>(factory: F) -> Self
    where
        F: Fn(&Peer) -> H + Send + Sync + 'static,
        H: StreamHandler,
    {
        Self::Bytes(Arc::new(move |peer| Box::new(factory(peer))))
    }

    /// What it is called, where it does not fit.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Messages(_) => "a Handler",
            Self::Bytes(_) => "a StreamHandler",
            Self::Datagrams(_) => "a DatagramHandler",
        }
    }

    /// For connections, if it can serve them.
    pub(super) fn of_streams(&self) -> Option<ServiceFactory> {
        match self {
            Self::Messages(factory) => Some(ServiceFactory::Messages(factory.clone())),
            Self::Bytes(factory) => Some(ServiceFactory::Bytes(factory.clone())),
            Self::Datagrams(_) => None,
        }
    }

    /// For datagrams, if it can serve them.
    pub(super) fn of_datagrams(&self) -> Option<DatagramService> {
        match self {
            Self::Messages(factory) => Some(DatagramService::Sessions(factory.clone())),
            Self::Datagrams(handler) => Some(DatagramService::Raw(handler.clone())),
            Self::Bytes(_) => None,
        }
    }
}
