//! The command line.
use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::framing::Framing;
use crate::proof::{Expect, Sizes};
use crate::schedule::Arrival;
use crate::{serve, slo::Slo, units};

const EXAMPLES: &str = "\
Examples:
  switchboard-load tcp://127.0.0.1:9999
      64 connections, one request open on each, for ten seconds; every reply must be the request in upper case
  switchboard-load udp://127.0.0.1:9999 --rate 20k --slo 'p99<5ms' --slo 'lost==0'
      20,000 datagrams a second at fixed instants, whatever the server does; fails if a limit is missed
  switchboard-load tcp://127.0.0.1:9999 --scenario idle:1000 --pid 4242
      what a thousand parked connections do to the others, and what each costs the server
  switchboard-load tcp://127.0.0.1:9999 --find-max 'p99<10ms'
      the highest rate at which 99 of 100 replies take less than ten milliseconds
  switchboard-load tcp://127.0.0.1:9999 --sweep 1k..50k:8 --html sweep.html
      latency against offered rate, as a page
  switchboard-load serve tcp://127.0.0.1:9999 --drop 1%
      a server with a known fault, to see that it is found
  switchboard-load compare before.json after.json --fail-if 'p99>+10%'

Exit status: 0 fine, 1 cannot run, 2 usage, 3 a limit missed, 4 wrong or lost replies, 5 invalid measurement,
130 interrupted.";

/// Load for TCP, UDP and Unix socket servers, with every reply proved.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// Everything that is not a load.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve as a reference, with chosen faults
    Serve(serve::ServeArgs),
    /// Compare the reports of two runs
    Compare(CompareArgs),
}

/// Two reports and what may differ.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The report to compare with
    pub(crate) before: PathBuf,
    /// The report to judge
    pub(crate) after: PathBuf,
    /// Fail (status 3) if a figure changed for the worse by more: 'p99>+10%', 'rate<-5%', 'lost>+0'
    #[arg(long, value_name = "CHANGE")]
    pub(crate) fail_if: Vec<String>,
    /// Write a page with both runs overlaid
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// What to send to whom.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// tcp://HOST:PORT, udp://HOST:PORT, unix:PATH or unixgram:PATH (@NAME: abstract)
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
    /// What to do: pingpong, pipelined, short, idle:N, churn, slowloris, drain, soak or chat
    #[arg(short, long, value_name = "NAME", default_value = "pingpong", help_heading = "Load")]
    pub(crate) scenario: String,
    /// Connections, or datagram sockets [default: 64]
    #[arg(short, long, value_name = "N", help_heading = "Load")]
    pub(crate) connections: Option<usize>,
    /// Requests that may be open on one connection [default: 1; pipelined: 16; with --rate: 64]
    #[arg(short, long, value_name = "N", help_heading = "Load")]
    pub(crate) depth: Option<u32>,
    /// Requests a second in all, at planned instants (open loop); without it each reply lets the next request go
    #[arg(short, long, value_name = "RATE", value_parser = units::rate, help_heading = "Load")]
    pub(crate) rate: Option<f64>,
    /// How the planned instants are spread
    #[arg(long, value_enum, default_value = "constant", help_heading = "Load")]
    pub(crate) arrival: Arrival,
    /// How long [default: 10s; soak: 10m]
    #[arg(long, value_name = "TIME", value_parser = units::duration, help_heading = "Load")]
    pub(crate) duration: Option<Duration>,
    /// How many requests in all
    #[arg(long, value_name = "N", value_parser = units::count, help_heading = "Load")]
    pub(crate) count: Option<u64>,
    /// Leave the first part out of the figures
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = units::duration, help_heading = "Load")]
    pub(crate) warmup: Duration,
    /// Give a request up after [default: 5s; datagrams: 1s]
    #[arg(long, value_name = "TIME", value_parser = units::duration, help_heading = "Load")]
    pub(crate) timeout: Option<Duration>,
    /// Threads of the generator
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    pub(crate) threads: usize,
    #[command(flatten)]
    pub(crate) message: MessageArgs,
    #[command(flatten)]
    pub(crate) chat: ChatArgs,
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    /// Connect from this address; repeatable [default: the system's choice, then 127.0.0.2 and on; short connections take turns]
    #[arg(long, value_name = "IP", help_heading = "System")]
    pub(crate) source: Vec<IpAddr>,
    /// The server's process: its CPU, memory and threads are measured
    #[arg(long, value_name = "PID", help_heading = "System")]
    pub(crate) pid: Option<u32>,
    /// Allow another target than this machine; only aim at what is yours
    #[arg(long, help_heading = "System")]
    pub(crate) allow_remote: bool,
}

