//! A reference server with chosen faults.
use clap::Args;
/// to come
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {}
pub(crate) fn main(_: &ServeArgs) -> u8 {
    1
}
