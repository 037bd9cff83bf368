//! From the command line to a plan: scenarios fill in what was not said, and what cannot be is refused.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::chat::Cast;
use crate::cli::{ChatArgs, LoadArgs, MessageArgs};
use crate::framing::Framing;
use crate::plan::{Ending, Load, Plan, Sides, Writes};
use crate::proof::id::CONNECTIONS_MAX;
use crate::proof::{Expect, SIZE_MIN, Sizes};
use crate::target::Target;

/// A scenario, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// One request open on each connection.
    PingPong,
    /// Sixteen.
    Pipelined,
    /// Connect, one exchange, close.
    Short,
    /// The load beside parked connections, against the same load alone.
    Idle(usize),
    /// Connections that live for a few exchanges.
    Churn,
    /// The load beside connections that never finish a message.
    Slowloris,
    /// The server is told to stop half-way.
    Drain,
    /// Long.
    Soak,
    /// Fan-out.
    Chat,
}

impl Scenario {
    /// Reads a name.
    ///
    /// # Errors
    /// Names those that there are.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        Ok(match name {
            "pingpong" => Self::PingPong,
            "pipelined" => Self::Pipelined,
            "short" => Self::Short,
            "churn" => Self::Churn,
            "slowloris" => Self::Slowloris,
            "drain" => Self::Drain,
            "soak" => Self::Soak,
            "chat" => Self::Chat,
            _ => match name.strip_prefix("idle:").map(str::parse) {
                Some(Ok(parked)) => Self::Idle(parked),
                _ => {
                    return Err(format!(
                        "no scenario '{name}': pingpong, pipelined, short, idle:N, churn, slowloris, drain, soak, chat"
                    ));
                }
            },
        })
    }

    /// Whether the load is measured once without its side connections, to compare with.
    pub(crate) fn has_baseline(self) -> bool {
        matches!(self, Self::Idle(_) | Self::Slowloris)
    }
}

/// Dribbling connections of `slowloris`.
const DRIBBLERS: usize = 256;
/// Exchanges in the life of a connection of `churn`.
const CHURN_LIFE: u32 = 8;

/// Decides a run.
///
/// # Errors
/// Says what does not go together.
pub(crate) fn plan(args: &LoadArgs) -> Result<(Plan, Scenario), String> {
    let url = args.url.as_deref().ok_or("the URL of a server is missing; --help shows examples")?;
    let target = Target::parse(url)?;
    if !target.is_local() && !args.allow_remote {
        return Err(format!(
            "{target} is not on this machine; if it is yours, say so with --allow-remote"
        ));
    }
    let scenario = Scenario::parse(&args.scenario)?;
    let stream = target.is_stream();
    let timeout = args.timeout.unwrap_or(Duration::from_secs(if stream { 5 } else { 1 }));
    let soak = scenario == Scenario::Soak;
    let mut duration = args.duration.unwrap_or(match args.count {
        // A count ends the run; this only keeps it from going on for ever.
        Some(_) => Duration::from_secs(3600),
        None => Duration::from_secs(if soak { 600 } else { 10 }),
    });
    if scenario.has_baseline() {
        duration /= 2;
    }
    let load = match args.rate {
        Some(rate) => Load::Open { rate, arrival: args.arrival },
        None => Load::Closed,
    };
    let glue = args.message.glue.unwrap_or(1);
    let depth = args.depth.unwrap_or(match (scenario, load) {
        (Scenario::Pipelined, _) => 16,
        (_, Load::Open { .. }) => 64,
        _ => 1,
    });
    let message = &args.message;
    let plan = Plan {
        threads: args.threads,
        connections: match scenario {
            Scenario::Chat => args.chat.members,
            _ => args.connections.unwrap_or(64),
        },
        depth: depth.max(glue),
        load,
        duration,
        count: args.count,
        warmup: args.warmup,
        timeout,
        framing: args.message.framing,
        expect: args.message.expect.clone(),
        sizes: sizes(args)?,
        writes: writes(message),
        glue,
        empty: message.empty,
        ending: ending(message),
        life: match scenario {
            Scenario::Short => Some(1),
            Scenario::Churn => Some(CHURN_LIFE),
            Scenario::Drain if stream => Some(1),
            _ => None,
        },
        half_live_on: scenario == Scenario::Drain,
        sides: sides(args, scenario),
        sources: args.source.clone(),
        pid: args.pid,
        drain_at: (scenario == Scenario::Drain).then_some(duration / 2),
        seed: args.message.seed.unwrap_or_else(some_seed),
        target,
    };
    check(&plan, scenario)?;
    if scenario == Scenario::Chat {
        check_chat(&plan, cast(args))?;
    }
    Ok((plan, scenario))
}

/// Who is in the chat.
pub(crate) fn cast(args: &LoadArgs) -> Cast {
    let ChatArgs { members, rooms, publishers, slow, burst } = args.chat;
    Cast { members, rooms, publishers, slow, burst }
}

fn check_chat(plan: &Plan, cast: Cast) -> Result<(), String> {
    if !plan.target.is_stream() || plan.framing != Framing::Lines || plan.expect != Expect::Upper {
        return Err(
            "chat is for lines over tcp: or unix:, and knows itself what to expect".to_owned()
        );
    }
    if cast.rooms == 0 || cast.publishers == 0 || cast.burst == 0 {
        return Err("--rooms, --publishers and --burst are 1 at least".to_owned());
    }
    // The emptiest room.
    if cast.members / cast.rooms < cast.publishers + cast.slow {
        return Err("--members is too few for that many rooms, publishers and slow ones".to_owned());
    }
    Ok(())
}

