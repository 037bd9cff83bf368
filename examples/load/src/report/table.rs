//! The report for people, on standard output.
use std::fmt::Write;

use crate::report::{Distribution, Report};
use crate::units::{show_count, show_us};

/// The whole table.
pub(crate) fn table(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail, so the results say nothing.
    let _ = head(report, &mut out);
    let _ = latencies(report, &mut out);
    let _ = counters(report, &mut out);
    let _ = processes(report, &mut out);
    let _ = trials(report, &mut out);
    let _ = verdict(report, &mut out);
    out
}

fn head(report: &Report, out: &mut String) -> std::fmt::Result {
    let config = &report.config;
    let size = if config.size_least == config.size_most {
        config.size_least.to_string()
    } else {
        format!("{}..{}", config.size_least, config.size_most)
    };
    let load = match config.rate {
        Some(rate) => format!(
            "open loop, {}/s {}",
            show_count(rate.round() as u64),
            config.arrival.as_deref().unwrap_or("")
        ),
        None => "closed loop".to_owned(),
    };
    writeln!(out, "{}  {}  {load}", config.url, config.scenario)?;
    writeln!(
        out,
        "  {} connections x {} open, {size} bytes, {}, expecting {}, {} thread{}",
        config.connections,
        config.depth,
        config.framing,
        config.expect,
        config.threads,
        if config.threads == 1 { "" } else { "s" },
    )?;
    writeln!(out)?;
    let offered = config.rate.map_or(String::new(), |rate| {
        format!("  ({:.1} % of the rate offered)", report.rate / rate * 100.0)
    });
    writeln!(
        out,
        "  rate          {:>12}/s  over {:.2} s{offered}",
        show_count(report.rate.round() as u64),
        report.measured_s,
    )?;
    let time = report.measured_s.max(1e-9);
    writeln!(
        out,
        "  bytes         {:>12.2} MB/s out, {:.2} MB/s in",
        report.counters.bytes_sent as f64 / time / 1e6,
        report.counters.bytes_received as f64 / time / 1e6,
    )?;
    if report.counters.connected as usize > config.connections + report.generator.sides_up {
        let connections = show_count(report.connections_per_s.round() as u64);
        writeln!(out, "  connections   {connections:>12}/s")?;
    }
    writeln!(out)
}

fn latencies(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "  {:<13} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12}",
        "latency", "p50", "p90", "p99", "p99.9", "p99.99", "max", "samples"
    )?;
    let open = report.config.load == "open";
    line(out, if open { "response" } else { "reply" }, &report.response)?;
    if open {
        line(out, "service", &report.service)?;
        line(out, "own lag", &report.generator.lag)?;
    }
    if let Some(baseline) = &report.baseline {
        line(out, "without them", baseline)?;
    }
    if report.counters.connected > 0 && report.is_stream() {
        line(out, "connect", &report.connect)?;
        if report.counters.connected as usize > report.config.connections {
            line(out, "first byte", &report.first_byte)?;
        }
    }
    writeln!(out)
}

fn line(out: &mut String, name: &str, d: &Distribution) -> std::fmt::Result {
    if d.count == 0 {
        return writeln!(out, "  {name:<13} {:>10}", "none");
    }
    let far = |us: Option<f64>| us.map_or("-".to_owned(), show_us);
    writeln!(
        out,
        "  {name:<13} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12}",
        show_us(d.p50_us),
        show_us(d.p90_us),
        show_us(d.p99_us),
        far(d.p99_9_us),
        far(d.p99_99_us),
        show_us(d.max_us),
        show_count(d.count),
    )
}

fn counters(report: &Report, out: &mut String) -> std::fmt::Result {
    let books = &report.counters;
    write!(out, "  requests      {:>12} sent", show_count(books.sent))?;
    for (name, count) in books.fates() {
        if count > 0 {
            write!(out, ", {} {name}", show_count(count))?;
        }
    }
    writeln!(out)?;
    let more = [
        ("duplicate", books.duplicate),
        ("crossed", books.crossed),
        ("reordered", books.reordered),
        ("unsolicited", books.unsolicited),
        ("empty sent", books.empty_sent),
        ("empty answered", books.empty_answered),
        ("connects refused", books.connect_refused),
        ("connects failed", books.connect_failed),
        ("closed by server", books.closed_by_server),
        ("reset by server", books.reset_by_server),
        ("side connections ended by server", books.side_closed),
    ];
    for (name, count) in more.iter().filter(|(_, count)| *count > 0) {
        writeln!(out, "                {:>12} {name}", show_count(*count))?;
    }
    Ok(())
}

