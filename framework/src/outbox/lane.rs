//! What waits for one peer of each group that it is a member of: urgent first, each group under its own limit.

use std::collections::VecDeque;
use std::sync::Weak;

use crate::config::Overflow;
use crate::outbox::group::Shared;
use crate::outbox::{Chunk, MESSAGE_COST};

/// How soon a message of a group leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Behind what was sent before it.
    Ordinary,
    /// Before the ordinary messages of its group that still wait.
    Urgent,
}

/// How one message of a group is queued for a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share<'a> {
    pub(crate) group: &'a Weak<Shared>,
    pub(crate) urgency: Urgency,
    pub(crate) overflow: Overflow,
    /// What of this group may wait for the member, in bytes, if the group says so.
    pub(crate) limit: Option<usize>,
    /// What may wait for the member altogether, in bytes.
    pub(crate) cap: usize,
    /// What to do with the number of dropped messages.
    pub(crate) missed: Missed,
}

/// Whether a member hears of what it has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    Untold,
    Told,
}

/// A member is to be told that it missed so many messages of a group.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) group: Weak<Shared>,
    pub(crate) missed: u64,
}

/// What waits of one group. The outbox holds a ticket for each message; it says when the lane's next
/// message leaves, whichever that is then.
#[derive(Debug)]
struct Lane {
    group: Weak<Shared>,
    urgent: VecDeque<Chunk>,
    ordinary: VecDeque<Chunk>,
    /// As the outbox counts.
    cost: usize,
    /// Tickets of messages that were dropped: so many of the oldest stand for nothing.
    void: usize,
    /// Messages that were dropped, and that the member has not been told of.
    missed: u64,
}

impl Lane {
    fn new(group: Weak<Shared>) -> Self {
        let (urgent, ordinary) = (VecDeque::new(), VecDeque::new());
        Self { group, urgent, ordinary, cost: 0, void: 0, missed: 0 }
    }

    fn is_over(&self) -> bool {
        self.urgent.is_empty() && self.ordinary.is_empty() && self.void == 0 && self.missed == 0
    }

    /// What the ticket stands for that has so many tickets of this lane before it.
    fn message(&self, tickets_before: usize) -> Option<&Chunk> {
        let at = tickets_before.checked_sub(self.void)?;
        self.urgent.get(at).or_else(|| self.ordinary.get(at - self.urgent.len()))
    }
}

/// What the lane's oldest ticket stood for.
#[derive(Debug)]
pub(super) enum Redeemed {
    Nothing,
    Message(Chunk),
}

/// The lanes of one peer: of the groups of which something waits or was missed, and of no others. To find
/// a group's lane costs a look at each of them; all else is counted along.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// By their places. A place that is free is taken again before there are more.
    lanes: Vec<Option<Lane>>,
    /// How many places are taken.
    taken: usize,
    /// Lanes of which the member is to be told what it missed.
    owed: usize,
    /// What waits in all of them, as the outbox counts.
    cost: usize,
}

impl Lanes {
    /// The place of a group's lane, which is made if there is none.
    pub(super) fn place_of(&mut self, group: &Weak<Shared>) -> usize {
        let is_it = |lane: &Option<Lane>| lane.as_ref().is_some_and(|l| l.group.ptr_eq(group));
        if let Some(place) = self.lanes.iter().position(is_it) {
            return place;
        }
        let place = self.lanes.iter().position(Option::is_none).unwrap_or(self.lanes.len());
        self.lanes.resize_with(self.lanes.len().max(place + 1), || None);
        self.lanes[place] = Some(Lane::new(group.clone()));
        self.taken += 1;
        place
    }

    fn lane(&mut self, place: usize) -> Option<&mut Lane> {
        self.lanes.get_mut(place)?.as_mut()
    }

    /// What waits of a group, in bytes, with a little for each message.
    pub(super) fn cost_of(&self, group: &Weak<Shared>) -> usize {
        let lane = self.lanes.iter().flatten().find(|lane| lane.group.ptr_eq(group));
        lane.map_or(0, |lane| lane.cost)
    }

