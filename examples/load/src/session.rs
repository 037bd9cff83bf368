//! One call of the program: decide, run, report, and say with the exit status how it went.
use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use crate::cli::LoadArgs;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::build::{Title, report};
use crate::report::{Report, table};
use crate::setup::{self, Scenario};
use crate::{engine, host, outputs, verdict};

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
        let report = self.measure(&self.plan, "")?;
        self.progress.done();
        print!("{}", table::table(&report));
        outputs::write(&self.args.judge, &report)?;
        Ok(report.outcome.status)
    }

    /// Runs a plan and reports it; scenarios with parked connections run once without them first.
    pub(crate) fn measure(&self, plan: &Plan, what: &str) -> Result<Report, String> {
        let baseline = if self.scenario.has_baseline() {
            let alone = Plan { sides: Default::default(), ..plan.clone() };
            Some(self.once(&alone, "without them ")?)
        } else {
            None
        };
        let mut report = self.once(plan, what)?;
        report.baseline = baseline.map(|report| report.response);
        Ok(report)
    }

    fn once(&self, plan: &Plan, what: &str) -> Result<Report, String> {
        let ran = engine::run(plan, &self.interrupts, &mut |second| {
            self.progress.second(what, second);
        })?;
        let default = plan.target.to_string();
        let title = Title {
            name: self.args.judge.name.as_deref().unwrap_or(&default),
            scenario: &self.args.scenario,
        };
        Ok(report(plan, ran, title, (&self.args.judge.slo, self.args.judge.loss)))
    }
}
