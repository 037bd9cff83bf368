//! One call of the program: decide, run, report, and say with the exit status how it went.
use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use crate::cli::LoadArgs;
use crate::plan::{Load, Plan, Sides};
use crate::progress::Progress;
use crate::report::build::{Title, report};
use crate::report::{Report, table};
use crate::search::{self, Next, Search, Trial, Vote};
use crate::setup::{self, Scenario};
use crate::slo::Slo;
use crate::{engine, host, outputs, units, verdict};

/// What all runs of one call share.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) args: &'a LoadArgs,
    pub(crate) plan: Plan,
    pub(crate) scenario: Scenario,
    pub(crate) interrupts: Arc<AtomicU8>,
    pub(crate) progress: Progress,
}

/// Runs what was asked for; the exit status.
pub(crate) fn main(args: &LoadArgs) -> u8 {
    let (plan, scenario) = match setup::plan(args) {
        Ok(decided) => decided,
        Err(why) => {
            eprintln!("error: {why}");
            return verdict::USAGE;
        }
    };
    let session = Session {
        args,
        plan,
        scenario,
        interrupts: Arc::new(AtomicU8::new(0)),
        progress: Progress::new(args.judge.quiet),
    };
    match session.run() {
        Ok(status) => status,
        Err(why) => {
            session.progress.done();
            eprintln!("error: {why}");
            verdict::CANNOT_RUN
        }
    }
}

impl Session<'_> {
    fn run(&self) -> Result<u8, String> {
        let count = Arc::clone(&self.interrupts);
        ctrlc::set_handler(move || {
            count.fetch_add(1, Ordering::Relaxed);
        })
        .map_err(|error| format!("cannot listen for Ctrl-C: {error}"))?;
        if let Some(raised) = host::raise_descriptors(self.plan.descriptors())? {
            self.progress.say(&raised);
        }
        let report = match (&self.args.judge.find_max, &self.args.judge.sweep) {
            (Some(limit), _) => self.find_max(limit)?,
            (None, Some(rates)) => self.sweep(rates)?,
            (None, None) if self.scenario == Scenario::Chat => self.chat()?,
            (None, None) => self.measure(&self.plan, "")?,
        };
        self.progress.done();
        print!("{}", table::table(&report));
        outputs::write(&self.args.judge, &report)?;
        Ok(report.outcome.status)
    }

    /// Runs a plan and reports it; scenarios with parked connections run once without them first.
    fn measure(&self, plan: &Plan, what: &str) -> Result<Report, String> {
        let baseline = if self.scenario.has_baseline() {
            let alone = Plan { sides: Sides::default(), ..plan.clone() };
            Some(self.once(&alone, "without them ")?)
        } else {
            None
        };
        let mut report = self.once(plan, what)?;
        report.baseline = baseline.map(|report| report.response);
        Ok(report)
    }

    fn chat(&self) -> Result<Report, String> {
        let cast = setup::cast(self.args);
        let (ran, figures) = engine::run_chat(&self.plan, cast, &self.interrupts, &mut |second| {
            self.progress.second("", second);
        })?;
        let mut report = self.report(&self.plan, ran);
        report.chat = Some(figures);
        Ok(report)
    }

    /// One trial at one rate, warm-up and drain included.
    fn trial(&self, rate: f64, limit: Option<&Slo>) -> Result<(Trial, Report), String> {
        let measured = self.args.judge.trial;
        let plan = Plan {
            load: Load::Open { rate, arrival: self.args.arrival },
            depth: self.args.depth.unwrap_or(64).max(self.plan.glue),
            warmup: measured / 4,
            duration: measured + measured / 4,
            count: None,
            ..self.plan.clone()
        };
        let report = self.once(&plan, &format!("{}/s ", units::show_count(rate.round() as u64)))?;
        let trial = search::trial(rate, &report, limit);
        let word = match trial.vote() {
            Vote::Passed => "passes",
            Vote::Failed => "fails",
            Vote::Spoiled => "is spoiled",
        };
        let rate = units::show_count(rate.round() as u64);
        self.progress.say(&format!("{rate}/s {word}  {}", trial.why));
        Ok((trial, report))
    }

    /// The report is that of the highest rate that passed, or of the last that did not; the search comes with it.
    fn find_max(&self, limit: &Slo) -> Result<Report, String> {
        let mut search = Search::new(self.args.judge.precision);
        let (mut path, mut best, mut last) = (Vec::new(), None, None);
        while let Next::Try(rate) = search.next() {
            let (trial, report) = self.trial(rate, Some(limit))?;
            search.note(rate, trial.vote());
            let wrong = report.counters.wrong(report.is_stream()) > 0;
            if trial.passed && best.as_ref().is_none_or(|(best, _)| *best < rate) {
                best = Some((rate, report));
            } else {
                last = Some(report);
            }
            path.push(trial);
            // Wrong replies are no matter of rates, and an interrupt ends everything.
            if wrong || self.interrupts.load(Ordering::Relaxed) > 0 {
                break;
            }
        }
        let found = search.found(limit, path);
        let ended_well = last.as_ref().is_none_or(|last| {
            last.counters.wrong(last.is_stream()) == 0
                && last.outcome.status != verdict::INTERRUPTED
        });
        let mut report = match (best, last) {
            (Some((_, mut best)), _) if ended_well => {
                // A limit that is kept in spite of a late generator is kept.
                if best.outcome.status == verdict::INVALID {
                    best.outcome.status = verdict::FINE;
                }
                best
            }
            (_, Some(mut last)) => {
                if ended_well {
                    last.outcome.status = verdict::SLO_MISSED;
                }
                last
            }
            (Some((_, best)), None) => best,
            (None, None) => return Err("the search made no trial".to_owned()),
        };
        report.search = Some(found);
        Ok(report)
    }

    /// The report is that of the highest rate whose trial passed, else of the first; all steps come with it.
    fn sweep(&self, rates: &[f64]) -> Result<Report, String> {
        let (mut steps, mut best) = (Vec::new(), None);
        for &rate in rates {
            let (trial, report) = self.trial(rate, None)?;
            let interrupted = report.outcome.status == verdict::INTERRUPTED;
            if trial.passed || best.is_none() || interrupted {
                best = Some(report);
            }
            steps.push(trial);
            if interrupted {
                break;
            }
        }
        let mut report = best.ok_or("the sweep made no step")?;
        report.sweep = Some(steps);
        Ok(report)
    }

    fn once(&self, plan: &Plan, what: &str) -> Result<Report, String> {
        let ran = engine::run(plan, &self.interrupts, &mut |second| {
            self.progress.second(what, second);
        })?;
        Ok(self.report(plan, ran))
    }

    fn report(&self, plan: &Plan, ran: engine::Ran) -> Report {
        let default = plan.target.to_string();
        let title = Title {
            name: self.args.judge.name.as_deref().unwrap_or(&default),
            scenario: &self.args.scenario,
        };
        report(plan, ran, title, (&self.args.judge.slo, self.args.judge.loss))
    }
}