    /// What waits of all groups, in bytes, with a little for each message.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    pub(super) fn push(&mut self, place: usize, chunk: Chunk, urgency: Urgency) {
        let Some(lane) = self.lane(place) else { return };
        let cost = chunk.len() + MESSAGE_COST;
        lane.cost += cost;
        match urgency {
            Urgency::Ordinary => lane.ordinary.push_back(chunk),
            Urgency::Urgent => lane.urgent.push_back(chunk),
        }
        self.cost += cost;
    }

    /// Drops what has waited longest, ordinary messages first, and returns what it had cost.
    pub(super) fn drop_oldest(&mut self, place: usize) -> Option<usize> {
        let lane = self.lane(place)?;
        let oldest = lane.ordinary.pop_front().or_else(|| lane.urgent.pop_front())?;
        let cost = oldest.len() + MESSAGE_COST;
        lane.cost -= cost;
        lane.void += 1;
        self.cost -= cost;
        Some(cost)
    }

    /// Remembers that a message was dropped, until the member is told of it.
    pub(super) fn miss(&mut self, place: usize, missed: u64) {
        let Some(lane) = self.lane(place) else { return };
        let told = lane.missed == 0;
        lane.missed += missed;
        let owed = told && lane.missed > 0;
        self.owed += usize::from(owed);
    }

    /// Whether more of the lane's tickets are void than is worth keeping among so many entries.
    pub(super) fn wants_tidying(&self, place: usize, entries: usize) -> bool {
        let void = self.lanes.get(place).and_then(Option::as_ref).map_or(0, |lane| lane.void);
        void > 16 + entries / 2
    }

    /// What the oldest ticket of a lane stands for.
    pub(super) fn next_of(&self, place: usize) -> Option<&Chunk> {
        self.lanes.get(place)?.as_ref()?.message(0)
    }

    /// Takes what the oldest ticket of a lane stands for.
    pub(super) fn redeem(&mut self, place: usize) -> Redeemed {
        let Some(lane) = self.lane(place) else { return Redeemed::Nothing };
        if lane.void > 0 {
            lane.void -= 1;
            self.tidy(place);
            return Redeemed::Nothing;
        }
        let next = lane.urgent.pop_front().or_else(|| lane.ordinary.pop_front());
        let Some(chunk) = next else { return Redeemed::Nothing };
        let cost = chunk.len() + MESSAGE_COST;
        lane.cost -= cost;
        self.cost -= cost;
        self.tidy(place);
        Redeemed::Message(chunk)
    }

    /// Uses up the oldest ticket if it is void.
    pub(super) fn use_up_void(&mut self, place: usize) -> bool {
        let is_void = self.lane(place).is_some_and(|lane| lane.void > 0);
        is_void && matches!(self.redeem(place), Redeemed::Nothing)
    }

    /// Gives the place of a lane back of which nothing is left.
    pub(super) fn tidy(&mut self, place: usize) {
        if self.lane(place).is_some_and(|lane| lane.is_over()) {
            self.lanes[place] = None;
            self.taken -= 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// Whether somebody is to be told of what was missed.
    pub(super) fn owes(&self) -> bool {
        self.owed > 0
    }

    /// What the member is to be told now; it counts as told.
    pub(super) fn take_due(&mut self) -> Vec<Due> {
        let mut due = Vec::new();
        self.owed = 0;
        for place in 0..self.lanes.len() {
            if let Some(lane) = self.lane(place).filter(|lane| lane.missed > 0) {
                let missed = std::mem::take(&mut lane.missed);
                due.push(Due { group: lane.group.clone(), missed });
            }
            self.tidy(place);
        }
        due
    }

    /// Looks at what tickets stand for, in the order of the tickets.
    pub(super) fn look(&self) -> Look<'_> {
        Look { lanes: self, seen: Vec::new() }
    }
}

/// A look along the tickets, which takes nothing.
pub(super) struct Look<'a> {
    lanes: &'a Lanes,
    /// How many tickets of each lane were seen, by its place.
    seen: Vec<usize>,
}

impl<'a> Look<'a> {
    /// What the next ticket of a lane stands for.
    pub(super) fn next_of(&mut self, place: usize) -> Option<&'a Chunk> {
        self.seen.resize(self.seen.len().max(place + 1), 0);
        let seen = &mut self.seen[place];
        *seen += 1;
        self.lanes.lanes.get(place)?.as_ref()?.message(*seen - 1)
    }
}