/// The messages, and how they are written.
#[derive(Debug, Args)]
pub(crate) struct MessageArgs {
    /// What the server does: upper, echo, upper-utf8, upper-gbk, fixed:TEXT or none
    #[arg(long, value_name = "WHAT", default_value = "upper", value_parser = units::expect, help_heading = "Messages")]
    pub(crate) expect: Expect,
    /// How messages are told apart in a stream: lines, len-le32, len-be32, len-be16, fixed:N or raw
    #[arg(long, value_name = "FRAMING", default_value = "lines", value_parser = units::framing, help_heading = "Messages")]
    pub(crate) framing: Framing,
    /// Bytes of a message, or a range: 16, 64..1k [default: 64]
    #[arg(long, value_name = "BYTES", value_parser = units::sizes, help_heading = "Messages")]
    pub(crate) size: Option<Sizes>,
    /// Write at most so many bytes at a time
    #[arg(long, value_name = "BYTES", help_heading = "Provocations")]
    pub(crate) chunk: Option<usize>,
    /// Write so many messages at a time
    #[arg(long, value_name = "N", help_heading = "Provocations")]
    pub(crate) glue: Option<u32>,
    /// Write each message in two, cut inside a character
    #[arg(long, conflicts_with = "chunk", help_heading = "Provocations")]
    pub(crate) split_utf8: bool,
    /// Close our half right after the last request of a connection
    #[arg(long, help_heading = "Provocations")]
    pub(crate) half_close: bool,
    /// Reset connections instead of closing them
    #[arg(long, conflicts_with = "half_close", help_heading = "Provocations")]
    pub(crate) reset: bool,
    /// Send an empty datagram before every tenth request
    #[arg(long, help_heading = "Provocations")]
    pub(crate) empty: bool,
    /// Connections more that send all they can and hardly read
    #[arg(long, value_name = "N", num_args = 0..=1, default_value_t = 0, default_missing_value = "1", help_heading = "Provocations")]
    pub(crate) slow_reader: usize,
    /// Connections more that say nothing
    #[arg(long, value_name = "N", num_args = 0..=1, default_value_t = 0, default_missing_value = "1", help_heading = "Provocations")]
    pub(crate) silent: usize,
    /// All bytes follow from this number [default: another each time]
    #[arg(long, value_name = "N", help_heading = "Messages")]
    pub(crate) seed: Option<u64>,
}

/// The chat scenario.
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// Members in all
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = "Chat")]
    pub(crate) members: usize,
    /// Rooms that they are spread over
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Chat")]
    pub(crate) rooms: usize,
    /// Members of each room that write
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Chat")]
    pub(crate) publishers: usize,
    /// Members of each room that hardly read
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Chat")]
    pub(crate) slow: usize,
    /// Messages written at once
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Chat")]
    pub(crate) burst: u32,
}

/// Limits, searches and outputs.
#[derive(Debug, Args)]
pub(crate) struct JudgeArgs {
    /// A limit to keep, repeatable: 'p99<5ms', 'lost==0', 'rate>=50k', 'cpu<5us', 'rss<64M'
    #[arg(long, value_name = "LIMIT", value_parser = Slo::parse, help_heading = "Judgement")]
    pub(crate) slo: Vec<Slo>,
    /// The share of requests that may be lost or late
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = units::share, help_heading = "Judgement")]
    pub(crate) loss: f64,
    /// Search for the highest rate that keeps a limit: 'p99<10ms'
    #[arg(long, value_name = "LIMIT", value_parser = Slo::parse, conflicts_with = "sweep", help_heading = "Judgement")]
    pub(crate) find_max: Option<Slo>,
    /// How close the search comes
    #[arg(long, value_name = "SHARE", default_value = "3%", value_parser = units::share, help_heading = "Judgement")]
    pub(crate) precision: f64,
    /// Measure at rising rates: FROM..TO:STEPS
    #[arg(long, value_name = "RATES", value_parser = units::sweep, help_heading = "Judgement")]
    pub(crate) sweep: Option<Rates>,
    /// How long each trial of a search or sweep is measured, after a warm-up of a quarter of it
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = units::duration, help_heading = "Judgement")]
    pub(crate) trial: Duration,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report as one page with diagrams
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) html: Option<PathBuf>,
    /// Overlay the runs of these JSON reports on the page; repeatable
    #[arg(long, value_name = "FILE", requires = "html", help_heading = "Output")]
    pub(crate) overlay: Vec<PathBuf>,
    /// What to call this run in reports
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    pub(crate) name: Option<String>,
    /// Show no progress
    #[arg(short, long, help_heading = "Output")]
    pub(crate) quiet: bool,
}

/// The rates of a sweep: one value for clap, which would take a bare `Vec` for a repeatable option.
pub(crate) type Rates = std::sync::Arc<[f64]>;
