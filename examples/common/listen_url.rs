//! Where to listen, with what differs from one listener to the next: `tcp://127.0.0.1:0?framing=lines`.

use std::num::NonZeroUsize;
use std::str::FromStr;

use switchboard::Framing;

use crate::common::{Transport, Url};

/// An address, and settings that go before the program's options. They are said once each, in any
/// order, with `&` between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenUrl {
    pub(crate) url: Url,
    pub(crate) framing: Option<Framing>,
    pub(crate) max_frame: Option<NonZeroUsize>,
}

impl FromStr for ListenUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (url, query) = match text.split_once('?') {
            Some((url, query)) => (url, Some(query)),
            None => (text, None),
        };
        let mut listen = Self { url: url.parse()?, framing: None, max_frame: None };
        for setting in query.into_iter().flat_map(|query| query.split('&')) {
            listen.set(setting)?;
        }
        if listen.url.transport == Transport::Udp && query.is_some() {
            return Err("a datagram is a message as it is: no setting has a meaning there".into());
        }
        Ok(listen)
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
            _ => Err(format!("unknown setting {key:?}; there are framing and max-frame")),
        }
    }
}

fn once<T>(key: &str, place: &mut Option<T>, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{key} is said twice")),
    }
}
