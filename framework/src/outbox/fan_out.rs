//! One message on its way to all members: framed once for each framing, and turns ordered together.

use std::sync::{Arc, Weak};

use crate::codec::{EncodeError, Framing};
use crate::outbox::group::Shared;
use crate::outbox::lane::{Missed, Room, Share, Urgency};
use crate::outbox::line::Reach;
use crate::outbox::rules::GroupRules;
use crate::outbox::share::{Delivered, Delivery};
use crate::outbox::{Chunk, DatagramOutlet, Line, LineSettings, Post};
use crate::peer::ConnectionId;

/// What became of a message that was sent to a [`Group`](crate::Group).
///
/// `taken`, `dropped`, `ended`, `gone`, `unframed` and `refused` add up to the members that it was meant
/// for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FanOut {
    /// Members that it has left for, or for whom it waits.
    pub taken: usize,
    /// Members for whom it was dropped: as much waits as may.
    pub dropped: usize,
    /// Older messages that were dropped to make room for it, over all members.
    pub made_room: usize,
    /// Members whose connection ends now, since as much waits as may.
    pub ended: usize,
    /// Members that left while it was sent.
    pub gone: usize,
    /// Members whose framing cannot carry it.
    pub unframed: usize,
    /// Why, once for each listener with such members.
    pub errors: Vec<EncodeError>,
    /// Members to whom the system refused to send it. (Over datagrams only.)
    pub refused: usize,
}

impl FanOut {
    /// Whether everybody took it who is still a member, and nothing was dropped for it.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.dropped + self.made_room + self.ended + self.unframed + self.refused == 0
    }

    /// How many messages were dropped: this one, or older ones to make room for it.
    #[must_use]
    pub const fn skipped(&self) -> usize {
        self.dropped + self.made_room
    }
}

/// One message under way to the members of a group.
pub(super) struct Publication<'a> {
    rules: &'a GroupRules,
    group: &'a Weak<Shared>,
    message: &'a Arc<[u8]>,
    urgency: Urgency,
    reached: Vec<Reached>,
    result: FanOut,
}

/// What the members of one listener have in common.
struct Reached {
    settings: Arc<LineSettings>,
    /// `None`: their server is no more.
    post: Option<Arc<dyn Post>>,
    reach: Reach,
    framed: Result<Chunk, EncodeError>,
    last_word: Option<Chunk>,
    /// Who is to have a turn.
    waiting: Vec<ConnectionId>,
    /// The sockets that hold datagrams for them.
    outlets: Vec<Arc<dyn DatagramOutlet>>,
    taken: usize,
    skipped: usize,
}

impl Reached {
    fn new(line: &Line, message: &Arc<[u8]>, rules: &GroupRules) -> Self {
        let settings = line.settings.clone();
        let post = settings.post.upgrade();
        let reach = post.as_ref().map_or(Reach::ByTurns, |post| post.reach());
        let raw = Framing::raw();
        let framing = if line.peer.is_datagram() { &raw } else { &settings.framing };
        let too_long = line.longest().filter(|longest| message.len() > *longest);
        let framed = match too_long {
            Some(max) => Err(EncodeError::TooLong { len: message.len(), max }),
            None => Chunk::shared(framing, message),
        };
        let last_word = rules.last_word.as_ref();
        let last_word = last_word.and_then(|word| Chunk::shared(framing, word).ok());
        let (waiting, outlets) = (Vec::new(), Vec::new());
        Self { settings, post, reach, framed, last_word, waiting, outlets, taken: 0, skipped: 0 }
    }

    fn is_of(&self, line: &Line) -> bool {
        Arc::ptr_eq(&self.settings, &line.settings)
    }

    fn remember(&mut self, outlet: Arc<dyn DatagramOutlet>) {
        let is_it = |known: &Arc<dyn DatagramOutlet>| {
            std::ptr::addr_eq(Arc::as_ptr(known), Arc::as_ptr(&outlet))
        };
        if !self.outlets.iter().any(is_it) {
            self.outlets.push(outlet);
        }
    }
}

impl<'a> Publication<'a> {
    pub(super) fn new(
        rules: &'a GroupRules,
        group: &'a Weak<Shared>,
        message: &'a Arc<[u8]>,
        urgency: Urgency,
    ) -> Self {
        let (reached, result) = (Vec::new(), FanOut::default());
        Self { rules, group, message, urgency, reached, result }
    }

    /// Delivers to one member. Returns whether it still is one.
    pub(super) fn deliver(&mut self, line: &Line) -> bool {
        let Self { rules, group, message, urgency, reached, result } = self;
        let found = reached.iter().position(|reached| reached.is_of(line)).unwrap_or_else(|| {
            reached.push(Reached::new(line, message, rules));
            if let Some(Err(why)) = reached.last().map(|reached| &reached.framed) {
                result.errors.push(why.clone());
            }
            reached.len() - 1
        });
        let listener = &mut reached[found];
        let Some(post) = &listener.post else {
            result.gone += 1;
            return false;
        };
        let Ok(chunk) = &listener.framed else {
            result.unframed += 1;
            return true;
        };
        let overflow = rules.overflow.unwrap_or(listener.settings.overflow);
        let whole = Room::OfAll(listener.settings.marks.cap);
        let share = Share {
            group,
            urgency: *urgency,
            overflow,
            room: rules.limit.map_or(whole, Room::OfGroup),
            missed: if rules.notice.is_some() { Missed::Told } else { Missed::Untold },
        };
        let last_word = listener.last_word.as_ref();
        let delivery = Delivery { post: &**post, reach: listener.reach, chunk, last_word, share };
        let delivered = line.send_to_member(&delivery);
        match delivered {
            Delivered::Left => listener.taken += 1,
            Delivered::Waits { dropped } => {
                listener.waiting.push(line.id);
                listener.taken += 1;
                listener.skipped += dropped;
                result.made_room += dropped;
            }
            Delivered::Queued(outlet) => {
                listener.taken += 1;
                listener.remember(outlet);
            }
            Delivered::Dropped(dropped) => {
                listener.skipped += dropped;
                result.dropped += 1;
                result.made_room += dropped - 1;
            }
            Delivered::Overflow => result.ended += 1,
            Delivered::Refused => result.refused += 1,
            Delivered::Gone => {
                result.gone += 1;
                return false;
            }
        }
        true
    }

    /// Orders the turns, and says what became of the message.
    pub(super) fn finish(self) -> FanOut {
        let Self { reached, mut result, .. } = self;
        for listener in reached {
            result.taken += listener.taken;
            listener.outlets.iter().for_each(|outlet| outlet.flush());
            let Some(post) = listener.post else { continue };
            if !listener.waiting.is_empty() {
                post.deliver_all(&mut listener.waiting.into_iter());
            }
            if listener.skipped > 0 {
                post.skipped(listener.skipped);
            }
            post.fanned_out(listener.taken);
        }
        result
    }
}
