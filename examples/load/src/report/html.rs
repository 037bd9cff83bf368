//! The report as one page: no script, no font, no image from anywhere; light or dark as the reader likes.
use crate::report::{Report, plot, table};
use crate::units::{show_count, show_us};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5d6570; --grid: #e3e6ea; --back: #ffffff; --card: #f6f7f9;
  --good: #1a7f37; --bad: #c4302b; --r0: #0a66c2; --r1: #c2410c; --r2: #15803d; --r3: #7c3aed; --r4: #a16207; --r5: #be185d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #a0a8b2; --grid: #30353c; --back: #14161a; --card: #1d2025;
  --good: #4ac26b; --bad: #ff7b72; --r0: #6cb2ff; --r1: #ff9d5c; --r2: #5fd383; --r3: #b794ff; --r4: #e3b341; --r5: #ff80b5; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; } p { margin: .3rem 0; color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; } th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--grid); }
th:first-child, td:first-child { text-align: left; } pre { background: var(--card); padding: 1rem; overflow-x: auto; font-size: 12px; line-height: 1.4; border-radius: 6px; }
svg { width: 100%; height: auto; background: var(--card); border-radius: 6px; } .good { color: var(--good); } .bad { color: var(--bad); }
svg [fill='#010101'] { fill: var(--ink); } svg [stroke='#010101'] { stroke: var(--ink); } svg [stroke='#020202'] { stroke: var(--grid); }
@media print { body { max-width: none; } svg, pre { break-inside: avoid; } }
";

/// The page for these runs, overlaid.
///
/// # Errors
/// If a diagram cannot be drawn.
pub(crate) fn page(runs: &[&Report]) -> Result<String, String> {
    let first = runs.first().ok_or("no run to show")?;
    let mut body = format!("<h1>{}</h1>", escape(&first.name));
    for report in runs {
        body += &format!("<p>{}</p>", escape(&summary(report)));
    }
    body += &verdicts(runs);
    body += &figures(runs);
    let diagrams = [
        (
            "Latency at every percentile",
            "Response counts from the planned instant; service, dashed, from the write.",
            plot::percentiles(runs)?,
        ),
        ("Latency against offered rate", "p99, and p50 dashed.", plot::latency_by_rate(runs)?),
        (
            "Achieved against offered rate",
            "Where the line leaves the diagonal, the server or the generator is full.",
            plot::achieved_by_rate(runs)?,
        ),
        ("Rate over time", "Right replies in every second.", plot::rates(runs)?),
        ("Latency over time", "p99 of every second, and p50 dashed.", plot::latencies(runs)?),
    ];
    for (title, text, svg) in diagrams.iter().filter(|(_, _, svg)| !svg.is_empty()) {
        body += &format!("<h2>{title}</h2>{svg}<p>{text}</p>");
    }
    for report in runs {
        body += &format!(
            "<h2>Report: {}</h2><pre>{}</pre>",
            escape(&report.name),
            escape(&table::table(report))
        );
    }
    let mut style = STYLE.to_owned();
    for n in 0..plot::RUNS.len() {
        let hex = format!("#10{0:02X}{0:02X}", n + 1);
        style += &format!(
            "svg [stroke='{hex}'] {{ stroke: var(--r{n}); }} svg [fill='{hex}'] {{ fill: var(--r{n}); }} .r{n} {{ color: var(--r{n}); }}\n"
        );
    }
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{} - switchboard-load</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>{style}</style></head>\n<body>\n{body}\n</body>\n</html>\n",
        escape(&first.name)
    ))
}

fn summary(report: &Report) -> String {
    let config = &report.config;
    let load = match config.rate {
        Some(rate) => format!("open loop at {}/s", show_count(rate.round() as u64)),
        None => "closed loop".to_owned(),
    };
    format!(
        "{}: {} {}, {load}, {} connections, {}, expecting {}; on {} ({} cores, Linux {})",
        report.name,
        config.url,
        config.scenario,
        show_count(config.connections as u64),
        config.framing,
        config.expect,
        report.host.cpu,
        report.host.cores,
        report.host.kernel,
    )
}

fn verdicts(runs: &[&Report]) -> String {
    let mut out = String::new();
    for report in runs {
        let outcome = &report.outcome;
        let (class, word) = match outcome.status {
            0 => ("good", "every reply proved"),
            3 => ("bad", "limits missed"),
            4 => ("bad", "wrong or lost replies"),
            5 => ("bad", "not a valid measurement"),
            _ => ("bad", "incomplete"),
        };
        let details =
            outcome.faults.iter().chain(&outcome.invalid_because).map(|text| escape(text));
        let details: Vec<_> = details.collect();
        out += &format!(
            "<p class=\"{class}\"><b>{}: {word}</b> {}</p>",
            escape(&report.name),
            details.join("; ")
        );
    }
    out
}

fn figures(runs: &[&Report]) -> String {
    let mut out = "<table><tr><th>run</th><th>rate</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>p99.99</th><th>max</th><th>samples</th></tr>".to_owned();
    let far = |us: Option<f64>| us.map_or("-".to_owned(), show_us);
    for (n, report) in runs.iter().enumerate() {
        let d = &report.response;
        let cells = [
            format!("{}/s", show_count(report.rate.round() as u64)),
            show_us(d.p50_us),
            show_us(d.p90_us),
            show_us(d.p99_us),
            far(d.p99_9_us),
            far(d.p99_99_us),
            show_us(d.max_us),
            show_count(d.count),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        out += &format!(
            "<tr><td class=\"r{}\"><b>{}</b></td>{cells}</tr>",
            n % plot::RUNS.len(),
            escape(&report.name)
        );
    }
    out + "</table>"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::page;
    use crate::report::build::tests::{plan, report};

    #[test]
    fn a_page_stands_alone_and_shows_names_as_text() {
        let mut run = report(&plan("tcp://127.0.0.1:9"));
        run.name = "<script>alert(1)</script>".to_owned();
        let page = page(&[&run]).expect("a page");
        assert!(
            !page.contains("<script") && !page.contains("http://") && !page.contains("https://")
        );
        assert!(page.contains("&lt;script&gt;"));
    }
}
