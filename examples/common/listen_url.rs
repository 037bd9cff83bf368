//! Where to listen, with what differs from one listener to the next: `tcp://127.0.0.1:0?framing=lines`.

use std::num::NonZeroUsize;
use std::str::FromStr;

use switchboard::Framing;

use crate::common::Url;

/// An address, and settings that go before the program's options. They are said once each, in any
/// order, with `&` between them. They begin at the first `?`: a path with one cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenUrl {
    pub(crate) url: Url,
    pub(crate) framing: Option<Framing>,
    pub(crate) max_frame: Option<NonZeroUsize>,
    /// The permissions of a Unix socket's file.
    pub(crate) mode: Option<u32>,
}

impl FromStr for ListenUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (url, query) = match text.split_once('?') {
            Some((url, query)) => (url, Some(query)),
            None => (text, None),
        };
        let mut listen = Self { url: url.parse()?, framing: None, max_frame: None, mode: None };
        for setting in query.into_iter().flat_map(|query| query.split('&')) {
            listen.set(setting)?;
        }
        listen.check().map(|()| listen)
    }
}

impl ListenUrl {
    fn set(&mut self, setting: &str) -> Result<(), String> {
        let Some((key, value)) = setting.split_once('=') else {
            return Err(format!("{setting:?}: write settings as ?framing=lines&max-frame=512"));
        };
        match key {
            "framing" => {
                let framing = value.parse::<Framing>().map_err(|why| why.to_string())?;
                once(key, &mut self.framing, framing)
            }
            "max-frame" => {
                let why = |_| format!("max-frame: {value:?} is no number of bytes above 0");
                once(key, &mut self.max_frame, value.parse().map_err(why)?)
            }
            "mode" => once(key, &mut self.mode, permissions(value)?),
            _ => Err(format!("unknown setting {key:?}; there are framing, max-frame and mode")),
        }
    }

    /// Whether each setting has a meaning for the listener.
    fn check(&self) -> Result<(), String> {
        let frames = self.framing.is_some() || self.max_frame.is_some();
        if frames && self.url.is_datagram() {
            return Err("a datagram is a message as it is: no framing has a meaning there".into());
        }
        if self.mode.is_some() && !self.url.has_a_file() {
            return Err("mode is for the file of a Unix socket, and there is none".into());
        }
        Ok(())
    }
}

/// Octal, as chmod has them.
fn permissions(text: &str) -> Result<u32, String> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let mode = digits.then(|| u32::from_str_radix(text, 8).ok()).flatten();
    mode.filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("mode: {text:?} is no permissions; write them in octal, as in 660"))
}

fn once<T>(key: &str, place: &mut Option<T>, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{key} is said twice")),
    }
}
