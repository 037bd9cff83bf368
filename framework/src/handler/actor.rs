//! A user's handler from the factory to `finish`: setup once, finish exactly once if setup was fine.

use std::sync::Arc;

use crate::handler::{Handler, StreamHandler, discard, isolated};
use crate::peer::Peer;
use crate::reason::CloseReason;

/// What makes a handler for each peer.
pub(crate) type Factory<H> = Arc<dyn Fn(&Peer) -> Box<H> + Send + Sync>;

/// What every kind of handler is told in the end.
pub(crate) trait Finish {
    fn finished(&mut self, reason: &CloseReason);
}

impl Finish for dyn Handler {
    fn finished(&mut self, reason: &CloseReason) {
        self.finish(reason);
    }
}

impl Finish for dyn StreamHandler {
    fn finished(&mut self, reason: &CloseReason) {
        self.finish(reason);
    }
}

/// A handler, or the promise of one.
pub(crate) enum Actor<H: Finish + ?Sized> {
    /// The factory has not been asked yet.
    Promised(Factory<H>),
    /// It is made; `setup` has not returned Ok.
    Made(Box<H>),
    /// `setup` has returned Ok: `finish` is owed.
    Running(Box<H>),
    /// It has finished.
    Over,
}

impl<H: Finish + ?Sized> Actor<H> {
    /// Asks the factory, if it was not asked yet.
    pub(crate) fn make(&mut self, peer: &Peer) -> Result<(), CloseReason> {
        if let Self::Promised(factory) = self {
            let made = isolated(|| Ok(factory(peer)))?;
            // This may be the last that was left of a factory which another one has replaced.
            discard(std::mem::replace(self, Self::Made(made)));
        }
        Ok(())
    }

    pub(crate) fn handler(&mut self) -> Option<&mut H> {
        match self {
            Self::Made(handler) | Self::Running(handler) => Some(handler),
            Self::Promised(_) | Self::Over => None,
        }
    }

    /// `setup` has returned Ok.
    pub(crate) fn is_set_up(&mut self) {
        if let Self::Made(handler) = std::mem::replace(self, Self::Over) {
            *self = Self::Running(handler);
        }
    }

    /// Another handler takes over: this one finishes, that one is to be set up.
    pub(crate) fn switch(&mut self, next: Box<H>) {
        self.finish(&CloseReason::Switched);
        *self = Self::Made(next);
    }

    /// Tells the handler the reason, if it is owed, and drops it.
    pub(crate) fn finish(&mut self, reason: &CloseReason) {
        let last = std::mem::replace(self, Self::Over);
        // Neither a panic in `finish` nor one in the handler's own destructor leaves here.
        drop(isolated(|| {
            if let Self::Running(mut handler) = last {
                drop(isolated(|| {
                    handler.finished(reason);
                    Ok(())
                }));
                drop(handler);
            }
            Ok(())
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Address;

    /// Panics when it is dropped.
    struct Dies;

    impl Drop for Dies {
        fn drop(&mut self) {
            panic!("planned");
        }
    }

    struct Idle;

    impl Finish for Idle {
        fn finished(&mut self, _reason: &CloseReason) {}
    }

    #[test]
    fn a_replaced_factory_that_panics_at_its_end_harms_nobody() {
        let dies = Dies;
        let factory: Factory<Idle> = Arc::new(move |_| {
            let _dies = &dies;
            Box::new(Idle)
        });
        let addr = Address::Udp(([127, 0, 0, 1], 1).into());
        let mut actor = Actor::Promised(factory);
        assert_eq!(actor.make(&Peer::new(addr.clone(), addr)), Ok(()));
        assert!(actor.handler().is_some());
    }
}
