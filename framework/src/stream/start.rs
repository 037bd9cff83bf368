//! How a connection starts: the filter, the factory, setup; and how another handler takes over.

use crate::config::MOST_SWITCHES;
use crate::filter::Verdict;
use crate::handler::{Handler, Step, discard, isolated};
use crate::reason::CloseReason;
use crate::stream::connection::Service;
use crate::stream::turn::Turn;

impl Turn<'_> {
    /// Asks the filter, then the factory for the handler, and sets it up.
    pub(super) fn start(&mut self) {
        let peer = &self.conn.line.peer;
        let verdict = match &self.conn.line.settings.filter {
            Some(filter) => isolated(|| Ok(filter(peer))),
            None => Ok(Verdict::Accept),
        };
        let admitted = verdict.and_then(|verdict| match verdict {
            Verdict::Accept => Ok(()),
            Verdict::Reject => Err(CloseReason::Filtered),
            Verdict::RejectWith(bytes) => {
                self.desk.out.extend_from_slice(&bytes);
                Err(CloseReason::Filtered)
            }
        });
        let made = admitted.and_then(|()| match &mut self.conn.service {
            Service::Messages(actor) => actor.make(peer),
            Service::Bytes(actor) => actor.make(peer),
        });
        match made {
            Ok(()) => self.set_up(),
            Err(reason) => self.step(Step::Close(reason)),
        }
    }

    fn set_up(&mut self) {
        if let Service::Bytes(_) = self.conn.service {
            return self.set_up_conversation();
        }
        self.call(CloseReason::Done, |handler, cx| handler.setup(cx), |actor| actor.is_set_up());
    }

    /// Lets another handler take over, with the bytes not handled yet.
    pub(super) fn switch(&mut self, next: Box<dyn Handler>) {
        self.switches += 1;
        let refused = match &mut self.conn.service {
            // Two that switch to one another in `setup` would go on for ever.
            _ if self.switches > MOST_SWITCHES => {
                format!("{MOST_SWITCHES} handlers took over from one another without a message")
            }
            Service::Messages(actor) => {
                actor.switch(next);
                return self.set_up();
            }
            Service::Bytes(_) => {
                "a StreamHandler cannot switch: its bytes have no framing".to_owned()
            }
        };
        discard(next);
        self.step(Step::Close(CloseReason::HandlerErr(refused)));
    }
}
