//! What the example programs share: the options of their command lines, and the lines that scripts read.
#![allow(dead_code, unused_imports, reason = "each example uses its part of this")]

mod listen_url;
mod options;
mod report;
mod timeout;
mod url;

pub(crate) use listen_url::ListenUrl;
pub(crate) use options::ServerOptions;
pub(crate) use report::{run, say};
pub(crate) use timeout::{Span, Timeout};
pub(crate) use url::Url;
