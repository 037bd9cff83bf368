//! switchboard-load: load for TCP, UDP and Unix socket servers, with every reply proved.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people: its report goes to standard output, its progress to standard error"
)]

mod books;
mod chat;
mod cli;
mod compare;
mod engine;
mod framing;
mod host;
mod outputs;
mod plan;
mod progress;
mod proof;
mod report;
mod schedule;
mod search;
mod serve;
mod session;
mod setup;
mod slo;
mod tally;
mod target;
mod ticks;
mod units;
mod verdict;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // If not even this can be printed, the status still says it.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { verdict::USAGE } else { verdict::FINE });
        }
    };
    let status = match cli.command {
        Some(cli::Command::Serve(args)) => serve::main(&args),
        Some(cli::Command::Compare(args)) => compare::main(&args),
        None => session::main(&cli.load),
    };
    ExitCode::from(status)
}
