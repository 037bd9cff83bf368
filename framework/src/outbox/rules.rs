//! The rules of a group: how much may wait for one member, what happens beyond, and what it is told.

use std::fmt;
use std::sync::Arc;

use crate::config::Overflow;

/// Makes the text that tells a member how many messages it has missed.
pub(crate) type Notice = Arc<dyn Fn(u64) -> Vec<u8> + Send + Sync>;

/// The rules of a [`Group`](crate::Group): how much may wait for one member, what happens beyond, and
/// what the member is told.
///
/// What is not set is as the member's server has it.
///
/// | [`Overflow`] | a member for whom as much waits as may | is told by |
/// |---|---|---|
/// | `Disconnect` | is disconnected | [`last_word`](Self::last_word) |
/// | `DropOldest` | misses the messages that have waited longest, ordinary ones before urgent ones | [`notice`](Self::notice) |
/// | `DropNewest` | misses the new message | [`notice`](Self::notice) |
///
/// A group drops its own messages alone: neither replies of the member's handler nor what a
/// [`Remote`](crate::Remote) or another group sent.
///
/// ```
/// use switchboard::{Group, GroupRules, Overflow};
///
/// let room = Group::with_rules(
///     GroupRules::new()
///         .overflow(Overflow::DropOldest)
///         .limit(64 * 1024)
///         .notice(|missed| format!("* {missed} messages skipped").into_bytes()),
/// );
/// assert!(room.is_empty());
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct GroupRules {
    pub(super) overflow: Option<Overflow>,
    pub(super) limit: Option<usize>,
    pub(super) notice: Option<Notice>,
    pub(super) last_word: Option<Arc<[u8]>>,
}

impl GroupRules {
    /// Everything as the member's server has it, and nobody is told.
    pub fn new() -> Self {
        Self::default()
    }

    /// What happens when as much waits for a member as may.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = Some(overflow);
        self
    }

    /// How many bytes of this group may wait for one member; each message counts 64 more. A message
    /// that is longer is taken if no other of the group waits.
    ///
    /// The `outbox_limit` of the member's server holds beside it, over all that waits for the member:
    /// replies, what remotes sent, and all its groups together. Where a message has no room there, these
    /// rules say what happens, as for the group's own limit. Not set: that limit alone.
    ///
    /// The other way round what waits of groups takes no room from a [`Remote`](crate::Remote), which
    /// therefore never ends a connection for what groups have sent. So twice the `outbox_limit` can wait
    /// for a peer: once what remotes sent, and as much of groups.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = Some(bytes);
        self
    }

    /// Tells a member how many messages it has missed: `text` makes the message from their number.
    ///
    /// It leaves as soon as the member reads again, before whatever waits, and tears nothing: a message
    /// of which a part has left is completed first. The number is exact: what a member receives of the
    /// group, and the numbers that it is told, add up to what was sent.
    ///
    /// `text` is called by whoever writes to the member next, without any lock of the framework. That may
    /// be in the middle of a callback that sends more than the peer takes, so `text` should lock nothing
    /// of its own. If it panics nothing else happens: the member is not told. Nor is it if the framing
    /// cannot carry the text, or a codec of one's own panics at it.
    ///
    /// Members over datagrams are told nothing: a network that loses datagrams does not say so either.
    pub fn notice(mut self, text: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.notice = Some(Arc::new(text));
        self
    }

    /// What a member reads last that [`Overflow::Disconnect`] ends, if its socket takes it at that
    /// moment. It replaces what waited. Without effect if the framing cannot carry it, or a codec of
    /// one's own panics at it.
    ///
    /// ```
    /// use switchboard::{Group, GroupRules, Overflow};
    ///
    /// let rules = GroupRules::new().overflow(Overflow::Disconnect).last_word("you are too slow\n");
    /// let room = Group::with_rules(rules);
    /// # assert!(room.is_empty());
    /// ```
    pub fn last_word(mut self, message: impl AsRef<[u8]>) -> Self {
        self.last_word = Some(message.as_ref().into());
        self
    }
}

impl fmt::Debug for GroupRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { overflow, limit, .. } = self;
        f.debug_struct("GroupRules").field("overflow", overflow).field("limit", limit).finish()
    }
}
