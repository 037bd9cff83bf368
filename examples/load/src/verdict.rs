//! What a run comes to: valid or not, right or wrong, and the exit status that says so.
use crate::books::Books;
use crate::plan::{Ending, Load, Plan};
use crate::report::{Outcome, Report};
use crate::slo::Slo;

pub(crate) const FINE: u8 = 0;
pub(crate) const CANNOT_RUN: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const SLO_MISSED: u8 = 3;
pub(crate) const WRONG: u8 = 4;
pub(crate) const INVALID: u8 = 5;
pub(crate) const INTERRUPTED: u8 = 130;

/// The generator may be late by this much, or by a tenth of the response time at p99, whichever is more.
const LAG_US: f64 = 1000.0;
/// From this share of its time on, a thread that fell behind is taken to be saturated.
const BUSY: f64 = 0.9;

/// What the verdict needs to know beside the report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) slos: &'a [Slo],
    /// The share of requests that may be missing.
    pub(crate) loss: f64,
    pub(crate) interrupted: bool,
    pub(crate) server_gone: bool,
    /// Why the first connect that failed did.
    pub(crate) connect_error: Option<&'a str>,
}

/// Judges a report.
pub(crate) fn judge(report: &Report, given: Circumstances<'_>) -> Outcome {
    let invalid = invalid_because(report, given.plan);
    let faults = faults(report, given);
    let slos: Vec<_> = given.slos.iter().map(|slo| slo.check(report)).collect();
    let nobody = report.counters.ok == 0
        && report.counters.refused > 0
        && report.counters.wrong(report.is_stream()) == 0;
    let missed = slos.iter().any(|checked| !checked.kept);
    let status = if given.interrupted {
        INTERRUPTED
    } else if nobody {
        CANNOT_RUN
    } else if !report.books_balance {
        INVALID
    } else if !faults.is_empty() {
        WRONG
    } else if !invalid.is_empty() {
        INVALID
    } else if missed {
        SLO_MISSED
    } else {
        FINE
    };
    let valid = invalid.is_empty() && !given.interrupted;
    let notes = notes(report, given.plan);
    Outcome { status, valid, invalid_because: invalid, faults, slos, notes }
}

fn invalid_because(report: &Report, plan: &Plan) -> Vec<String> {
    let mut why = Vec::new();
    if !report.books_balance {
        why.push("the books do not balance: this is a fault of the load tester".to_owned());
    }
    if let Load::Open { rate, .. } = plan.load {
        let lag = report.generator.lag.p99_us;
        let allowed = LAG_US.max(report.response.p99_us / 10.0);
        let delay = report.response.p99_us - report.service.p99_us;
        if lag > allowed {
            why.push(format!(
                "generator saturated: it wrote {:.1} ms late at p99; a lower --rate, more --threads, or a freer machine",
                lag / 1000.0
            ));
        } else if report.generator.busy > BUSY && delay > allowed && report.rate < rate * 0.99 {
            why.push(format!(
                "generator saturated: {:.0} % busy and behind its plan; a lower --rate or more --threads",
                report.generator.busy * 100.0
            ));
        }
    }
    if report.counters.sent == 0 {
        why.push("nothing was sent".to_owned());
    }
    why
}

fn faults(report: &Report, given: Circumstances<'_>) -> Vec<String> {
    let books = &report.counters;
    let mut found = Vec::new();
    let mut say = |count: u64, what: &str| {
        if count > 0 {
            found.push(format!("{count} {what}"));
        }
    };
    if report.loss() > given.loss {
        say(books.lost, "lost: no reply");
        say(books.late, "late: right, but after the time-out");
        say(books.refused, "refused: nobody listening");
        say(books.empty_lost(), "empty datagrams without an answer");
    }
    say(books.corrupt, "corrupt: wrong bytes in the reply");
    say(books.truncated, "truncated: only the beginning of the reply");
    say(books.early_close, "unanswered when the server closed");
    say(books.reset, "unanswered when the connection was reset");
    say(books.duplicate, "duplicate replies");
    say(books.crossed, "crossed: the reply of another connection");
    say(books.unsolicited, "unsolicited: answers nothing");
    if report.is_stream() {
        say(books.reordered, "reordered replies on a stream");
    }
    if given.plan.ending == Ending::HalfClose {
        say(books.never_closed, "connections did not close after our half-close");
    }
    if given.plan.drain_at.is_some() {
        say(books.reset_by_server, "connections reset by the draining server");
    } else {
        say(books.connect_refused, "connects refused while the load was on");
        say(books.connect_failed, "connects failed");
        if let (Some(why), true) =
            (given.connect_error, books.connect_failed + books.connect_refused > 0)
        {
            found.push(format!("the first of these: {why}"));
        }
    }
    if given.server_gone {
        found.push("the server is gone".to_owned());
    }
    found
}

