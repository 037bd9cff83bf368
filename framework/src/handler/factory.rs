//! A factory that can be replaced while the server runs: those who come later get the new handlers.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::handler::{Factory, Handler, StreamHandler, discard};

/// The factory of a server, as its listeners share it.
pub(crate) struct Replaceable<H: ?Sized>(Arc<Mutex<Factory<H>>>);

/// What of a server can be replaced.
#[derive(Default)]
pub(crate) enum Factories {
    Messages(Replaceable<dyn Handler>),
    Bytes(Replaceable<dyn StreamHandler>),
    /// One value serves all, and there is no factory.
    #[default]
    None,
}

impl<H: ?Sized> Clone for Replaceable<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H: ?Sized + 'static> Replaceable<H> {
    pub(crate) fn new(factory: Factory<H>) -> Self {
        Self(Arc::new(Mutex::new(factory)))
    }

    /// A factory that asks whichever one is in place at that moment.
    pub(crate) fn factory(&self) -> Factory<H> {
        let place = self.0.clone();
        Arc::new(move |peer| {
            // A copy: the user's code does not run under the lock.
            let factory = place.lock().clone();
            factory(peer)
        })
    }

    pub(crate) fn replace(&self, factory: Factory<H>) {
        let before = std::mem::replace(&mut *self.0.lock(), factory);
        // What it has captured is the user's, and so are the destructors.
        discard(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::{Next, handler_fn};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn listeners_ask_whichever_factory_is_in_place() {
        let calls = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let counting = |at: usize| -> Factory<dyn Handler> {
            let calls = calls[at].clone();
            Arc::new(move |_| {
                calls.fetch_add(1, Ordering::Relaxed);
                Box::new(handler_fn(|_, _| Ok(Next::Close)))
            })
        };
        let place = Replaceable::new(counting(0));
        let listeners = place.factory();
        let tcp = |port| crate::peer::Address::Tcp(([127, 0, 0, 1], port).into());
        let peer = crate::peer::Peer::new(tcp(1), tcp(2));
        drop(listeners(&peer));
        place.replace(counting(1));
        drop(listeners(&peer));
        drop(listeners(&peer));
        let counted = calls.map(|calls| calls.load(Ordering::Relaxed));
        assert_eq!(counted, [1, 2]);
    }
}