fn sides(args: &LoadArgs, scenario: Scenario) -> Sides {
    Sides {
        silent: args.message.silent + if let Scenario::Idle(n) = scenario { n } else { 0 },
        slow_readers: args.message.slow_reader,
        dribblers: if scenario == Scenario::Slowloris { DRIBBLERS } else { 0 },
    }
}

fn writes(message: &MessageArgs) -> Writes {
    match (message.chunk, message.split_utf8) {
        (Some(bytes), _) => Writes::Chunks(bytes.max(1)),
        (None, true) => Writes::SplitCharacter,
        (None, false) => Writes::Whole,
    }
}

fn ending(message: &MessageArgs) -> Ending {
    match (message.half_close, message.reset) {
        (true, _) => Ending::HalfClose,
        (_, true) => Ending::Reset,
        _ => Ending::Close,
    }
}

fn some_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64 ^ u64::from(std::process::id()) << 40
}

fn sizes(args: &LoadArgs) -> Result<Sizes, String> {
    let said = args.message.size;
    match (args.message.framing, said) {
        (Framing::Fixed(n), None) => Ok(Sizes { least: n, most: n }),
        (Framing::Fixed(n), Some(s)) if s.least != n || s.most != n => {
            Err(format!("--framing fixed:{n} needs --size {n}"))
        }
        (_, said) => Ok(said.unwrap_or(Sizes { least: 64, most: 64 })),
    }
}

fn check(plan: &Plan, scenario: Scenario) -> Result<(), String> {
    let stream = plan.target.is_stream();
    let tests: [(bool, &str); 12] = [
        (plan.connections == 0, "--connections is 1 at least"),
        (
            plan.threads == 0 || plan.threads > plan.connections.max(1),
            "--threads is 1 at least, and at most as many as connections",
        ),
        (plan.depth == 0 || plan.depth > 1 << 16, "--depth is 1 to 65536"),
        (plan.duration.is_zero() || plan.timeout.is_zero(), "a time is longer than nothing"),
        (plan.warmup >= plan.duration, "--warmup leaves no time to measure"),
        (
            plan.sizes.most > plan.framing.message_max() && stream,
            "--size is more than the framing can announce",
        ),
        (
            !stream && plan.sizes.most > plan.target.datagram_max(),
            "--size is more than a datagram can carry (65507)",
        ),
        (plan.empty && stream, "--empty is for datagrams"),
        (
            !stream && (plan.sides.count() > 0 || plan.life.is_some()),
            "this needs connections; datagrams have none",
        ),
        (
            scenario == Scenario::Drain && plan.pid.is_none(),
            "drain needs --pid: the process to tell to stop",
        ),
        (
            matches!(plan.framing, Framing::Fixed(_)) && plan.expect == Expect::UpperUtf8 && stream,
            "upper-utf8 changes lengths: not with --framing fixed",
        ),
        (plan.sizes.least < SIZE_MIN || plan.glue == 0, "--size is 16 at least, and --glue 1"),
    ];
    if let Some((_, why)) = tests.iter().find(|(wrong, _)| *wrong) {
        return Err((*why).to_owned());
    }
    if (plan.connections + plan.sides.count()) as u64 >= u64::from(CONNECTIONS_MAX) {
        return Err(format!("at most {CONNECTIONS_MAX} connections can be told apart"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Scenario, plan};
    use crate::cli::Cli;
    use crate::plan::{Load, Plan};

    fn decide(words: &str) -> Result<Plan, String> {
        let cli = Cli::try_parse_from(std::iter::once("load").chain(words.split_whitespace()))
            .map_err(|error| error.to_string())?;
        plan(&cli.load).map(|(plan, _)| plan)
    }

    #[test]
    fn what_is_not_said_has_a_sound_default() {
        let plan = decide("tcp://127.0.0.1:9").expect("good");
        assert_eq!((plan.connections, plan.depth, plan.load), (64, 1, Load::Closed));
        assert_eq!(plan.duration.as_secs(), 10);
        let plan = decide("udp://127.0.0.1:9 --rate 5k").expect("good");
        assert_eq!((plan.depth, plan.timeout.as_secs()), (64, 1));
        let plan = decide("tcp://127.0.0.1:9 -s idle:500").expect("good");
        assert_eq!((plan.sides.silent, plan.duration.as_secs()), (500, 5));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for bad in [
            "",
            "http://127.0.0.1:9",
            "tcp://192.0.2.7:9",
            "tcp://127.0.0.1:9 --empty",
            "udp://127.0.0.1:9 --size 65508",
            "udp://127.0.0.1:9 -s idle:5",
            "tcp://127.0.0.1:9 -s drain",
            "tcp://127.0.0.1:9 -s nonsense",
            "tcp://127.0.0.1:9 --framing len-be16 --size 65536",
            "tcp://127.0.0.1:9 --framing fixed:64 --size 65",
            "tcp://127.0.0.1:9 --warmup 10s",
            "tcp://127.0.0.1:9 --slo p99",
        ] {
            assert!(decide(bad).is_err(), "{bad}");
        }
        assert!(decide("tcp://192.0.2.7:9 --allow-remote").is_ok());
        assert_eq!(Scenario::parse("idle:7"), Ok(Scenario::Idle(7)));
    }
}
