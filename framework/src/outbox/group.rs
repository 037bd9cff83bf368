//! Fan-out: a set of members, and one message to all of them, without waiting for any.

use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::outbox::fan_out::{FanOut, Publication};
use crate::outbox::lane::Urgency;
use crate::outbox::roster::Roster;
use crate::outbox::rules::GroupRules;
use crate::outbox::{Line, Remote};
use crate::peer::ConnectionId;
use crate::unwind::caught;

/// A set of peers to send to at once: a room, a topic, everybody.
///
/// A group is a handle: cheap to clone, and good from any thread, inside of handlers and outside, before
/// a server serves and after it has ended. A member joins by its [`Remote`], and leaves by itself when
/// its connection or session ends for whatever reason: when [`finish`](crate::Handler::finish) is called
/// it is no member any more. A peer can be in any number of groups, and those of several listeners and
/// servers can be in one.
///
/// A complete little chat:
///
/// ```
/// use switchboard::{Framing, Group, GroupRules, Listen, Next, Overflow, Server, handler_fn};
/// # use std::io::{BufRead, BufReader, Write};
///
/// let room = Group::with_rules(
///     GroupRules::new()
///         .overflow(Overflow::DropOldest)
///         .notice(|missed| format!("* {missed} messages skipped").into_bytes()),
/// );
/// let lines = Listen::tcp("127.0.0.1:0").framing(Framing::lines());
/// let server = Server::new(move |peer| {
///     let (room, name) = (room.clone(), peer.to_string());
///     handler_fn(move |line, cx| {
///         if room.join(&cx.remote()) {
///             room.send_urgent_except(format!("* {name} is here"), cx.id());
///         }
///         room.send([name.as_bytes(), b": ", line].concat());
///         Ok(Next::Continue)
///     })
/// })
/// .listen(lines)
/// .spawn()?;
/// # let address = server.addresses()[0].socket_addr().unwrap();
/// # let mut client = std::net::TcpStream::connect(address).unwrap();
/// # client.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
/// # client.write_all(b"hello\n").unwrap();
/// # let mut heard = String::new();
/// # BufReader::new(client).read_line(&mut heard).unwrap();
/// # assert!(heard.starts_with("tcp://127.0.0.1:") && heard.ends_with(": hello\n"), "{heard}");
/// # server.stop();
/// # Ok::<(), switchboard::Error>(())
/// ```
///
/// Who hears what, played in memory:
///
/// ```
/// use switchboard::testing::MemoryServer;
/// use switchboard::{Framing, Group, Next, Server, handler_fn};
///
/// let room = Group::new();
/// let shared = room.clone();
/// let server = Server::new(move |_peer| {
///     let room = shared.clone();
///     handler_fn(move |line, cx| {
///         match line {
///             b"join" => drop(room.join(&cx.remote())),
///             b"leave" => drop(room.leave(&cx.remote())),
///             b"alarm" => drop(room.send_urgent("fire!")),
///             said if room.contains(&cx.remote()) => drop(room.send_except(said, cx.id())),
///             _ => cx.send("join first"),
///         }
///         Ok(Next::Continue)
///     })
/// });
/// let server = MemoryServer::new(server.framing(Framing::lines()));
/// let (mut ada, mut bob) = (server.connect(), server.connect());
/// assert!(room.is_empty());
/// assert_eq!(ada.ask("hello?"), "join first");
/// ada.say("join");
/// bob.say("join");
/// ada.say("hello");
/// assert!(ada.replies().is_empty(), "to all but whoever said it");
/// assert_eq!(bob.replies(), ["hello"]);
/// bob.say("leave");
/// ada.say("alarm");
/// assert_eq!(ada.replies(), ["fire!"]);
/// assert!(bob.replies().is_empty());
/// assert_eq!(room.len(), 1);
/// assert_eq!(room.members()[0].peer().address(), ada.address());
/// ada.close();
/// assert!(room.is_empty(), "whoever ends is a member no more");
/// ```
///
/// # What is guaranteed
///
/// - Whoever sends never waits for a member, whatever that one does, and no lock of the group is held
///   while a message is delivered. A message goes to those who are members when it is sent.
/// - Messages that one thread sends one after another reach every member in that order, once each; also
///   those that it sends by a [`Remote`], and by several groups. Urgent ones go before ordinary ones of
///   their group that still wait, and keep their order among themselves.
/// - A message is framed once for each listener, and its bytes are shared, not copied for each member. If
///   a framing cannot carry it, this is in the result, and the other members have it.
/// - How much waits for a member is bounded by the [`GroupRules`], and what happens beyond is said there:
///   the member is disconnected, or misses messages and is told how many.
/// - A group with nobody in it is empty: those who have left leave nothing behind, in the group or
///   elsewhere, and neither does a group whose last handle is dropped.
///
/// # What is not
///
/// - Two threads that send at the same time: one member may have the messages in this order, another one
///   in that. A room where everybody must see one order has to send under a lock of its own.
/// - While a member's handler runs, what is sent to it mostly waits until the handler returns, as with a
///   [`Remote`]; for a [`StreamHandler`](crate::StreamHandler) that is as long as it waits in a read.
/// - Taken is not arrived: what waits for a member whose connection breaks is lost with it.
/// - Datagrams are sent as they are, through the socket's queue, and may be lost on the way; a member over
///   datagrams is told of nothing that it missed, and is not disconnected for it.
#[derive(Clone)]
pub struct Group {
    shared: Arc<Shared>,
}

