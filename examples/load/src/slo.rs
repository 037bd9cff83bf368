//! Limits that a run must keep: `p99<5ms`, `lost==0`, `rate>=50k`.
use std::fmt;

use crate::report::Report;
use crate::units;

/// A limit on one figure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slo {
    text: String,
    metric: Metric,
    relation: Relation,
    /// In the metric's own unit: microseconds, a share, or a plain number.
    value: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Metric {
    /// A percentile of the response time; 1 is the maximum.
    Quantile(f64),
    /// The same of the service time.
    ServiceQuantile(f64),
    Mean,
    Rate,
    /// The share of requests without a right reply in time.
    Loss,
    /// Everything wrong or missing.
    Errors,
    /// A counter, by its name in the report.
    Counter(String),
    /// The server's CPU microseconds per message, and its memory at most, in KiB.
    Cpu,
    Rss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Less,
    LessOrEqual,
    Equal,
    MoreOrEqual,
    More,
}

const COUNTERS: [&str; 11] = [
    "ok",
    "late",
    "lost",
    "corrupt",
    "truncated",
    "early_close",
    "reset",
    "refused",
    "duplicate",
    "crossed",
    "unsolicited",
];

/// What a check has found.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Checked {
    pub(crate) slo: String,
    pub(crate) kept: bool,
    /// The figure found, or why there is none.
    pub(crate) found: String,
}

impl Slo {
    /// Reads a limit.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let at = text
            .find(['<', '>', '='])
            .ok_or_else(|| format!("'{text}' is no limit: p99<5ms, lost==0, rate>=50k"))?;
        let (name, rest) = text.split_at(at);
        let (relation, value) = [
            ("<=", Relation::LessOrEqual),
            (">=", Relation::MoreOrEqual),
            ("==", Relation::Equal),
            ("<", Relation::Less),
            (">", Relation::More),
            ("=", Relation::Equal),
        ]
        .iter()
        .find_map(|(sign, relation)| Some((*relation, rest.strip_prefix(sign)?)))
        .ok_or_else(|| format!("'{text}': no comparison"))?;
        let metric = Metric::parse(name.trim())?;
        let value = metric.value(value.trim())?;
        Ok(Self { text: text.to_owned(), metric, relation, value })
    }

    /// Judges a report.
    pub(crate) fn check(&self, report: &Report) -> Checked {
        let (kept, found) = match self.metric.of(report) {
            Ok(found) => (self.relation.holds(found, self.value), self.metric.show(found)),
            Err(why) => (false, why),
        };
        Checked { slo: self.text.clone(), kept, found }
    }
}

impl Slo {
    /// Judges a trial: a percentile is taken at the upper end of what so many samples leave open (95 %).
    pub(crate) fn check_cautiously(&self, report: &Report) -> Checked {
        let count = report.response.count.max(1) as f64;
        let upper = |q: f64| (q + 1.96 * (q * (1.0 - q) / count).sqrt()).min(1.0);
        let (distribution, q) = match self.metric {
            Metric::Quantile(q) if q < 1.0 => (&report.response, q),
            Metric::ServiceQuantile(q) if q < 1.0 => (&report.service, q),
            _ => return self.check(report),
        };
        let Some(found) = distribution.any_quantile_us(upper(q)) else {
            return Checked { slo: self.text.clone(), kept: false, found: "no reply".to_owned() };
        };
        let kept = self.relation.holds(found, self.value);
        Checked { slo: self.text.clone(), kept, found: self.metric.show(found) }
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Relation {
    fn holds(self, found: f64, limit: f64) -> bool {
        match self {
            Self::Less => found < limit,
            Self::LessOrEqual => found <= limit,
            Self::Equal => (found - limit).abs() < f64::EPSILON,
            Self::MoreOrEqual => found >= limit,
            Self::More => found > limit,
        }
    }
}

/// `p99.9` as 0.999.
fn quantile(name: &str) -> Option<f64> {
    if name == "max" {
        return Some(1.0);
    }
    let percent: f64 = name.strip_prefix('p')?.parse().ok()?;
    (percent > 0.0 && percent <= 100.0).then_some(percent / 100.0)
}

impl Metric {
    /// Reads a metric's name.
    ///
    /// # Errors
    /// Names those that there are.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        if let Some(quantile) = quantile(name) {
            return Ok(Self::Quantile(quantile));
        }
        if let Some(quantile) = name.strip_prefix("service.").and_then(quantile) {
            return Ok(Self::ServiceQuantile(quantile));
        }
        match name {
            "mean" => Ok(Self::Mean),
            "rate" => Ok(Self::Rate),
            "loss" => Ok(Self::Loss),
            "errors" => Ok(Self::Errors),
            "cpu" => Ok(Self::Cpu),
            "rss" => Ok(Self::Rss),
            _ if COUNTERS.contains(&name) => Ok(Self::Counter(name.to_owned())),
            _ => Err(format!(
                "'{name}' is no figure: p50 to p99.99, max, service.p99, mean, rate, loss, errors, cpu, rss, {}",
                COUNTERS.join(", ")
            )),
        }
    }

