//! The harness of the behaviour tests: the matrix, servers, peers, scripted handlers. No sleeps, no retries.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test binary uses its own part of the harness"
)]

mod client;
mod journal;
mod process;
mod script;
mod server;

pub(crate) use client::{Client, Pipe, socket_path, system_name};
pub(crate) use journal::{Gate, Journal, eventually};
pub(crate) use process::{
    Footprint, alone, context_switches, listening_socket, settled, threads_named,
};
pub(crate) use script::Script;
pub(crate) use server::{On, Running, assert_conserved, listen_on, modes, transports};

use std::time::Duration;

/// How long anything is waited for that is bound to come. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Proves each claim under every concurrency and over the transports it names: the claim is a function of
/// [`On`], and becomes the tests `claim::mode::transport`.
///
/// ```ignore
/// matrix! {
///     a_reply_arrives: [tcp udp];                 // inline, threads and pool
///     a_blocked_handler_is_replaced in [pool]: [tcp];
/// }
/// fn a_reply_arrives(on: On) { … }
/// ```
macro_rules! matrix {
    (@claim $claim:ident [$($mode:ident)+] $transports:tt) => {
        mod $claim {
            $($crate::harness::matrix! { @mode $claim $mode $transports })+
        }
    };
    (@mode $claim:ident $mode:ident [$($transport:ident)+]) => {
        mod $mode {
            $(#[test]
            fn $transport() {
                use $crate::harness::{On, modes, transports};
                super::super::$claim(On::new(modes::$mode(), transports::$transport()));
            })+
        }
    };
    () => {};
    ($claim:ident: $transports:tt; $($rest:tt)*) => {
        $crate::harness::matrix! { @claim $claim [inline threads pool] $transports }
        $crate::harness::matrix! { $($rest)* }
    };
    ($claim:ident in $modes:tt: $transports:tt; $($rest:tt)*) => {
        $crate::harness::matrix! { @claim $claim $modes $transports }
        $crate::harness::matrix! { $($rest)* }
    };
}
pub(crate) use matrix;
