//! Quantities as people write them on a command line: 5ms, 20k, 0.1%, 64..1k.
use std::time::Duration;

use crate::framing::Framing;
use crate::proof::{Expect, SIZE_MIN, Sizes};

/// Splits `12.5ms` into the number and what follows it.
fn number(text: &str) -> Result<(f64, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let value =
        text[..end].parse().map_err(|_| format!("'{text}' does not begin with a number"))?;
    Ok((value, text[end..].trim()))
}

/// `50us`, `5ms`, `10s`, `2m`, `1h`; a bare number is seconds.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (value, unit) = number(text.trim())?;
    let scale = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("'{unit}' is no unit of time: us, ms, s, m, h")),
    };
    Duration::try_from_secs_f64(value * scale).map_err(|error| error.to_string())
}

/// `20k`, `1.5M`, `300`; a following `/s` is allowed.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let (value, unit) = number(text.trim().trim_end_matches("/s"))?;
    let scale = match unit {
        "" => 1.0,
        "k" | "K" => 1e3,
        "m" | "M" => 1e6,
        _ => return Err(format!("'{unit}' is no multiple: k, M")),
    };
    let rate = value * scale;
    if rate > 0.0 && rate <= 1e9 { Ok(rate) } else { Err(format!("'{text}' is no rate")) }
}

/// A count with an optional multiple.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    rate(text).map(|value| value.round() as u64)
}

/// `1%`, `0.1%`; as a share of one.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (value, unit) = number(text.trim())?;
    let share = match unit {
        "%" => value / 100.0,
        "" => value,
        _ => return Err(format!("'{text}' is no share: 1%, 0.01")),
    };
    if share <= 1.0 { Ok(share) } else { Err(format!("'{text}' is more than all")) }
}

/// Bytes: `64`, `1k`, `64K`, `1M`; a k is 1024.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let (value, unit) = number(text.trim())?;
    let scale = match unit {
        "" => 1.0,
        "k" | "K" => 1024.0,
        "m" | "M" => 1024.0 * 1024.0,
        _ => return Err(format!("'{unit}' is no multiple of bytes: k, M")),
    };
    Ok((value * scale) as usize)
}

/// One size, or a range `LEAST..MOST`.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn sizes(text: &str) -> Result<Sizes, String> {
    let (least, most) = match text.split_once("..") {
        Some((least, most)) => (bytes(least)?, bytes(most)?),
        None => (bytes(text)?, bytes(text)?),
    };
    if least < SIZE_MIN {
        return Err(format!("a message needs {SIZE_MIN} bytes to carry its id and a proof"));
    }
    if most < least || most > 1 << 20 {
        return Err(format!("'{text}': sizes go up, and to 1M at most"));
    }
    Ok(Sizes { least, most })
}

/// The name of a framing.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn framing(text: &str) -> Result<Framing, String> {
    match text {
        "lines" => Ok(Framing::Lines),
        "len-le32" => Ok(Framing::Length { bytes: 4, big: false }),
        "len-be32" => Ok(Framing::Length { bytes: 4, big: true }),
        "len-be16" => Ok(Framing::Length { bytes: 2, big: true }),
        "raw" => Ok(Framing::Raw),
        _ => match text.strip_prefix("fixed:").map(bytes) {
            Some(Ok(n)) if (SIZE_MIN..=1 << 20).contains(&n) => Ok(Framing::Fixed(n)),
            Some(_) => Err(format!("'{text}': a fixed size is {SIZE_MIN} bytes to 1M")),
            None => Err("lines, len-le32, len-be32, len-be16, fixed:N or raw".to_owned()),
        },
    }
}

/// What the server is expected to do.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn expect(text: &str) -> Result<Expect, String> {
    match text {
        "upper" => Ok(Expect::Upper),
        "echo" => Ok(Expect::Echo),
        "upper-utf8" => Ok(Expect::UpperUtf8),
        "upper-gbk" => Ok(Expect::UpperGbk),
        "none" => Ok(Expect::Nothing),
        _ => match text.strip_prefix("fixed:") {
            Some("") => Err("fixed: needs the text that is answered".to_owned()),
            Some(reply) => Ok(Expect::Fixed(reply.as_bytes().to_vec())),
            None => Err("upper, echo, upper-utf8, upper-gbk, fixed:TEXT or none".to_owned()),
        },
    }
}

/// `FROM..TO:STEPS`, rates on a logarithmic scale.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn sweep(text: &str) -> Result<std::sync::Arc<[f64]>, String> {
    let shape = || format!("'{text}' is no sweep: 1k..200k:12");
    let (range, steps) = text.split_once(':').ok_or_else(shape)?;
    let (from, to) = range.split_once("..").ok_or_else(shape)?;
    let (from, to) = (rate(from)?, rate(to)?);
    let steps: u32 = steps.parse().map_err(|_| shape())?;
    if to <= from || !(2..=100).contains(&steps) {
        return Err(format!("'{text}': rates go up, in 2 to 100 steps"));
    }
    let factor = (to / from).powf(1.0 / f64::from(steps - 1));
    Ok((0..steps).map(|n| from * factor.powi(n.cast_signed())).collect())
}

/// Microseconds for people: `850 us`, `1.23 ms`, `2.50 s`.
pub(crate) fn show_us(us: f64) -> String {
    match us {
        us if us < 1000.0 => format!("{us:.0} us"),
        us if us < 1e6 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// A number with thousands set apart.
pub(crate) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_people_write_them() {
        assert_eq!(duration("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(rate("20k"), Ok(20_000.0));
        assert_eq!(rate("1.5M/s"), Ok(1_500_000.0));
        assert_eq!(share("0.1%"), Ok(0.001));
        assert_eq!(bytes("1k"), Ok(1024));
        assert_eq!(sizes("64..1k"), Ok(Sizes { least: 64, most: 1024 }));
        for bad in ["", "x", "5parsec", "-1s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["0", "-5", "1q"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert!(sizes("15").is_err() && sizes("64..32").is_err() && share("101%").is_err());
        assert_eq!(show_us(1234.0), "1.23 ms");
        assert_eq!((show_count(1), show_count(1_234_567)), ("1".into(), "1,234,567".into()));
    }

    #[test]
    fn a_sweep_goes_up_by_equal_factors() {
        let rates = sweep("1k..16k:5").expect("good");
        let round: Vec<_> = rates.iter().map(|rate| rate.round()).collect();
        assert_eq!(round, [1000.0, 2000.0, 4000.0, 8000.0, 16_000.0]);
        assert!(sweep("5k..1k:3").is_err() && sweep("1k..5k").is_err());
    }
}