    fn value(&self, text: &str) -> Result<f64, String> {
        match self {
            Self::Quantile(_) | Self::ServiceQuantile(_) | Self::Mean => {
                if text.ends_with(|c: char| c.is_ascii_digit()) {
                    return Err(format!("'{text}' needs a unit: us, ms, s"));
                }
                units::duration(text).map(|d| d.as_secs_f64() * 1e6)
            }
            Self::Loss => units::share(text),
            Self::Rss => units::bytes(text).map(|bytes| bytes as f64 / 1024.0),
            Self::Rate if text != "0" => units::rate(text),
            Self::Cpu => text.trim_end_matches("us").parse().map_err(|_| format!("'{text}'")),
            Self::Rate | Self::Errors | Self::Counter(_) => {
                text.parse().map_err(|_| format!("'{text}' is no number"))
            }
        }
    }

    /// The figure in a report.
    ///
    /// # Errors
    /// Says why there is none.
    pub(crate) fn of(&self, report: &Report) -> Result<f64, String> {
        let few = |q: f64| format!("too few samples for p{}", q * 100.0);
        let server = || report.server.as_ref().ok_or_else(|| "needs --pid".to_owned());
        match self {
            Self::Quantile(q) => report.response.quantile_us(*q).ok_or_else(|| few(*q)),
            Self::ServiceQuantile(q) => report.service.quantile_us(*q).ok_or_else(|| few(*q)),
            Self::Mean if report.response.count == 0 => Err("no reply".to_owned()),
            Self::Mean => Ok(report.response.mean_us),
            Self::Rate => Ok(report.rate),
            Self::Loss => Ok(report.loss()),
            Self::Errors => Ok(report.faults() as f64),
            Self::Counter(name) => Ok(report.counter(name) as f64),
            Self::Cpu => Ok(server()?.cpu_us_per_message),
            Self::Rss => Ok(server()?.used.rss_max_kib as f64),
        }
    }

    fn show(&self, found: f64) -> String {
        match self {
            Self::Quantile(_) | Self::ServiceQuantile(_) | Self::Mean => units::show_us(found),
            Self::Rate => format!("{}/s", units::show_count(found.round() as u64)),
            Self::Loss => format!("{:.4} %", found * 100.0),
            Self::Cpu => format!("{found:.2} us"),
            Self::Rss => format!("{found:.0} KiB"),
            Self::Errors | Self::Counter(_) => format!("{found:.0}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Metric, Relation, Slo};

    #[test]
    fn limits_read_as_people_write_them() {
        let slo = Slo::parse("p99.9<5ms").expect("good");
        assert_eq!((slo.relation, slo.value), (Relation::Less, 5000.0));
        assert!(matches!(slo.metric, Metric::Quantile(q) if (q - 0.999).abs() < 1e-9));
        assert_eq!(Slo::parse("lost==0").expect("good").metric, Metric::Counter("lost".into()));
        assert_eq!(Slo::parse("rate>=50k").expect("good").value, 50_000.0);
        assert_eq!(Slo::parse("max <= 1s").expect("good").metric, Metric::Quantile(1.0));
        assert_eq!(Slo::parse("loss<0.1%").expect("good").value, 0.001);
        for bad in ["p99", "p99<5", "p0<1ms", "nonsense<1", "lost==x", "p101<1s"] {
            assert!(Slo::parse(bad).is_err(), "{bad}");
        }
    }
}
