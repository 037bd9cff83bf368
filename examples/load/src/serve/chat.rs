//! The reference server as a chat: rooms, names, and everything said goes to all in the room, its sender included.
use std::collections::HashMap;

use crate::serve::answer::Act;
use crate::serve::faults::{Fault, FaultArgs};
use crate::serve::peer::Key;

#[derive(Debug)]
struct Member {
    name: Vec<u8>,
    room: Vec<u8>,
}

/// Who is there, and in which room.
#[derive(Debug)]
pub(crate) struct Chat {
    members: HashMap<Key, Member>,
    rooms: HashMap<Vec<u8>, Vec<Key>>,
    /// Faults are committed on deliveries: `--drop` and `--duplicate`.
    faults: FaultArgs,
    deliveries: u64,
}

impl Chat {
    /// An empty one.
    pub(crate) fn new(faults: FaultArgs) -> Self {
        Self { members: HashMap::new(), rooms: HashMap::new(), faults, deliveries: 0 }
    }

    /// A member has said something.
    pub(crate) fn line(&mut self, who: &Key, line: &[u8], out: &mut Vec<Act<Key>>) {
        let Some(member) = self.members.get_mut(who) else {
            self.members.insert(who.clone(), Member { name: line.to_vec(), room: Vec::new() });
            self.enter(who, b"lobby".to_vec());
            return;
        };
        if let Some(room) = line.strip_prefix(b"/join ") {
            let room = room.to_vec();
            self.enter(who, room);
            return;
        }
        let text = [&member.name, b": ".as_slice(), line].concat();
        let room = member.room.clone();
        for to in self.rooms.get(&room).into_iter().flatten() {
            self.deliveries += 1;
            match self.faults.choose(self.deliveries).0 {
                Some(Fault::Drop) => continue,
                Some(Fault::Duplicate) => out.push(Act::Send(to.clone(), text.clone())),
                _ => {}
            }
            out.push(Act::Send(to.clone(), text.clone()));
        }
    }

    fn enter(&mut self, who: &Key, room: Vec<u8>) {
        if let Some(member) = self.members.get_mut(who) {
            let old = std::mem::replace(&mut member.room, room.clone());
            if let Some(left) = self.rooms.get_mut(&old) {
                left.retain(|key| key != who);
            }
            self.rooms.entry(room).or_default().push(who.clone());
        }
    }

    /// A member is gone.
    pub(crate) fn leave(&mut self, who: &Key) {
        if let Some(member) = self.members.remove(who)
            && let Some(left) = self.rooms.get_mut(&member.room)
        {
            left.retain(|key| key != who);
        }
    }
}