fn notes(report: &Report, plan: &Plan) -> Vec<String> {
    let mut notes = Vec::new();
    let books: &Books = &report.counters;
    if plan.load == Load::Closed && report.generator.busy > 0.9 {
        notes.push(format!(
            "the generator was {:.0} % busy: the server may be able to do more than this",
            report.generator.busy * 100.0
        ));
    }
    if report.generator.full > 0.01 {
        notes.push(format!(
            "for {:.1} % of the time every connection was full and due requests waited (their clock ran)",
            report.generator.full * 100.0
        ));
    }
    if report.generator.kernel_drops > 0 {
        notes.push(format!(
            "kernels dropped {} datagrams for lack of buffer on this machine meanwhile",
            report.generator.kernel_drops
        ));
    }
    if !report.is_stream() && books.reordered > 0 {
        notes.push(format!("{} datagrams came out of order", books.reordered));
    }
    if books.unsent > 0 {
        notes.push(format!(
            "{} planned requests were never sent: there was no room for them",
            books.unsent
        ));
    }
    if books.declined > 0 {
        notes.push(format!("{} requests came after the signal and were declined", books.declined));
    }
    if let Some(example) = books.examples.iter().find(|e| e.class == "corrupt")
        && example.got.eq_ignore_ascii_case(&example.expected)
    {
        notes.push("the corrupt replies look right".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::{CANNOT_RUN, Circumstances, FINE, INTERRUPTED, INVALID, SLO_MISSED, WRONG, judge};
    use crate::plan::Plan;
    use crate::report::{Report, build};
    use crate::schedule::Arrival;
    use crate::slo::Slo;

    fn check(change: impl FnOnce(&mut Report, &mut Plan), slos: &[&str], interrupted: bool) -> u8 {
        let mut plan = build::tests::plan("tcp://127.0.0.1:9");
        let mut report = build::tests::report(&plan);
        report.counters.sent = 100;
        report.counters.ok = 100;
        change(&mut report, &mut plan);
        report.books_balance = report.counters.balance();
        let slos: Vec<_> = slos.iter().map(|slo| Slo::parse(slo).expect("good")).collect();
        let given = Circumstances {
            plan: &plan,
            slos: &slos,
            loss: 0.05,
            interrupted,
            server_gone: false,
            connect_error: None,
        };
        judge(&report, given).status
    }

    #[test]
    fn every_kind_of_ending_has_its_status() {
        assert_eq!(check(|_, _| {}, &[], false), FINE);
        assert_eq!(check(|_, _| {}, &["rate>=1M"], false), SLO_MISSED);
        assert_eq!(check(|r, _| r.counters.duplicate = 1, &["rate>=1M"], false), WRONG);
        assert_eq!(check(|r, _| r.counters.ok = 99, &[], false), INVALID);
        assert_eq!(check(|_, _| {}, &[], true), INTERRUPTED);
        let refused = |r: &mut Report, _: &mut Plan| {
            (r.counters.ok, r.counters.refused) = (0, 100);
        };
        assert_eq!(check(refused, &[], false), CANNOT_RUN);
    }

    #[test]
    fn loss_is_a_fault_only_above_what_is_allowed() {
        let lose =
            |n| move |r: &mut Report, _: &mut Plan| (r.counters.ok, r.counters.lost) = (100 - n, n);
        assert_eq!(check(lose(5), &[], false), FINE);
        assert_eq!(check(lose(6), &[], false), WRONG);
        assert_eq!(check(lose(5), &["lost==0"], false), SLO_MISSED);
    }

    #[test]
    fn a_generator_that_falls_behind_makes_an_open_loop_invalid_and_a_closed_one_not() {
        let behind = |r: &mut Report, _: &mut Plan| r.generator.lag.p99_us = 5000.0;
        assert_eq!(check(behind, &[], false), FINE);
        let open = |r: &mut Report, p: &mut Plan| {
            behind(r, p);
            p.load = crate::plan::Load::Open { rate: 100.0, arrival: Arrival::Constant };
        };
        assert_eq!(check(open, &[], false), INVALID);
    }
}
