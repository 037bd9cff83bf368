//! The herald: tells of suspensions and of the drain in the order in which they came, by one teller at a time.
//!
//! What happens is noted under a lock, and told without one. Whoever notes something while somebody else
//! tells leaves it to that one and goes on, so that nobody waits here, an observer least of all.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use crate::event::Event;
use crate::schedule::drain::InTurn;
use crate::schedule::engine::Engine;
use crate::schedule::report::DrainReport;

/// What is told in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum News {
    /// Newcomers are turned away.
    Suspended,
    /// They are let in again.
    Resumed,
    /// A drain begins, and may take so long.
    Draining(Duration),
    /// It has ended.
    Drained(DrainReport),
}

/// How much of a drain was noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Noted {
    /// There is none.
    #[default]
    Nothing,
    /// That it begins.
    Begins,
    /// That it is over, or that none will begin any more.
    Over,
}

/// What was noted and not told.
#[derive(Debug, Default)]
pub(super) struct Herald(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    /// Three at most: a change that is taken back before it was told is not told, and a drain comes once.
    waiting: VecDeque<News>,
    drain: Noted,
    /// Somebody tells, and will tell the rest.
    is_telling: bool,
}

impl Herald {
    pub(super) fn suspended(&self) {
        self.change(News::Suspended);
    }

    pub(super) fn resumed(&self) {
        self.change(News::Resumed);
    }

    fn change(&self, to: News) {
        let mut notes = self.0.lock();
        if notes.drain != Noted::Nothing {
            return;
        }
        // Changes alternate: what waits is the opposite.
        match notes.waiting.pop_back() {
            Some(_taken_back) => {}
            None => notes.waiting.push_back(to),
        }
    }

    fn drain_begins(&self, within: Duration) {
        let mut notes = self.0.lock();
        if notes.drain == Noted::Nothing {
            notes.drain = Noted::Begins;
            notes.waiting.push_back(News::Draining(within));
        }
    }

    /// The drain is over, if there was one; none begins any more.
    fn drain_is_over(&self, report: &DrainReport) {
        let mut notes = self.0.lock();
        if notes.drain == Noted::Begins {
            notes.waiting.push_back(News::Drained(report.clone()));
        }
        notes.drain = Noted::Over;
    }

    /// Whether a drain was asked for, also if it is not told yet.
    pub(super) fn knows_of_a_drain(&self) -> bool {
        self.0.lock().drain != Noted::Nothing
    }

    /// Whether the caller is to tell what waits.
    fn begin_to_tell(&self) -> bool {
        let mut notes = self.0.lock();
        !notes.waiting.is_empty() && !std::mem::replace(&mut notes.is_telling, true)
    }

    /// What the teller is to tell next; else it is none any more.
    fn next(&self) -> Option<News> {
        let mut notes = self.0.lock();
        let next = notes.waiting.pop_front();
        notes.is_telling = next.is_some();
        next
    }
}

impl Engine {
    /// Notes that a drain begins, and has it told. Then, and not before, it can go on, and end.
    pub(super) fn tell_of_the_drain(&self, within: Duration) {
        self.herald.drain_begins(within);
        self.tell_news();
    }

    /// The drain is over, if there was one.
    pub(super) fn tell_of_the_report(&self, report: &DrainReport) {
        self.herald.drain_is_over(report);
        self.tell_news();
    }

    /// Tells what was noted, unless somebody else does. No lock of ours may be held.
    pub(super) fn tell_news(&self) {
        if !self.herald.begin_to_tell() {
            return;
        }
        // An observer that waits for the end would wait for this very call.
        let _in_turn = InTurn::begin(self);
        while let Some(news) = self.herald.next() {
            let events = &self.core.events;
            match news {
                News::Suspended => events.emit(&Event::Suspended),
                News::Resumed => events.emit(&Event::Resumed),
                News::Draining(within) => {
                    events.emit(&Event::Draining { within, open: self.open() });
                    self.drain_is_told();
                }
                News::Drained(report) => {
                    let DrainReport { completed, told, forced, stuck, took, .. } = report;
                    events.emit(&Event::Drained { completed, told, forced, stuck, took });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_tells_and_tells_everything_in_order() {
        let herald = Herald::default();
        assert!(!herald.begin_to_tell(), "there is nothing");
        herald.suspended();
        assert!(herald.begin_to_tell());
        assert_eq!(herald.next(), Some(News::Suspended));
        herald.resumed();
        herald.drain_begins(Duration::ZERO);
        assert!(!herald.begin_to_tell(), "somebody does");
        assert_eq!(herald.next(), Some(News::Resumed));
        let report = DrainReport::default();
        herald.drain_is_over(&report);
        assert_eq!(herald.next(), Some(News::Draining(Duration::ZERO)));
        assert_eq!(herald.next(), Some(News::Drained(report)));
        assert_eq!(herald.next(), None);
        assert!(!herald.begin_to_tell(), "all is told");
    }

    #[test]
    fn what_is_taken_back_is_not_told_and_a_drain_is_the_last_news() {
        let herald = Herald::default();
        (0..100).for_each(|_| {
            herald.suspended();
            herald.resumed();
        });
        assert!(!herald.begin_to_tell());
        assert!(!herald.knows_of_a_drain());
        herald.drain_is_over(&DrainReport::default());
        herald.drain_begins(Duration::ZERO);
        herald.suspended();
        assert!(!herald.begin_to_tell(), "it was over before");
        assert!(herald.knows_of_a_drain());
    }
}
