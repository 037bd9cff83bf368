//! From what a run has counted to its report.
use std::time::{SystemTime, UNIX_EPOCH};

use crate::engine::Ran;
use crate::host::Host;
use crate::plan::{Load, Plan};
use crate::report::{Config, Distribution, Generator, Outcome, Report, SCHEMA, Server};
use crate::verdict::{Circumstances, judge};

/// How a run is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Title<'a> {
    pub(crate) name: &'a str,
    pub(crate) scenario: &'a str,
}

/// The report of a run, judged by these limits.
pub(crate) fn report(
    plan: &Plan,
    ran: Ran,
    title: Title<'_>,
    (slos, loss): (&[crate::slo::Slo], f64),
) -> Report {
    let (interrupted, server_gone) = (ran.interrupted, ran.server_gone);
    let connect_error = ran.connect_error.clone();
    let mut report = unjudged(plan, ran, title, loss);
    let connect_error = connect_error.as_deref();
    let given = Circumstances { plan, slos, loss, interrupted, server_gone, connect_error };
    report.outcome = judge(&report, given);
    report
}

fn unjudged(plan: &Plan, ran: Ran, title: Title<'_>, loss: f64) -> Report {
    let books = ran.books;
    let answered = (books.ok + books.late + books.unproved).max(1) as f64;
    let open = plan.is_open();
    let response = Distribution::of(&ran.histograms.response);
    let service = if open { Distribution::of(&ran.histograms.service) } else { response.clone() };
    let per_second = |count: u64, time: f64| if time > 0.0 { count as f64 / time } else { 0.0 };
    let sides = plan.sides.count();
    Report {
        schema: SCHEMA,
        tool: format!("switchboard-load {}", env!("CARGO_PKG_VERSION")),
        name: title.name.to_owned(),
        started_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        config: config(plan, title.scenario, loss),
        host: Host::here(),
        outcome: Outcome::default(),
        rate: per_second(ran.measured, ran.measured_for),
        measured_s: ran.measured_for,
        books_balance: books.balance(),
        response,
        service,
        connect: Distribution::of(&ran.histograms.connect),
        first_byte: Distribution::of(&ran.histograms.first_byte),
        connections_per_s: per_second(books.connected, ran.sent_for),
        generator: Generator {
            busy: ran.busy,
            full: ran.full,
            lag: Distribution::of(&ran.histograms.lag),
            cpu: ran.own_cpu,
            cpu_us_per_message: ran.own_cpu.seconds * 1e6 / answered,
            kernel_drops: ran.kernel_drops,
            sides_up: ran.sides_up,
        },
        server: ran.server.map(|used| Server {
            cpu_us_per_message: used.cpu_seconds * 1e6 / answered,
            bytes_per_connection: used.rss_max_kib.saturating_sub(used.rss_start_kib) as f64
                * 1024.0
                / (plan.connections + sides).max(1) as f64,
            drained_in_ms: ran.drained_in,
            used,
        }),
        seconds: ran.seconds,
        baseline: None,
        chat: None,
        search: None,
        sweep: None,
        counters: books,
    }
}

/// What a plan says, in words.
pub(crate) fn config(plan: &Plan, scenario: &str, loss: f64) -> Config {
    let (load, rate, arrival) = match plan.load {
        Load::Closed => ("closed", None, None),
        Load::Open { rate, arrival } => {
            ("open", Some(rate), Some(format!("{arrival:?}").to_lowercase()))
        }
    };
    Config {
        url: plan.target.to_string(),
        scenario: scenario.to_owned(),
        threads: plan.threads,
        connections: plan.connections,
        depth: plan.depth,
        load: load.to_owned(),
        rate,
        arrival,
        duration_s: plan.duration.as_secs_f64(),
        count: plan.count,
        warmup_s: plan.warmup.as_secs_f64(),
        timeout_s: plan.timeout.as_secs_f64(),
        framing: if plan.target.is_stream() {
            plan.framing.to_string()
        } else {
            "datagrams".to_owned()
        },
        expect: plan.expect.to_string(),
        size_least: plan.sizes.least,
        size_most: plan.sizes.most,
        silent: plan.sides.silent,
        slow_readers: plan.sides.slow_readers,
        dribblers: plan.sides.dribblers,
        loss_allowed: loss,
        seed: plan.seed,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::{Title, config};
    use crate::cli::Cli;
    use crate::host::Host;
    use crate::plan::Plan;
    use crate::report::{Distribution, Generator, Outcome, Report, SCHEMA};

    /// A plan as the command line would make it.
    pub(crate) fn plan(words: &str) -> Plan {
        let words = std::iter::once("load").chain(words.split_whitespace());
        crate::setup::plan(&Cli::parse_from(words).load).expect("a good plan").0
    }

    /// A report of nothing.
    pub(crate) fn report(plan: &Plan) -> Report {
        let title = Title { name: "test", scenario: "pingpong" };
        Report {
            schema: SCHEMA,
            tool: "test".to_owned(),
            name: title.name.to_owned(),
            started_at: 0,
            config: config(plan, title.scenario, 0.0),
            host: Host::here(),
            outcome: Outcome::default(),
            rate: 1000.0,
            measured_s: 1.0,
            books_balance: true,
            counters: crate::books::Books::default(),
            response: Distribution::default(),
            service: Distribution::default(),
            connect: Distribution::default(),
            first_byte: Distribution::default(),
            connections_per_s: 0.0,
            generator: Generator::default(),
            server: None,
            seconds: Vec::new(),
            baseline: None,
            chat: None,
            search: None,
            sweep: None,
        }
    }
}
