//! What this process holds and does: descriptors, threads, context switches.

use std::fs;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};

use super::eventually;

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
}

/// Waits until the process holds what it held before: no leak.
#[track_caller]
pub(crate) fn settled(before: Footprint) {
    let mut now = Footprint::now();
    let deadline = std::time::Instant::now() + super::PATIENCE;
    while now != before && std::time::Instant::now() < deadline {
        let mut looks = 0;
        eventually("a moment", || {
            looks += 1;
            looks > 5
        });
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
