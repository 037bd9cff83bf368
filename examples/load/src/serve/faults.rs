//! Which fault, if any, a message meets: decided by its number, so that a run can be repeated, and counted.
use std::time::Duration;

use clap::Args;

use crate::proof::id::mix;
use crate::units;

/// The faults to commit. Each takes a share of the messages; a message meets one at most.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FaultArgs {
    /// Do not answer
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_value = "0", default_missing_value = "1%", value_parser = units::share)]
    pub(crate) drop: f64,
    /// Answer twice
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_value = "0", default_missing_value = "1%", value_parser = units::share)]
    pub(crate) duplicate: f64,
    /// Answer after the peer's next message
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_value = "0", default_missing_value = "1%", value_parser = units::share)]
    pub(crate) reorder: f64,
    /// Change a byte of the answer
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_value = "0", default_missing_value = "1%", value_parser = units::share)]
    pub(crate) corrupt: f64,
    /// Swap the answers of two peers
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_value = "0", default_missing_value = "1%", value_parser = units::share)]
    pub(crate) cross: f64,
    /// Cut the end off the answer
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_value = "0", default_missing_value = "1%", value_parser = units::share)]
    pub(crate) truncate: f64,
    /// Close the connection instead of answering
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_value = "0", default_missing_value = "1%", value_parser = units::share)]
    pub(crate) close_early: f64,
    /// Reset the connection instead of answering
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_value = "0", default_missing_value = "1%", value_parser = units::share)]
    pub(crate) reset: f64,
    /// Never answer this peer again
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_value = "0", default_missing_value = "1%", value_parser = units::share)]
    pub(crate) stall: f64,
    /// Say something that nobody asked for, too
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_value = "0", default_missing_value = "1%", value_parser = units::share)]
    pub(crate) unsolicited: f64,
    /// Answer after this time
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = units::duration)]
    pub(crate) delay: Duration,
    /// The share of the answers that --delay holds back
    #[arg(long, value_name = "SHARE", default_value = "100%", value_parser = units::share)]
    pub(crate) delay_share: f64,
    /// Answer at most so many messages a second, one after the other
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    pub(crate) max_rate: Option<f64>,
    /// Another choice of messages
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

/// What is done wrong with one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Drop,
    Duplicate,
    Reorder,
    Corrupt,
    Cross,
    Truncate,
    CloseEarly,
    Reset,
    Stall,
    Unsolicited,
}

impl FaultArgs {
    /// Whether everything is answered at once and right.
    pub(crate) fn none(&self) -> bool {
        self.shares().iter().all(|(share, _)| *share == 0.0)
            && self.delay.is_zero()
            && self.max_rate.is_none()
    }

    fn shares(&self) -> [(f64, Fault); 10] {
        [
            (self.drop, Fault::Drop),
            (self.duplicate, Fault::Duplicate),
            (self.reorder, Fault::Reorder),
            (self.corrupt, Fault::Corrupt),
            (self.cross, Fault::Cross),
            (self.truncate, Fault::Truncate),
            (self.close_early, Fault::CloseEarly),
            (self.reset, Fault::Reset),
            (self.stall, Fault::Stall),
            (self.unsolicited, Fault::Unsolicited),
        ]
    }

    /// The fault of message `number`, and a number to decide its details by.
    pub(crate) fn choose(&self, number: u64) -> (Option<Fault>, u64) {
        let hash = mix(self.seed ^ mix(number));
        let mut at = (hash >> 11) as f64 / (1u64 << 53) as f64;
        for (share, fault) in self.shares() {
            if at < share {
                return (Some(fault), mix(hash));
            }
            at -= share;
        }
        (None, mix(hash))
    }

    /// How long the answer with this number of detail is held back.
    pub(crate) fn delay_of(&self, detail: u64) -> Duration {
        let at = (mix(detail) >> 11) as f64 / (1u64 << 53) as f64;
        if at < self.delay_share { self.delay } else { Duration::ZERO }
    }
}

/// Changes one byte. Never into a line end or the mark of an id: text has neither one bit away.
pub(crate) fn corrupt(reply: &mut [u8], detail: u64) {
    if !reply.is_empty() {
        let at = detail as usize % reply.len();
        reply[at] ^= 1;
    }
}

/// How much of an answer is left: at least the half, and its id if it has one.
pub(crate) fn truncated_len(len: usize, detail: u64) -> usize {
    let least = (len / 2).max(crate::proof::id::HEADER).min(len.saturating_sub(1));
    least + detail as usize % (len - least).max(1)
}

/// What was done, for the last line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) received: u64,
    pub(crate) dropped: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupted: u64,
    pub(crate) crossed: u64,
    pub(crate) truncated: u64,
    pub(crate) closed_early: u64,
    pub(crate) reset: u64,
    pub(crate) stalled: u64,
    pub(crate) unsolicited: u64,
    pub(crate) delayed: u64,
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "served received={} dropped={} duplicated={} ",
            self.received, self.dropped, self.duplicated
        )?;
        write!(
            f,
            "reordered={} corrupted={} crossed={} ",
            self.reordered, self.corrupted, self.crossed
        )?;
        write!(
            f,
            "truncated={} closed_early={} reset={} ",
            self.truncated, self.closed_early, self.reset
        )?;
        write!(
            f,
            "stalled={} unsolicited={} delayed={}",
            self.stalled, self.unsolicited, self.delayed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, FaultArgs, truncated_len};

    #[test]
    fn shares_are_kept_and_the_same_message_always_meets_the_same_fault() {
        let args = FaultArgs { drop: 0.1, corrupt: 0.02, seed: 3, ..FaultArgs::default() };
        let chosen: Vec<_> = (0..100_000).map(|n| args.choose(n).0).collect();
        let count = |fault| chosen.iter().filter(|c| **c == Some(fault)).count();
        assert!((9_500..10_500).contains(&count(Fault::Drop)));
        assert!((1_800..2_200).contains(&count(Fault::Corrupt)));
        assert_eq!(chosen[77], args.choose(77).0);
    }

    #[test]
    fn a_cut_answer_is_shorter_and_keeps_its_id() {
        for len in [16, 17, 64, 1000] {
            for detail in 0..200 {
                let left = truncated_len(len, detail);
                assert!(left < len && left >= 14, "{len} {left}");
            }
        }
    }
}
