//! The load tester tested from outside: against its own server with chosen faults, and against others.
mod command;
mod faults;
mod numbers;
mod outputs;
mod python;
mod scenarios;
mod schema;
mod support;
