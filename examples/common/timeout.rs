//! Spans of time as a command line has them: `50us`, `500ms`, `30s`, `2m`, `none`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How long something may take; zero is "at once".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// After how long something ends, or `none`: never. Zero makes no sense here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeout(pub(crate) Option<Duration>);

/// Units, and how many microseconds they have.
const UNITS: [(&str, u64); 4] = [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000)];

const FORM: &str = "write 50us, 500ms, 30s, 2m or none";

fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, micros) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*micros).map(Duration::from_micros)
}

impl FromStr for Span {
    type Err = String;

    /// `none` waits as long as it takes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self(Duration::MAX)),
            _ => parse(text).map(Self).ok_or_else(|| FORM.to_owned()),
        }
    }
}

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, parse(text)) {
            ("none", _) => Ok(Self(None)),
            (_, Some(Duration::ZERO)) => Err("zero would end everything; none means never".into()),
            (_, Some(span)) => Ok(Self(Some(span))),
            (_, None) => Err(FORM.to_owned()),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Duration::MAX {
            return f.write_str("none");
        }
        let micros = self.0.as_micros();
        let whole = UNITS.iter().rev().find(|(_, unit)| micros.is_multiple_of(u128::from(*unit)));
        let (name, unit) = whole.unwrap_or(&UNITS[0]);
        write!(f, "{}{name}", micros / u128::from(*unit))
    }
}
