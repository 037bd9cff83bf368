//! Who is a member: a set that hands out snapshots, and is as small as it has members.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Below so many places nothing is given back.
const FEW: usize = 64;

/// A set of shared values, each by its identity. A snapshot costs nothing; a change while there is one
/// copies the set, and otherwise costs O(1).
#[derive(Debug)]
pub(super) struct Roster<M> {
    members: Arc<Vec<Arc<M>>>,
    places: HashMap<usize, usize>,
}

impl<M> Default for Roster<M> {
    fn default() -> Self {
        Self { members: Arc::default(), places: HashMap::new() }
    }
}

/// What tells members apart. It is nobody else's as long as the member is in the set.
fn key<M>(member: *const M) -> usize {
    member.addr()
}

impl<M> Roster<M> {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn contains(&self, member: *const M) -> bool {
        self.places.contains_key(&key(member))
    }

    /// Everybody who is in now. It stays as it is, whatever changes afterwards.
    pub(super) fn snapshot(&self) -> Arc<Vec<Arc<M>>> {
        self.members.clone()
    }

    /// Returns whether the member is new.
    pub(super) fn insert(&mut self, member: &Arc<M>) -> bool {
        let Entry::Vacant(place) = self.places.entry(key(Arc::as_ptr(member))) else {
            return false;
        };
        place.insert(self.members.len());
        Arc::make_mut(&mut self.members).push(member.clone());
        true
    }

    /// Takes a member out and returns it, for the caller to drop where it likes.
    pub(super) fn remove(&mut self, member: *const M) -> Option<Arc<M>> {
        let place = self.places.remove(&key(member))?;
        let members = Arc::make_mut(&mut self.members);
        let removed = members.swap_remove(place);
        if let Some(moved) = members.get(place) {
            self.places.insert(key(Arc::as_ptr(moved)), place);
        }
        if members.capacity() > FEW && members.len() < members.capacity() / 4 {
            members.shrink_to(members.len() * 2);
            self.places.shrink_to(members.len() * 2);
        }
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_in_once_and_leaves_once() {
        let mut roster = Roster::default();
        let (one, two) = (Arc::new(1), Arc::new(2));
        assert!(roster.insert(&one) && roster.insert(&two));
        assert!(!roster.insert(&one));
        assert_eq!(roster.len(), 2);
        assert!(roster.remove(Arc::as_ptr(&one)).is_some());
        assert!(roster.remove(Arc::as_ptr(&one)).is_none());
        assert!(!roster.contains(Arc::as_ptr(&one)) && roster.contains(Arc::as_ptr(&two)));
    }

    #[test]
    fn a_snapshot_stays_as_it_was() {
        let mut roster = Roster::default();
        let (one, two) = (Arc::new(1), Arc::new(2));
        roster.insert(&one);
        let before = roster.snapshot();
        roster.insert(&two);
        roster.remove(Arc::as_ptr(&one));
        assert_eq!(*before, [Arc::new(1)]);
        assert_eq!(*roster.snapshot(), [Arc::new(2)]);
    }

    #[test]
    fn a_million_joins_and_leaves_leave_nothing_behind() {
        let mut roster = Roster::default();
        let everybody: Vec<Arc<u32>> = (0..1000).map(Arc::new).collect();
        for _ in 0..1000 {
            everybody.iter().for_each(|member| assert!(roster.insert(member)));
            for member in &everybody {
                assert!(roster.remove(Arc::as_ptr(member)).is_some());
            }
        }
        assert_eq!(roster.len(), 0);
        assert!(roster.members.capacity() <= FEW && roster.places.capacity() <= 2 * FEW);
        assert!(everybody.iter().all(|member| Arc::strong_count(member) == 1));
    }
}
