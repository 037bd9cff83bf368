//! One message on its way to all members: framed once for each framing, and turns ordered together.

use std::cell::OnceCell;
use std::sync::{Arc, Weak};

use crate::codec::{EncodeError, Framing};
use crate::outbox::group::Shared;
use crate::outbox::lane::{Missed, Share, Urgency};
use crate::outbox::line::Reach;
use crate::outbox::rules::GroupRules;
use crate::outbox::share::{Delivered, Delivery};
use crate::outbox::{Chunk, DatagramOutlet, Line, LineSettings, Post};
use crate::peer::ConnectionId;
use crate::unwind::caught;

/// What became of a message that was sent to a [`Group`](crate::Group).
///
/// `taken`, `dropped`, `ended`, `gone`, `unframed` and `refused` add up to the members that it was meant
/// for.
///
/// ```
/// use switchboard::testing::MemoryServer;
/// use switchboard::{Framing, Group, Next, Server, handler_fn};
///
/// let room = Group::new();
/// let joined = room.clone();
/// let server = Server::new(move |_peer| {
///     let room = joined.clone();
///     handler_fn(move |_message, cx| {
///         room.join(&cx.remote());
///         Ok(Next::Continue)
///     })
/// });
/// let server = MemoryServer::new(server.framing(Framing::lines().max_frame(10)));
/// let (mut ada, mut bob) = (server.connect(), server.connect());
/// ada.say("let me in");
/// bob.say("me too");
///
/// let sent = room.send("hello");
/// assert_eq!((sent.taken, sent.is_complete(), sent.skipped()), (2, true, 0));
/// let sent = room.send("longer than a line may be");
/// assert_eq!((sent.taken, sent.unframed, sent.is_complete()), (0, 2, false));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FanOut {
    /// Members that it has left for, or for whom it waits. (Over datagrams: it was put into the queue of
    /// their listener. Whether the system takes it from there is found out when that leaves, and told by
    /// [`Event::ReplyFailed`](crate::Event::ReplyFailed).)
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
    /// Members to whom the system refused to send it, as far as it was tried at once, or for whom it was
    /// withheld since they send back what they are sent. (Over datagrams only.)
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
    /// Framed when the first of them is cut off: mostly nobody ever is.
    last_word: OnceCell<Option<Chunk>>,
    /// Who is to have a turn.
    waiting: Vec<ConnectionId>,
    /// The sockets that hold datagrams for them.
    outlets: Vec<Arc<dyn DatagramOutlet>>,
    taken: usize,
    skipped: usize,
}

impl Reached {
    fn new(line: &Line, message: &Arc<[u8]>) -> Self {
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
        let (last_word, waiting, outlets) = (OnceCell::new(), Vec::new(), Vec::new());
        Self { settings, post, reach, framed, last_word, waiting, outlets, taken: 0, skipped: 0 }
    }

    /// What a member reads last, if that can be framed. A codec of one's own runs here: its panic costs
    /// the last word alone, since the member's end has begun.
    fn last_word(&self, rules: &GroupRules) -> Option<&Chunk> {
        let word = rules.last_word.as_ref()?;
        let framed = || caught(|| Chunk::shared(&self.settings.framing, word).ok())?;
        self.last_word.get_or_init(framed).as_ref()
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
            reached.push(Reached::new(line, message));
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
        let overflow = rules.overflow.unwrap_or(listener.settings.live.overflow());
        let share = Share {
            group,
            urgency: *urgency,
            overflow,
            limit: rules.limit,
            cap: listener.settings.live.marks().cap,
            missed: if rules.notice.is_some() { Missed::Told } else { Missed::Untold },
        };
        let delivery = Delivery { post: &**post, reach: listener.reach, chunk, share };
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
            Delivered::Overflow => {
                line.cut_off(listener.last_word(rules), &**post);
                result.ended += 1;
            }
            Delivered::Refused => result.refused += 1,
            Delivered::Gone => {
                result.gone += 1;
                return false;
            }
        }
        true
    }

    /// Orders the turns, and says what became of the message.
    pub(super) fn finish(mut self) -> FanOut {
        self.order();
        std::mem::take(&mut self.result)
    }

    /// Has turns write what was queued, with one wake-up for each server.
    fn order(&mut self) {
        for listener in self.reached.drain(..) {
            self.result.taken += listener.taken;
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
    }
}

/// Also if a codec of the user panics: what was queued before is not forgotten.
impl Drop for Publication<'_> {
    fn drop(&mut self) {
        self.order();
    }
}

#[cfg(test)]
mod tests {
    use crate::timer::Moment;
    use std::net::IpAddr;
    use std::sync::atomic::AtomicUsize;

    use parking_lot::Mutex;

    use super::*;
    use crate::config::{Limits, Live};
    use crate::outbox::{Group, Remote, SendError};
    use crate::peer::{Address, Peer};

    /// A server that only counts, and its socket.
    #[derive(Default)]
    struct Counting {
        /// Where the bytes of each datagram lay in memory.
        bodies: Mutex<Vec<usize>>,
        /// As `bodies`, of those that were sent one by one.
        alone: Mutex<Vec<usize>>,
        flushes: Mutex<usize>,
        fan_outs: Mutex<Vec<usize>>,
    }

