//! The names that framings have on a command line.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use crate::codec::{Delimiter, Fixed, Framing, Width};

/// Every name without an argument. Where two mean the same, `Display` writes the first.
const NAMES: [(&str, Framing); 10] = [
    ("raw", Framing::raw()),
    ("lines", Framing::lines()),
    ("len-le32", Framing::length_prefix(Width::I32Le)),
    ("len-be32", Framing::length_prefix(Width::U32Be)),
    ("len-be16", Framing::length_prefix(Width::U16Be)),
    ("len-le16", Framing::length_prefix(Width::U16Le)),
    ("len-u8", Framing::length_prefix(Width::U8)),
    ("len-u32le", Framing::length_prefix(Width::U32Le)),
    ("len-i32le", Framing::length_prefix(Width::I32Le)),
    ("len-varint", Framing::length_prefix(Width::Varint)),
];

/// The names that have one.
const WITH_ARGUMENT: &str = "delimiter:HEX, fixed:N";

impl FromStr for Framing {
    type Err = ParseFramingError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if let Some((_, framing)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(framing.clone());
        }
        let bad = |why| ParseFramingError::BadArgument { name: name.to_owned(), why };
        match name.split_once(':') {
            Some(("delimiter", digits)) => delimiter(digits).map(Self::Delimiter).map_err(bad),
            Some(("fixed", number)) => fixed(number).map(Self::Fixed).map_err(bad),
            _ => Err(ParseFramingError::Unknown { name: name.to_owned() }),
        }
    }
}

/// The delimiter that is written with these digits, two for each byte.
fn delimiter(digits: &str) -> Result<Delimiter, &'static str> {
    const FORM: &str = "write each byte as two hexadecimal digits, as in delimiter:0d0a";
    let digit = |byte: &u8| char::from(*byte).to_digit(16).ok_or(FORM);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Ok((digit(high)? << 4 | digit(low)?) as u8),
        _ => Err(FORM),
    };
    let bytes: Vec<u8> = digits.as_bytes().chunks(2).map(pair).collect::<Result<_, _>>()?;
    Delimiter::new(&bytes).ok_or("a delimiter has 1 to 16 bytes")
}

/// Messages of the length that is written with these digits.
fn fixed(number: &str) -> Result<Fixed, &'static str> {
    // (The standard library takes a sign as well.)
    if number.is_empty() || number.contains(|c: char| !c.is_ascii_digit()) {
        return Err("write how many bytes every message has, as in fixed:16");
    }
    // A number that is too large for a size is too large for a message.
    let len = number.parse().unwrap_or(usize::MAX);
    Fixed::new(len).ok_or("a message of fixed length has 1 to 1073741824 bytes")
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::Lines(_) => "lines",
            Self::LengthPrefix(prefix) => match prefix.width() {
                Width::U8 => "len-u8",
                Width::U16Be => "len-be16",
                Width::U16Le => "len-le16",
                Width::U32Be => "len-be32",
                Width::U32Le => "len-u32le",
                Width::I32Le => "len-le32",
                Width::Varint => "len-varint",
            },
            Self::Delimiter(delimiter) => {
                let digits = delimiter.as_slice().iter().map(|byte| format!("{byte:02x}"));
                return f.pad(&format!("delimiter:{}", digits.collect::<String>()));
            }
            Self::Fixed(fixed) => return f.pad(&format!("fixed:{}", fixed.len())),
            Self::Custom(_) => "custom",
        })
    }
}

/// Why a name is no [`Framing`]. Its text says what would be one.
///
/// # Examples
///
/// ```
/// use switchboard::codec::Framing;
///
/// let error = "line".parse::<Framing>().unwrap_err();
/// assert!(error.to_string().starts_with("unknown framing \"line\"; choose one of raw, lines, "));
/// let error = "fixed:0".parse::<Framing>().unwrap_err();
/// let why = "framing \"fixed:0\": a message of fixed length has 1 to 1073741824 bytes";
/// assert_eq!(error.to_string(), why);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseFramingError {
    /// No framing has this name.
    Unknown {
        /// The name as it was given.
        name: String,
    },
    /// There is such a framing, but not with what stands behind the colon.
    BadArgument {
        /// The name as it was given.
        name: String,
        /// What is wrong, and how it is written.
        why: &'static str,
    },
}

impl fmt::Display for ParseFramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name } => {
                let names = NAMES.map(|(name, _)| name).join(", ");
                write!(f, "unknown framing {name:?}; choose one of {names}, {WITH_ARGUMENT}")
            }
            Self::BadArgument { name, why } => write!(f, "framing {name:?}: {why}"),
        }
    }
}

impl Error for ParseFramingError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_and_every_framing_is_written_as_a_name_that_reads_back() {
        let with_argument = [
            ("delimiter:0d0a", Framing::delimiter(b"\r\n")),
            ("delimiter:00", Framing::delimiter(b"\0")),
            ("delimiter:FFfe", Framing::delimiter(b"\xff\xfe")),
            ("fixed:1", Framing::fixed(1)),
            ("fixed:1073741824", Framing::fixed(1 << 30)),
        ];
        for (name, framing) in NAMES.into_iter().chain(with_argument) {
            assert_eq!(name.parse(), Ok(framing.clone()));
            assert_eq!(framing.to_string().parse(), Ok(framing));
        }
        assert_eq!(Framing::delimiter(b"\r\n").to_string(), "delimiter:0d0a");
        assert_eq!(format!("{:>9}", Framing::fixed(16)), " fixed:16");
    }

    #[test]
    fn the_tutorials_prefix_is_signed() {
        let signed = Framing::length_prefix(Width::I32Le);
        assert_eq!("len-le32".parse(), Ok(signed.clone()));
        assert_eq!(signed.to_string(), "len-le32");
    }

    #[test]
    fn an_argument_that_makes_no_sense_is_refused_with_its_reason() {
        let seventeen = "00".repeat(17);
        let refused = |name: &str| name.parse::<Framing>().expect_err(name).to_string();
        for digits in ["0", "0d0", "0x", "gg", " 00", "00 ", "é", "+1"] {
            let text = refused(&format!("delimiter:{digits}"));
            assert!(text.ends_with("two hexadecimal digits, as in delimiter:0d0a"), "{text}");
        }
        for digits in ["", &seventeen] {
            let text = refused(&format!("delimiter:{digits}"));
            assert!(text.ends_with("a delimiter has 1 to 16 bytes"), "{text}");
        }
        for number in ["", "-1", "+1", " 1", "1 ", "0x10", "many"] {
            let text = refused(&format!("fixed:{number}"));
            assert!(text.ends_with("how many bytes every message has, as in fixed:16"), "{text}");
        }
        for number in ["0", "00", "1073741825", "99999999999999999999999"] {
            let text = refused(&format!("fixed:{number}"));
            assert!(text.ends_with("has 1 to 1073741824 bytes"), "{text}");
        }
    }

    #[test]
    fn anything_else_is_unknown() {
        let names =
            ["", "Raw", " raw", "line", "len-le64", "delimiter", "fixed", "raw\n", "custom"];
        for name in names.into_iter().chain(["raw:", "lines:1", "Fixed:1", ":"]) {
            let error = ParseFramingError::Unknown { name: name.to_owned() };
            assert_eq!(name.parse::<Framing>(), Err(error));
        }
    }
}
