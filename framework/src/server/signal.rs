//! Signals: they are only counted. The first one drains, the second one aborts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::server::ServerHandle;

/// Signals can be watched for once in a process; whoever serves now hears of them.
static WATCHES: Mutex<Option<Vec<Watched>>> = Mutex::new(None);

struct Watched {
    handle: ServerHandle,
    count: Arc<AtomicUsize>,
}

/// Hears of signals for as long as it lives.
pub(super) struct Watch(Arc<AtomicUsize>);

impl Watch {
    /// How many signals came.
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(watches) = &mut *WATCHES.lock() {
            watches.retain(|watched| !Arc::ptr_eq(&watched.count, &self.0));
        }
    }
}

/// Lets a server hear of signals.
pub(super) fn watch(handle: ServerHandle) -> Result<Watch> {
    let count = Arc::new(AtomicUsize::new(0));
    let mut watches = WATCHES.lock();
    if watches.is_none() {
        // Runs on a thread of its own. It must not wait for anything: it would miss the next signal.
        ctrlc::set_handler(signalled).map_err(|error| {
            Error::signals(match error {
                ctrlc::Error::System(error) => error,
                other => std::io::Error::other(other.to_string()),
            })
        })?;
    }
    let watched = Watched { handle, count: count.clone() };
    watches.get_or_insert_default().push(watched);
    Ok(Watch(count))
}

fn signalled() {
    let hears =
        |watched: &Watched| (watched.handle.clone(), watched.count.fetch_add(1, Ordering::SeqCst));
    // Told outside the lock: a drain is logged, and a log is the user's code.
    let told: Vec<_> = WATCHES.lock().iter().flatten().map(hears).collect();
    for (handle, before) in told {
        match before {
            0 => handle.begin_default_drain(),
            _ => handle.begin_drain(Duration::ZERO),
        }
    }
}