    impl DatagramOutlet for Counting {
        fn send(&self, bytes: &[u8], _: &Address, _: Option<IpAddr>) -> Result<(), SendError> {
            self.alone.lock().push(bytes.as_ptr().addr());
            Ok(())
        }

        fn queue(&self, bytes: &[u8], _: &Address, _: Option<IpAddr>) -> Result<(), SendError> {
            self.bodies.lock().push(bytes.as_ptr().addr());
            Ok(())
        }

        fn flush(&self) {
            *self.flushes.lock() += 1;
        }
    }

    impl Post for Counting {
        fn is_running(&self, _: ConnectionId) -> bool {
            false
        }

        fn deliver(&self, _: ConnectionId) {}

        fn overflowed(&self, _: ConnectionId) {}

        fn try_again(&self, _: usize, _: Moment) {}

        fn sent_aside(&self, _: usize) {}

        fn skipped(&self, _: usize) {}

        fn fanned_out(&self, taken: usize) {
            self.fan_outs.lock().push(taken);
        }

        fn reach(&self) -> Reach {
            Reach::ByTurns
        }
    }

    fn listener(server: &Arc<Counting>, members: u16) -> Vec<Arc<Line>> {
        let post: Arc<dyn Post> = server.clone();
        let settings = Arc::new(LineSettings {
            framing: Framing::lines(),
            filter: None,
            live: Arc::new(Live::new(&Limits::default())),
            post: Arc::downgrade(&post),
            open_sockets: AtomicUsize::new(1),
        });
        let line = |port: u16| {
            let addr = Address::Udp(([127, 0, 0, 1], port).into());
            let peer = Peer::new(addr.clone(), addr);
            Line::datagram(ConnectionId(port.into()), peer, server.clone(), settings.clone())
        };
        (1..=members).map(line).collect()
    }

    #[test]
    fn a_message_is_framed_once_for_each_listener_and_its_bytes_are_nowhere_copied() {
        let server = Arc::new(Counting::default());
        let members = [listener(&server, 100), listener(&server, 200)].concat();
        let (rules, group) = (GroupRules::new(), Weak::new());
        let message: Arc<[u8]> = Arc::from(&b"hello"[..]);
        let mut publication = Publication::new(&rules, &group, &message, Urgency::Ordinary);
        assert!(members.iter().all(|line| publication.deliver(line)));
        assert_eq!(publication.reached.len(), 2);
        assert_eq!(publication.finish().taken, 300);
        let bodies = server.bodies.lock();
        assert!(server.alone.lock().is_empty(), "one by one");
        assert!(bodies.len() == 300 && bodies.iter().all(|body| *body == message.as_ptr().addr()));
        assert_eq!(*server.flushes.lock(), 2, "once for each listener");
        assert_eq!(*server.fan_outs.lock(), [100, 200]);
    }

    #[test]
    fn a_datagram_that_remotes_share_is_nowhere_copied() {
        let server = Arc::new(Counting::default());
        let remotes = listener(&server, 2).into_iter().map(Remote::new);
        let message: Arc<[u8]> = Arc::from(&b"hello"[..]);
        remotes.for_each(|remote| assert_eq!(remote.send_shared(&message), Ok(())));
        assert_eq!(*server.alone.lock(), [message.as_ptr().addr(); 2]);
    }

    #[test]
    fn members_that_were_closed_meanwhile_are_gone() {
        let server = Arc::new(Counting::default());
        let members = listener(&server, 3);
        let (rules, group) = (GroupRules::new(), Weak::new());
        let message: Arc<[u8]> = Arc::from(&b"hello"[..]);
        members.iter().for_each(|line| line.close());
        let mut publication = Publication::new(&rules, &group, &message, Urgency::Ordinary);
        assert!(!members.iter().any(|line| publication.deliver(line)));
        assert_eq!(publication.finish(), FanOut { gone: 3, ..FanOut::default() });
    }

    #[test]
    fn members_remember_no_group_that_they_left_or_that_is_dropped() {
        let server = Arc::new(Counting::default());
        let members = listener(&server, 3);
        let remotes: Vec<Remote> = members.iter().cloned().map(Remote::new).collect();
        let groups = [Group::new(), Group::new(), Group::new()];
        for group in &groups {
            assert!(remotes.iter().all(|remote| group.join(remote) && !group.join(remote)));
        }
        let remembered = |line: &Arc<Line>| line.lock().groups.count();
        assert_eq!(remembered(&members[0]), 3);
        assert!(groups[0].leave(&remotes[0]));
        assert_eq!(remembered(&members[0]), 2);
        members[1].seal();
        assert_eq!((remembered(&members[1]), groups[1].len(), groups[2].len()), (0, 2, 2));
        assert!(!groups[1].join(&remotes[1]), "its end has begun");
        drop(groups);
        assert!(members.iter().all(|line| remembered(line) == 0));
        assert!(members.iter().all(|line| Arc::strong_count(line) == 2), "the test's two");
    }

    #[test]
    fn a_group_can_be_shared_by_all_threads() {
        fn shared<T: Clone + Send + Sync + 'static>() {}
        shared::<Group>();
    }
}