#[cfg(test)]
impl Lanes {
    /// Whether what is counted along is what there is.
    pub(super) fn counts_well(&self) -> bool {
        let lanes = || self.lanes.iter().flatten();
        let owed = lanes().filter(|lane| lane.missed > 0).count();
        let cost = lanes().map(|lane| lane.cost).sum();
        (lanes().count(), owed, cost) == (self.taken, self.owed, self.cost)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::outbox::rules::GroupRules;
    use crate::outbox::{Extent, Outbox, Pushed};

    const EACH: usize = 1 + MESSAGE_COST;

    fn group() -> Arc<Shared> {
        Arc::new(Shared::new(GroupRules::new()))
    }

    fn share<'a>(group: &'a Weak<Shared>, overflow: Overflow, messages: usize) -> Share<'a> {
        let (limit, cap) = (Some(messages * EACH), 100_000);
        Share { group, urgency: Urgency::Ordinary, overflow, limit, cap, missed: Missed::Told }
    }

    fn framed(text: &str) -> Chunk {
        Chunk::Framed(text.as_bytes().to_vec())
    }

    fn push(outbox: &mut Outbox, texts: &str, share: &Share<'_>) -> Vec<Pushed> {
        texts.chars().map(|text| outbox.push_share(framed(&text.to_string()), share)).collect()
    }

    fn waiting(outbox: &Outbox) -> String {
        assert!(outbox.counts_well());
        let mut slices = Vec::new();
        outbox.slices(Extent::All, &mut slices);
        slices.iter().map(|slice| String::from_utf8_lossy(slice)).collect()
    }

    #[test]
    fn urgent_messages_pass_those_of_their_own_group_and_nobody_else() {
        let (one, two) = (group(), group());
        let (one, two) = (Arc::downgrade(&one), Arc::downgrade(&two));
        let ordinary = share(&one, Overflow::Disconnect, 100);
        let urgent = Share { urgency: Urgency::Urgent, ..ordinary };
        let mut outbox = Outbox::default();
        outbox.append(framed("reply "));
        push(&mut outbox, "ab", &ordinary);
        push(&mut outbox, "xy", &share(&two, Overflow::Disconnect, 100));
        push(&mut outbox, "12", &urgent);
        push(&mut outbox, "c", &ordinary);
        assert_eq!(waiting(&outbox), "reply 12xyabc");
    }

    #[test]
    fn what_has_partly_left_is_neither_passed_nor_dropped() {
        let group = group();
        let group = Arc::downgrade(&group);
        let drops = share(&group, Overflow::DropOldest, 2);
        let mut outbox = Outbox::default();
        outbox.push_share(framed("torn"), &drops);
        outbox.advance(1);
        push(&mut outbox, "abc", &drops);
        push(&mut outbox, "!", &Share { urgency: Urgency::Urgent, ..drops });
        assert_eq!(waiting(&outbox), "orn!c");
        outbox.advance(3);
        assert!(!outbox.is_torn());
        assert_eq!(waiting(&outbox), "!c");
        outbox.advance(2);
        assert!(outbox.is_empty() && outbox.cost() == 0);
    }

    #[test]
    fn a_write_that_took_nothing_pins_nothing() {
        let group = group();
        let group = Arc::downgrade(&group);
        let drops = share(&group, Overflow::DropOldest, 2);
        let mut outbox = Outbox::default();
        push(&mut outbox, "ab", &drops);
        outbox.advance(0);
        push(&mut outbox, "c", &drops);
        assert_eq!(waiting(&outbox), "bc");
    }

    #[test]
    fn each_group_has_a_limit_of_its_own_and_drops_nothing_of_others() {
        let (one, two) = (group(), group());
        let (one, two) = (Arc::downgrade(&one), Arc::downgrade(&two));
        let mut outbox = Outbox::default();
        outbox.push(framed("r"), Overflow::Disconnect, 1_000);
        push(&mut outbox, "ab", &share(&one, Overflow::DropNewest, 2));
        push(&mut outbox, "wxyz", &share(&two, Overflow::DropOldest, 2));
        let full = push(&mut outbox, "c", &share(&one, Overflow::DropNewest, 2));
        assert_eq!(full, [Pushed::Dropped(1)]);
        let ends = push(&mut outbox, "c", &share(&one, Overflow::Disconnect, 2));
        assert_eq!(ends, [Pushed::Overflow]);
        assert_eq!(waiting(&outbox), "rabyz");
        // The policy of a remote drops nothing of a group either, and groups take none of its room.
        assert_eq!(outbox.push(framed("s"), Overflow::DropOldest, 2 * EACH), Pushed::Queued);
        assert_eq!(outbox.push(framed("t"), Overflow::DropOldest, 2 * EACH), Pushed::MadeRoom(1));
        assert_eq!(outbox.push(framed("u"), Overflow::Disconnect, 2 * EACH), Pushed::Overflow);
        assert_eq!(waiting(&outbox), "abyzst");
    }

    #[test]
    fn all_groups_together_stay_under_the_members_cap_and_act_on_what_is_theirs() {
        let groups: Vec<_> = (0..5).map(|_| group()).collect();
        let mut outbox = Outbox::default();
        let mut pushed = Vec::new();
        for group in &groups {
            let group = Arc::downgrade(group);
            let capped = Share { cap: 3 * EACH, ..share(&group, Overflow::DropOldest, 2) };
            pushed.extend(push(&mut outbox, "ab", &capped));
        }
        assert_eq!(waiting(&outbox), "abb");
        assert_eq!(outbox.cost(), 3 * EACH);
        // The second group's first message makes room for its second one; the others have none there.
        let (queued, dropped) = (Pushed::Queued, Pushed::Dropped(1));
        assert_eq!(pushed[..4], [queued, queued, queued, Pushed::MadeRoom(1)]);
        assert!(pushed[4..].iter().all(|pushed| *pushed == dropped));
    }

    #[test]
    fn a_group_drops_nothing_of_its_own_if_that_makes_no_room() {
        let group = group();
        let group = Arc::downgrade(&group);
        let drops = Share { limit: None, cap: 4 * EACH, ..share(&group, Overflow::DropOldest, 0) };
        let mut outbox = Outbox::default();
        push(&mut outbox, "ab", &drops);
        (0..2).for_each(|_| outbox.append(framed("r")));
        assert_eq!(push(&mut outbox, "c", &drops), [Pushed::MadeRoom(1)]);
        (0..2).for_each(|_| outbox.append(framed("r")));
        assert_eq!(push(&mut outbox, "d", &drops), [Pushed::Dropped(1)]);
        assert_eq!(waiting(&outbox), "brrcrr");
    }

    #[test]
    fn what_is_missed_is_counted_until_it_is_told() {
        let shared = group();
        let group = Arc::downgrade(&shared);
        let mut outbox = Outbox::default();
        push(&mut outbox, "abcde", &share(&group, Overflow::DropNewest, 2));
        assert!(outbox.owes_notices());
        let due = outbox.take_due();
        assert_eq!(due.iter().map(|due| due.missed).collect::<Vec<_>>(), [3]);
        assert!(due[0].group.ptr_eq(&group) && !outbox.owes_notices());
        outbox.put_first(framed("missed 3 "));
        assert_eq!(waiting(&outbox), "missed 3 ab");
        let untold = Share { missed: Missed::Untold, ..share(&group, Overflow::DropNewest, 2) };
        push(&mut outbox, "f", &untold);
        assert!(!outbox.owes_notices());
    }

    #[test]
    fn an_empty_lane_takes_a_message_longer_than_the_limit() {
        let group = group();
        let group = Arc::downgrade(&group);
        let mut outbox = Outbox::default();
        outbox.append(framed("reply "));
        let tiny = Share { limit: Some(1), ..share(&group, Overflow::Disconnect, 0) };
        assert_eq!(outbox.push_share(framed("long"), &tiny), Pushed::Queued);
        assert_eq!(outbox.push_share(framed("long"), &tiny), Pushed::Overflow);
        outbox.end_with(framed("bye"));
        assert_eq!(waiting(&outbox), "bye");
        assert_eq!(outbox.cost(), 3 + MESSAGE_COST);
    }

    #[test]
    fn a_peer_that_never_reads_holds_no_more_however_much_is_sent() {
        let shared = group();
        let group = Arc::downgrade(&shared);
        let drops = share(&group, Overflow::DropOldest, 10);
        let mut outbox = Outbox::default();
        outbox.append(framed("stuck "));
        for _ in 0..10_000 {
            push(&mut outbox, "0123456789", &drops);
        }
        assert!(outbox.entries() < 64, "{} entries", outbox.entries());
        assert_eq!(waiting(&outbox), "stuck 0123456789");
        assert_eq!(outbox.take_due()[0].missed, 99_990);
        outbox.advance(16);
        assert!(outbox.is_empty() && outbox.cost() == 0 && !outbox.has_lanes());
        drop(shared);
        assert_eq!(group.weak_count(), 0, "the group is dropped, and nobody remembers it");
    }
}