fn processes(report: &Report, out: &mut String) -> std::fmt::Result {
    let own = &report.generator;
    writeln!(
        out,
        "  generator     {:>12} us CPU a message, {:.0} % busy, {:.1} MiB",
        format!("{:.2}", own.cpu_us_per_message),
        own.busy * 100.0,
        own.cpu.rss_kib as f64 / 1024.0,
    )?;
    let Some(server) = &report.server else { return writeln!(out) };
    writeln!(
        out,
        "  server        {:>12} us CPU a message, {:.1} MiB at most ({:.0} bytes a connection), {} threads, {} context switches",
        format!("{:.2}", server.cpu_us_per_message),
        server.used.rss_max_kib as f64 / 1024.0,
        server.bytes_per_connection,
        server.used.threads_max,
        show_count(server.used.context_switches),
    )?;
    if let Some(took) = server.drained_in_ms {
        writeln!(out, "                {took:>12.0} ms from SIGTERM to its end")?;
    }
    writeln!(out)
}

fn trials(report: &Report, out: &mut String) -> std::fmt::Result {
    if let Some(chat) = &report.chat {
        writeln!(
            out,
            "  chat          {:>12} messages, {} deliveries/s; {} of {} pairs of member and publisher complete and in order",
            show_count(chat.published),
            show_count(chat.deliveries_per_s.round() as u64),
            show_count(chat.complete_pairs),
            show_count(chat.pairs),
        )?;
        line(out, "last member", &chat.last_member)?;
        if chat.cast.slow > 0 || chat.errors > 0 {
            writeln!(
                out,
                "                {:>12} slow members cut off, {} errors from the server",
                show_count(chat.slow_cut),
                show_count(chat.errors),
            )?;
        }
    }
    let path = report.search.as_ref().map(|search| &search.path).or(report.sweep.as_ref());
    if let Some(path) = path {
        writeln!(
            out,
            "  {:>12} {:>12} {:>10} {:>10} {:>10} {:>10}",
            "offered/s", "achieved/s", "p50", "p99", "own lag", "server CPU"
        )?;
        for trial in path {
            writeln!(
                out,
                "  {:>12} {:>12} {:>10} {:>10} {:>10} {:>10}  {} {}",
                show_count(trial.rate.round() as u64),
                show_count(trial.achieved.round() as u64),
                show_us(trial.p50_us),
                show_us(trial.p99_us),
                show_us(trial.lag_p99_us),
                trial.server_cpu_us.map_or("-".to_owned(), |us| format!("{us:.2} us")),
                if trial.passed { "passed" } else { "failed" },
                trial.why,
            )?;
        }
    }
    if let Some(search) = &report.search {
        let rate = |rate: Option<f64>| {
            rate.map_or("none".to_owned(), |r| format!("{}/s", show_count(r.round() as u64)))
        };
        writeln!(
            out,
            "  highest rate with {}: {} passes, {} fails{}",
            search.limit,
            rate(search.passes),
            rate(search.fails),
            if search.generator_limited {
                " (limited by the generator: the server may do more)"
            } else {
                ""
            },
        )?;
    }
    Ok(())
}

fn verdict(report: &Report, out: &mut String) -> std::fmt::Result {
    let outcome = &report.outcome;
    for checked in &outcome.slos {
        let word = if checked.kept { "kept  " } else { "MISSED" };
        writeln!(out, "  {word}  {}  (found {})", checked.slo, checked.found)?;
    }
    for note in &outcome.notes {
        writeln!(out, "  note    {note}")?;
    }
    for why in &outcome.invalid_because {
        writeln!(out, "  INVALID {why}")?;
    }
    for fault in &outcome.faults {
        writeln!(out, "  WRONG   {fault}")?;
    }
    for example in &report.counters.examples {
        writeln!(
            out,
            "          {} on connection {}: got {} bytes {}, expected {} bytes {}",
            example.class,
            example.connection,
            example.got_bytes,
            some(&example.got),
            example.expected_bytes,
            some(&example.expected),
        )?;
    }
    let word = match outcome.status {
        0 => "fine: every reply proved",
        1 => "cannot run",
        3 => "limits missed",
        4 => "wrong or lost replies",
        5 => "not a valid measurement",
        _ => "interrupted",
    };
    writeln!(out, "  {word}")
}

/// The first bytes of an example, short enough for a line.
fn some(hex: &str) -> String {
    match hex {
        "" => "-".to_owned(),
        hex if hex.chars().count() <= 64 => hex.to_owned(),
        hex => hex.chars().take(64).chain(['…']).collect(),
    }
}
