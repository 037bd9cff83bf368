//! Comparing the reports of two runs, and failing if something got worse by more than is allowed.
use std::fs;
use std::path::Path;

use crate::cli::CompareArgs;
use crate::report::{Report, SCHEMA, html};
use crate::slo::Metric;
use crate::units::{show_count, show_us};
use crate::verdict;

/// `p99>+10%`: fail if p99 grew by more than a tenth.
#[derive(Clone, Debug, PartialEq)]
struct Rule {
    text: String,
    metric: Metric,
    /// Growth fails, or shrinking does.
    up: bool,
    allowed: f64,
    relative: bool,
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        let shape = || format!("'{text}' is no change: p99>+10%, rate<-5%, lost>+0");
        let at = text.find(['<', '>']).ok_or_else(shape)?;
        let (name, rest) = text.split_at(at);
        let up = rest.starts_with('>');
        let change = rest[1..].trim();
        let (number, relative) = match change.strip_suffix('%') {
            Some(number) => (number, true),
            None => (change, false),
        };
        let signed: f64 = number.parse().map_err(|_| shape())?;
        if (signed < 0.0) == up && signed != 0.0 {
            return Err(shape());
        }
        let metric = Metric::parse(name.trim())?;
        Ok(Self { text: text.to_owned(), metric, up, allowed: signed.abs(), relative })
    }

    /// What is wrong with the change, if it is too much.
    fn broken(&self, before: &Report, after: &Report) -> Option<String> {
        let (was, is) = match (self.metric.of(before), self.metric.of(after)) {
            (Ok(was), Ok(is)) => (was, is),
            (Err(why), _) | (_, Err(why)) => return Some(format!("{}: {why}", self.text)),
        };
        let worse = if self.up { is - was } else { was - is };
        // From nothing, any growth is more than any share.
        let worse = match (self.relative, was == 0.0) {
            (false, _) => worse,
            (true, false) => worse / was * 100.0,
            (true, true) if worse > 0.0 => f64::INFINITY,
            (true, true) => 0.0,
        };
        (worse > self.allowed).then(|| format!("{}: from {was:.2} to {is:.2}", self.text))
    }
}

/// Compares; the exit status.
pub(crate) fn main(args: &CompareArgs) -> u8 {
    let rules: Result<Vec<_>, _> = args.fail_if.iter().map(|text| Rule::parse(text)).collect();
    let rules = match rules {
        Ok(rules) => rules,
        Err(why) => {
            eprintln!("error: {why}");
            return verdict::USAGE;
        }
    };
    match compare(args, &rules) {
        Ok(broken) if broken.is_empty() => verdict::FINE,
        Ok(broken) => {
            broken.iter().for_each(|why| println!("  WORSE   {why}"));
            verdict::SLO_MISSED
        }
        Err(why) => {
            eprintln!("error: {why}");
            verdict::CANNOT_RUN
        }
    }
}

fn compare(args: &CompareArgs, rules: &[Rule]) -> Result<Vec<String>, String> {
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    print!("{}", table(&before, &after));
    if let Some(path) = &args.html {
        let page = html::page(&[&before, &after])?;
        fs::write(path, page).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    Ok(rules.iter().filter_map(|rule| rule.broken(&before, &after)).collect())
}

/// Reads a report.
///
/// # Errors
/// If the file cannot be read, is no report, or is one of another version.
pub(crate) fn read(path: &Path) -> Result<Report, String> {
    let text =
        fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let version: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| format!("{} is no report: {e}", path.display()))?;
    match version["schema"].as_u64() {
        Some(found) if found != u64::from(SCHEMA) => {
            return Err(format!("{} has schema {found}; this reads {SCHEMA}", path.display()));
        }
        _ => {}
    }
    serde_json::from_value(version).map_err(|e| format!("{} is no report: {e}", path.display()))
}

fn table(before: &Report, after: &Report) -> String {
    let mut out = format!(
        "  {:<14} {:>14} {:>14} {:>10}\n",
        "",
        short(&before.name),
        short(&after.name),
        "change"
    );
    let names = [
        "rate",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "p99.99",
        "max",
        "mean",
        "service.p99",
        "loss",
        "errors",
        "cpu",
        "rss",
    ];
    for name in names {
        let Ok(metric) = Metric::parse(name) else { continue };
        let (was, is) = (metric.of(before), metric.of(after));
        if was.is_err() && is.is_err() {
            continue;
        }
        let change = match (&was, &is) {
            (Ok(was), Ok(is)) if *was != 0.0 => format!("{:+.1} %", (is - was) / was * 100.0),
            (Ok(was), Ok(is)) if was == is => "=".to_owned(),
            _ => String::new(),
        };
        let show = |value: Result<f64, String>| match value {
            Err(_) => "-".to_owned(),
            Ok(value) => match name {
                "rate" => format!("{}/s", show_count(value.round() as u64)),
                "loss" => format!("{:.4} %", value * 100.0),
                "errors" => show_count(value as u64),
                "cpu" => format!("{value:.2} us"),
                "rss" => format!("{:.1} MiB", value / 1024.0),
                _ => show_us(value),
            },
        };
        out += &format!("  {name:<14} {:>14} {:>14} {change:>10}\n", show(was), show(is));
    }
    if before.config.url != after.config.url
        || before.config.scenario != after.config.scenario
        || before.config.load != after.config.load
    {
        out += "  note    these runs were told different things: compare with care\n";
    }
    out
}

fn short(name: &str) -> String {
    name.chars().take(14).collect()
}

#[cfg(test)]
mod tests {
    use super::Rule;
    use crate::report::build::tests::{plan, report};

    fn broken(rule: &str, was: f64, is: f64) -> bool {
        let plan = plan("tcp://127.0.0.1:9");
        let (mut before, mut after) = (report(&plan), report(&plan));
        before.rate = was;
        after.rate = is;
        Rule::parse(rule).expect("good").broken(&before, &after).is_some()
    }

    #[test]
    fn only_a_change_for_the_worse_by_more_than_allowed_fails() {
        assert!(broken("rate<-5%", 100.0, 94.0) && !broken("rate<-5%", 100.0, 96.0));
        assert!(!broken("rate<-5%", 100.0, 200.0));
        assert!(broken("rate>+10%", 100.0, 111.0) && !broken("rate>+10%", 100.0, 109.0));
        assert!(broken("rate>+0", 0.0, 1.0) && broken("rate>+10%", 0.0, 1.0));
        for bad in ["p99", "p99>-10%", "rate<+5%", "nonsense>+1%", "p99>x"] {
            assert!(Rule::parse(bad).is_err(), "{bad}");
        }
    }
}
