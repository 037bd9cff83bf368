//! The names that framings have on a command line.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use crate::codec::{Framing, Width};

/// Every name. Where two mean the same, `Display` writes the first.
const NAMES: [(&str, Framing); 9] = [
    ("raw", Framing::raw()),
    ("lines", Framing::lines()),
    ("len-le32", Framing::length_prefix(Width::I32Le)),
    ("len-be32", Framing::length_prefix(Width::U32Be)),
    ("len-be16", Framing::length_prefix(Width::U16Be)),
    ("len-le16", Framing::length_prefix(Width::U16Le)),
    ("len-u8", Framing::length_prefix(Width::U8)),
    ("len-u32le", Framing::length_prefix(Width::U32Le)),
    ("len-i32le", Framing::length_prefix(Width::I32Le)),
];

/// Names with an argument that are reserved, so that they are not taken for a slip of the pen.
const RESERVED: [&str; 2] = ["delimiter:", "fixed:"];

impl FromStr for Framing {
    type Err = ParseFramingError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if let Some((_, framing)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(framing.clone());
        }
        let name = name.to_owned();
        if RESERVED.iter().any(|reserved| name.starts_with(reserved)) {
            return Err(ParseFramingError::Unsupported { name });
        }
        Err(ParseFramingError::Unknown { name })
    }
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
            },
        })
    }
}

/// Why a name is no [`Framing`]. Its text lists the names that are.
///
/// # Examples
///
/// ```
/// use switchboard::codec::Framing;
///
/// let error = "line".parse::<Framing>().unwrap_err();
/// assert!(error.to_string().starts_with("unknown framing \"line\"; choose one of raw, lines, "));
/// let error = "fixed:16".parse::<Framing>().unwrap_err();
/// assert!(error.to_string().starts_with("framing \"fixed:16\" is not supported yet; choose "));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseFramingError {
    /// No framing has this name.
    Unknown {
        /// The name as it was given.
        name: String,
    },
    /// The name is reserved for a framing that this version does not have.
    Unsupported {
        /// The name as it was given.
        name: String,
    },
}

impl fmt::Display for ParseFramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name } => write!(f, "unknown framing {name:?}")?,
            Self::Unsupported { name } => write!(f, "framing {name:?} is not supported yet")?,
        }
        let names = NAMES.map(|(name, _)| name).join(", ");
        write!(f, "; choose one of {names}")
    }
}

impl Error for ParseFramingError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_and_every_framing_is_written_as_a_name_that_reads_back() {
        for (name, framing) in NAMES {
            assert_eq!(name.parse(), Ok(framing.clone()));
            assert_eq!(framing.to_string().parse(), Ok(framing));
        }
    }

    #[test]
    fn the_tutorials_prefix_is_signed() {
        let signed = Framing::length_prefix(Width::I32Le);
        assert_eq!("len-le32".parse(), Ok(signed.clone()));
        assert_eq!(signed.to_string(), "len-le32");
    }

    #[test]
    fn reserved_names_are_refused_as_such() {
        for name in ["delimiter:0d0a", "delimiter:", "fixed:16", "fixed:"] {
            let error = ParseFramingError::Unsupported { name: name.to_owned() };
            assert_eq!(name.parse::<Framing>(), Err(error));
        }
    }

    #[test]
    fn anything_else_is_unknown() {
        for name in ["", "Raw", " raw", "line", "len-le64", "delimiter", "fixed", "raw\n"] {
            let error = ParseFramingError::Unknown { name: name.to_owned() };
            assert_eq!(name.parse::<Framing>(), Err(error));
        }
    }
}