/// What the handles of a group share.
pub(crate) struct Shared {
    rules: GroupRules,
    roster: Mutex<Roster<Line>>,
}

impl Shared {
    pub(super) fn new(rules: GroupRules) -> Self {
        Self { rules, roster: Mutex::default() }
    }

    pub(super) fn rules(&self) -> &GroupRules {
        &self.rules
    }

    /// The member's connection has ended: it has forgotten the group already.
    pub(super) fn forget(&self, line: *const Line) -> bool {
        let left = self.roster.lock().remove(line);
        // The line may be dropped with this, and with it what is the user's: not under our lock.
        left.is_some()
    }
}

/// Nothing stays behind in those who are members to the last.
impl Drop for Shared {
    fn drop(&mut self) {
        let me = std::ptr::from_ref(self);
        let members = self.roster.get_mut().snapshot();
        members.iter().for_each(|line| line.leave(me));
        let notice = self.rules.notice.take();
        caught(|| drop(notice));
    }
}

impl Group {
    /// A group without members. How much may wait for one of them, and what happens beyond, is as the
    /// member's server has it.
    #[must_use]
    pub fn new() -> Self {
        Self::with_rules(GroupRules::new())
    }

    /// A group with rules of its own.
    #[must_use]
    pub fn with_rules(rules: GroupRules) -> Self {
        Self { shared: Arc::new(Shared::new(rules)) }
    }

    /// Makes a peer a member. Whatever is sent after this call reaches it.
    ///
    /// Returns whether it is new here: `false` if it was a member already, and if its connection is
    /// ending, which no one can join from.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn join(&self, peer: &Remote) -> bool {
        let line = peer.line();
        // The member's end takes it out of the groups that it knows, and so it must know this one, or
        // be refused, before anybody else sees it here.
        let mut roster = self.shared.roster.lock();
        let is_new = !roster.contains(Arc::as_ptr(line)) && line.enter(&self.shared);
        if is_new {
            roster.insert(line);
        }
        is_new
    }

    /// Takes a member out. What was sent before still reaches it. Returns whether it was a member.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn leave(&self, peer: &Remote) -> bool {
        let line = peer.line();
        let left = {
            let mut roster = self.shared.roster.lock();
            line.leave(Arc::as_ptr(&self.shared));
            roster.remove(Arc::as_ptr(line))
        };
        left.is_some()
    }

    /// How many members there are now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.roster.lock().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a peer is a member now.
    #[must_use]
    pub fn contains(&self, peer: &Remote) -> bool {
        self.shared.roster.lock().contains(Arc::as_ptr(peer.line()))
    }

    /// The members as they are now, in no order.
    #[must_use]
    pub fn members(&self) -> Vec<Remote> {
        let members = self.snapshot();
        members.iter().map(|line| Remote::new(line.clone())).collect()
    }

    /// Sends a message to every member.
    ///
    /// ```
    /// use switchboard::Group;
    ///
    /// let nobody = Group::new();
    /// let sent = nobody.send("is anybody there?");
    /// assert_eq!((sent.taken, sent.is_complete()), (0, true));
    /// ```
    ///
    /// # Panics
    /// Only if a codec of one's own ([`Codec`](crate::codec::Codec)) does: it runs on the calling thread,
    /// once for each listener. Members that came before have the message then, those behind have not, and
    /// all of them go on.
    pub fn send(&self, message: impl AsRef<[u8]>) -> FanOut {
        self.publish(message.as_ref(), Urgency::Ordinary, None)
    }

    /// Sends a message to every member but the one with this number: mostly whoever has said it.
    ///
    /// Numbers are those of one server. In a group of peers of several servers two members may have the
    /// same, and both go without.
    ///
    /// # Panics
    /// As [`send`](Self::send).
    pub fn send_except(&self, message: impl AsRef<[u8]>, except: ConnectionId) -> FanOut {
        self.publish(message.as_ref(), Urgency::Ordinary, Some(except))
    }

    /// As [`send`](Self::send), before the ordinary messages of this group that still wait for a member:
    /// for the news of who comes and goes.
    ///
    /// # Panics
    /// As [`send`](Self::send).
    pub fn send_urgent(&self, message: impl AsRef<[u8]>) -> FanOut {
        self.publish(message.as_ref(), Urgency::Urgent, None)
    }

    /// As [`send_urgent`](Self::send_urgent), to all but one, as [`send_except`](Self::send_except).
    ///
    /// # Panics
    /// As [`send`](Self::send).
    pub fn send_urgent_except(&self, message: impl AsRef<[u8]>, except: ConnectionId) -> FanOut {
        self.publish(message.as_ref(), Urgency::Urgent, Some(except))
    }

    fn snapshot(&self) -> Arc<Vec<Arc<Line>>> {
        self.shared.roster.lock().snapshot()
    }

    fn publish(&self, message: &[u8], urgency: Urgency, except: Option<ConnectionId>) -> FanOut {
        let members = self.snapshot();
        let group: Weak<Shared> = Arc::downgrade(&self.shared);
        let body: Arc<[u8]> = message.into();
        let mut publication = Publication::new(&self.shared.rules, &group, &body, urgency);
        for line in members.iter().filter(|line| Some(line.id) != except) {
            if !publication.deliver(line) {
                // Mostly it has left by itself. A server that was dropped takes nobody out.
                self.shared.forget(Arc::as_ptr(line));
            }
        }
        publication.finish()
    }
}

impl Default for Group {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("members", &self.len())
            .field("rules", &self.shared.rules)
            .finish()
    }
}
