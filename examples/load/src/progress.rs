//! What is seen while a run goes on: a live line on a terminal, else a plain line a second; both on standard error.
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::engine::SecondFigures;
use crate::units::{show_count, show_us};

/// The display of a run.
#[derive(Debug)]
pub(crate) enum Progress {
    Quiet,
    Lines,
    Live(ProgressBar),
}

impl Progress {
    /// What suits standard error.
    pub(crate) fn new(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Self::Quiet,
            (false, false) => Self::Lines,
            (false, true) => {
                let bar =
                    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
                let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                Self::Live(bar)
            }
        }
    }

    /// A second has passed.
    pub(crate) fn second(&self, what: &str, second: &SecondFigures) {
        match self {
            Self::Quiet => {}
            Self::Lines => eprintln!("{what}{:>4}s {}", second.second + 1, figures(second)),
            Self::Live(bar) => {
                bar.set_message(format!("{what}{}", figures(second)));
                bar.tick();
            }
        }
    }

    /// Something to know, in between.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Self::Quiet => {}
            Self::Lines => eprintln!("{text}"),
            Self::Live(bar) => bar.println(text),
        }
    }

    /// The run is over: the line goes away.
    pub(crate) fn done(&self) {
        if let Self::Live(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn figures(second: &SecondFigures) -> String {
    format!(
        "{:>9}/s  p50 {:>9}  p99 {:>9}  max {:>9}  errors {}  lag {}",
        show_count(second.ok),
        show_us(second.p50_us),
        show_us(second.p99_us),
        show_us(second.max_us),
        second.faults,
        show_us(second.lag_max_us),
    )
}
