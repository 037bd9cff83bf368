//! A datagram socket in memory: what the network does with datagrams, done by a test.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::peer::Address;
use crate::sys::datagrams::{Batch, Head, Outgoing, Received};
use crate::sys::memory::Announced;
use crate::sys::poll::Event;

/// Datagrams that a test has sent and will receive. Nothing is lost, and nothing is reordered.
#[derive(Debug)]
pub(crate) struct MemoryDatagrams {
    local: Address,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    arrived: VecDeque<(Address, Vec<u8>)>,
    left: HashMap<Address, Vec<Vec<u8>>>,
    /// Nothing that comes now is taken.
    refuses: bool,
    announced: Option<(Arc<Announced>, u64)>,
}

impl MemoryDatagrams {
    pub(super) fn new(local: Address) -> Self {
        Self { local, state: Mutex::default() }
    }

    pub(super) const fn local(&self) -> &Address {
        &self.local
    }

    /// A datagram of somebody arrives.
    pub(crate) fn arrive(&self, from: &Address, bytes: Vec<u8>) {
        let mut state = self.state.lock();
        if !state.refuses {
            state.arrived.push_back((from.clone(), bytes));
            state.announce();
        }
    }

    /// What was sent to somebody since this was last asked.
    pub(crate) fn received(&self, by: &Address) -> Vec<Vec<u8>> {
        self.state.lock().left.remove(by).unwrap_or_default()
    }

    pub(super) fn announce_to(&self, announced: &Arc<Announced>, token: u64) {
        let mut state = self.state.lock();
        state.announced = Some((announced.clone(), token));
        state.announce();
    }

    pub(super) fn refuse_new(&self) {
        self.state.lock().refuses = true;
    }

    pub(super) fn receive(&self, batch: &mut Batch, most: usize) -> io::Result<Received> {
        let mut state = self.state.lock();
        while batch.len() < most
            && let Some(room) = batch.next_room()
            && let Some((peer, bytes)) = state.arrived.pop_front()
        {
            let len = bytes.len().min(room.len());
            room[..len].copy_from_slice(&bytes[..len]);
            batch.keep(Head { peer, asked: None, len, truncated: bytes.len() > len });
        }
        match batch.len() {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(Received { count, kernel_drops: None }),
        }
    }

    pub(super) fn send(&self, datagrams: &[Outgoing<'_>]) -> (usize, io::Result<()>) {
        let mut state = self.state.lock();
        for datagram in datagrams {
            let left = state.left.entry(datagram.peer.clone()).or_default();
            left.push(datagram.bytes.to_vec());
        }
        (datagrams.len(), Ok(()))
    }
}

impl State {
    fn announce(&self) {
        let Some((announced, token)) = &self.announced else { return };
        let readable = !self.arrived.is_empty();
        announced.add(Event { token: *token, readable, writable: true, hung_up: false });
    }
}
