//! Observers: who is told of every event, one after another, and what a panic of theirs does.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::HandlerErrors;
use crate::event::log::Log;
use crate::event::{Counters, Event};

/// Hears of everything that happens in a server; see [`Server::observer`](crate::Server::observer).
///
/// A closure is one, if its argument's type is written out, and so is an [`Arc`] of one.
///
/// # What is promised
/// - What begins is told before it can end, and its end is told exactly once.
/// - It is called on the thread where it happens, outside of all locks of the server, so that it may use
///   a [`ServerHandle`](crate::ServerHandle) or a [`Remote`](crate::Remote). What waits for the server's
///   end returns at once where the server waits for the observer, as it does in a handler.
/// - A panic harms nobody. The first one of each observer is an event and a line in the log, each one is
///   counted ([`Stats::observer_panics`](crate::Stats::observer_panics)), and the observer stays: one
///   event that it cannot bear does not blind it for the others.
///
/// # What is asked of it
/// - It must not block: it may be called by the thread that accepts and waits for everybody.
/// - It may be called by several threads at a time.
///
/// # Not guaranteed
/// The order of events of different connections. A snapshot of the counters taken within `event` may
/// count the event already, and others that were not told yet.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use switchboard::{Event, Next, Observer, Server, handler_fn};
///
/// /// How many connections are open.
/// #[derive(Default)]
/// struct Gauge(AtomicUsize);
///
/// impl Observer for Gauge {
///     fn event(&self, event: &Event<'_>) {
///         match event {
///             Event::ConnectionOpened { .. } => self.0.fetch_add(1, Ordering::Relaxed),
///             Event::ConnectionClosed { .. } => self.0.fetch_sub(1, Ordering::Relaxed),
///             _ => 0,
///         };
///     }
/// }
///
/// let gauge = Arc::new(Gauge::default());
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)))
///     .observer(gauge.clone())
///     .observer(|event: &Event<'_>| eprintln!("{event}"));
/// # let _ = server;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an `Observer`",
    note = "a closure is one if its argument's type is written out, `|event: &Event<'_>| ...`, and if it is \
            `Fn`, `Send` and `Sync`"
)]
pub trait Observer: Send + Sync + 'static {
    /// Something has happened.
    fn event(&self, event: &Event<'_>);
}

impl<F> Observer for F
where
    F: Fn(&Event<'_>) + Send + Sync + 'static,
{
    fn event(&self, event: &Event<'_>) {
        self(event);
    }
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn event(&self, event: &Event<'_>) {
        (**self).event(event);
    }
}

/// One observer, and whether it was reported to panic.
struct Seat {
    observer: Arc<dyn Observer>,
    reported: AtomicBool,
}

/// Those who listen: the counters, the log, and then the user's own observers.
pub(crate) struct Events {
    pub(crate) counters: Counters,
    /// The log has the first seat.
    seats: Box<[Seat]>,
}

impl Events {
    pub(crate) fn new(errors: HandlerErrors, observers: &[Arc<dyn Observer>]) -> Self {
        let log: Arc<dyn Observer> = Arc::new(Log::new(errors));
        let all = std::iter::once(&log).chain(observers);
        let seat = |observer: &Arc<dyn Observer>| Seat {
            observer: observer.clone(),
            reported: AtomicBool::new(false),
        };
        Self { counters: Counters::default(), seats: all.map(seat).collect() }
    }

    /// Tells everybody. No lock of ours may be held: this is the user's code.
    pub(crate) fn emit(&self, event: &Event<'_>) {
        self.counters.count(event);
        self.tell(event, None);
    }

    fn tell(&self, event: &Event<'_>, but: Option<usize>) {
        for (index, seat) in self.seats.iter().enumerate() {
            if but == Some(index) || survives(|| seat.observer.event(event)) {
                continue;
            }
            self.counters.observer_panicked();
            let first = !seat.reported.swap(true, Ordering::Relaxed);
            // (The log's own panic is the logger's; there is nobody to write it down.)
            if first && let Some(observer) = index.checked_sub(1) {
                self.tell(&Event::ObserverPanicked { observer }, Some(index));
            }
        }
    }
}

/// Whether user code returned instead of panicking.
fn survives(user: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(user)) {
        Ok(()) => true,
        Err(payload) => {
            // The payload is the user's as well, and so is its destructor.
            drop(catch_unwind(AssertUnwindSafe(|| drop(payload))));
            false
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("observers", &self.seats.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[test]
    fn a_panic_is_reported_once_to_the_others_counted_each_time_and_harms_nobody() {
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = heard.clone();
        let observers: [Arc<dyn Observer>; 3] = [
            Arc::new(|_: &Event<'_>| panic!("planned: the first")),
            Arc::new(move |event: &Event<'_>| noted.lock().push(event.name().to_owned())),
            Arc::new(|_: &Event<'_>| panic!("planned: the third")),
        ];
        let events = Events::new(HandlerErrors::Logged, &observers);
        for _ in 0..3 {
            events.emit(&Event::Full { max_connections: 1 });
        }
        let heard = heard.lock();
        assert_eq!(heard.iter().filter(|name| *name == "full").count(), 3, "{heard:?}");
        assert_eq!(heard.iter().filter(|name| *name == "observer-panicked").count(), 2);
        // Each three times, and once more when it heard of the other one.
        assert_eq!(events.counters.snapshot(0).observer_panics, 8);
    }
}
