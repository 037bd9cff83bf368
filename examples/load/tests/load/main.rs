//! The load tester tested from outside: against its own server with chosen faults, and against others.
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

mod command;
mod faults;
mod numbers;
mod outputs;
mod python;
mod scenarios;
mod schema;
mod support;
