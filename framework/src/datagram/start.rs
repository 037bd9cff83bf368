//! How a session starts: the filter, the factory, setup; and how another handler takes over.

use crate::config::MOST_SWITCHES;
use crate::datagram::listen::DatagramListener;
use crate::datagram::turn::Turn;
use crate::desk::Desk;
use crate::filter::Verdict;
use crate::handler::{Handler, discard, isolated};
use crate::outbox::Line;
use crate::peer::Peer;
use crate::reason::CloseReason;

impl Turn<'_> {
    /// Asks the filter, then the factory for the handler, and sets it up.
    pub(super) fn start(&mut self) {
        match self.judge() {
            Ok(Verdict::Accept) => {}
            Ok(verdict) => return self.turn_away(&verdict),
            Err(reason) => return self.end(reason),
        }
        match self.session.actor.make(&self.session.line.peer) {
            Ok(()) => self.set_up(),
            Err(reason) => self.end(reason),
        }
    }

    /// Asks the filter, if there is one.
    fn judge(&self) -> Result<Verdict, CloseReason> {
        let Line { peer, settings, .. } = &*self.session.line;
        match &settings.filter {
            Some(filter) => isolated(|| Ok(filter(peer))),
            None => Ok(Verdict::Accept),
        }
    }

    fn turn_away(&mut self, verdict: &Verdict) {
        if let Verdict::RejectWith(bytes) = verdict {
            let peer = &self.session.line.peer;
            self.desk.replies.push(bytes, peer.address(), peer.reached());
            self.session.sent += self.listener.commit(&mut self.desk.replies, None) as u64;
        }
        self.end(CloseReason::Filtered);
    }

    fn set_up(&mut self) {
        self.call(CloseReason::Done, |h, cx| h.setup(cx), |session| session.actor.is_set_up());
    }

    /// Lets another handler take over.
    pub(super) fn switch(&mut self, next: Box<dyn Handler>) {
        self.switches += 1;
        // Two that switch to one another in `setup` would go on for ever.
        if self.switches > MOST_SWITCHES {
            discard(next);
            let text =
                format!("{MOST_SWITCHES} handlers took over from one another without a datagram");
            return self.end(CloseReason::HandlerErr(text));
        }
        self.session.actor.switch(next);
        self.set_up();
    }
}

/// Whether the filter lets this datagram's sender in; if not it is told, if there is something to tell.
pub(super) fn lets_in(listener: &DatagramListener, peer: &Peer, desk: &mut Desk) -> bool {
    let Some(filter) = &listener.settings.filter else { return true };
    match isolated(|| Ok(filter(peer))) {
        Ok(Verdict::Accept) => true,
        Ok(Verdict::RejectWith(bytes)) => {
            desk.replies.push(&bytes, peer.address(), peer.reached());
            listener.commit(&mut desk.replies, None);
            false
        }
        Ok(Verdict::Reject) | Err(_) => false,
    }
}
