//! What this process holds and does: descriptors, sockets, threads, context switches.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::{PATIENCE, eventually};

/// Keeps tests that look at the whole process apart from one another.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock()
}

/// How many descriptors and threads the process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) descriptors: usize,
    /// Threads of servers; those of the test harness come and go.
    pub(crate) threads: usize,
}

impl Footprint {
    pub(crate) fn now() -> Self {
        // The listing has a descriptor of its own, every time.
        let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self { descriptors, threads: threads_named("switchboard").len() }
    }

    /// What it has once that has not changed for a while: a server may still be starting a worker.
    pub(crate) fn at_rest() -> Self {
        let mut last = Self::now();
        eventually("the process is at rest", || {
            let _ = crossbeam_channel::after(Duration::from_millis(100)).recv();
            let before = std::mem::replace(&mut last, Self::now());
            before == last
        });
        last
    }
}

/// Waits until the process holds what it held before: no leak.
#[track_caller]
pub(crate) fn settled(before: Footprint) {
    let deadline = Instant::now() + PATIENCE;
    let ticks = crossbeam_channel::tick(Duration::from_millis(5));
    let mut now = Footprint::now();
    while now != before && Instant::now() < deadline {
        let _ = ticks.recv();
        now = Footprint::now();
    }
    assert_eq!(now, before, "descriptors and threads are back to what they were");
}

/// The threads whose name begins like this.
pub(crate) fn threads_named(beginning: &str) -> Vec<PathBuf> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let named = |task: &PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with(beginning))
    };
    tasks.filter_map(|task| task.ok().map(|task| task.path())).filter(named).collect()
}

/// How often a thread was switched out, of its own will or not.
pub(crate) fn context_switches(task: &Path) -> u64 {
    let status = fs::read_to_string(task.join("status")).unwrap_or_default();
    let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
    lines.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
}

/// The listening socket of this process at an address, once more.
#[track_caller]
pub(crate) fn listening_socket(addr: SocketAddr) -> OwnedFd {
    let me = pidfd_open(getpid(), PidfdFlags::empty()).expect("a process has one");
    let listens = |fd: &OwnedFd| {
        let socket = socket2::SockRef::from(fd);
        let at = socket.local_addr().ok().and_then(|at| at.as_socket());
        at == Some(addr) && socket.is_listener().unwrap_or(false)
    };
    let mut open =
        (3..1024).filter_map(|number| pidfd_getfd(&me, number, PidfdGetfdFlags::empty()).ok());
    open.find(listens).expect("a socket that listens there")
}
