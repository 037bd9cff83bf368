//! What other frameworks test, under the numbers of their lists, proven here; the run writes `PORTED.md`.
//!
//! A row of the tables is a claim; each field of the matrix that it names is a test. It takes the command
//! line of `cargo test`. A run of everything compares the page with what happened: if it is another one,
//! the page is written anew and the run fails, so that a page that was committed is true.

mod contract;
mod datagrams;
mod events;
mod isolation;
mod outside;
mod page;
mod process;
mod row;
mod socketserver;
mod start;
mod stop;
mod transcript;
mod uneven;

#[path = "../harness/mod.rs"]
mod harness;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use parking_lot::RwLock;

use page::Results;
use row::{Mode, Over, Row};

/// Set where a test is the only one of its process.
const ALONE: &str = "SWITCHBOARD_PORTED_ALONE";

/// All rows, in the order of their numbers.
fn rows() -> Vec<&'static Row> {
    let tables = [
        socketserver::ROWS,
        uneven::ROWS,
        outside::ROWS,
        process::ROWS,
        start::ROWS,
        contract::ROWS,
        isolation::ROWS,
        stop::ROWS,
        events::ROWS,
        datagrams::ROWS,
        transcript::ROWS,
    ];
    let mut rows: Vec<&Row> = tables.into_iter().flatten().collect();
    rows.sort_by_key(|row| row.place());
    rows
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of them wait for most of their time.
    arguments.test_threads.get_or_insert(8);
    let rows = rows();
    let results = Arc::new(Results::new(&rows));
    let mut trials = Vec::new();
    for alone in [false, true] {
        // Those that start processes come last: a child holds our descriptors until it is another program.
        for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.alone == alone) {
            for (mode, over) in row.fields() {
                let results = results.clone();
                let row = *row;
                let prove = move || {
                    let proven = catch_unwind(AssertUnwindSafe(|| prove(row, mode, over)));
                    results.note(index, (mode, over), matches!(proven, Ok(Ok(()))));
                    proven.unwrap_or_else(|panic| resume_unwind(panic))
                };
                trials.push(Trial::test(row.test(mode, over), prove));
            }
        }
    }
    let is_whole = is_whole(&arguments);
    let conclusion = libtest_mimic::run(&arguments, trials);
    if is_whole && !results.match_the_page() {
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// Whether every test runs, so that the page can be told from it.
fn is_whole(arguments: &Arguments) -> bool {
    let picks = arguments.filter.is_some() || !arguments.skip.is_empty();
    !(picks || arguments.list || arguments.ignored || arguments.bench)
}

/// Tests that run in this process; whoever starts another one waits for their end.
static BESIDE_EACH_OTHER: RwLock<()> = RwLock::new(());

fn prove(row: &Row, mode: Mode, over: Over) -> Result<(), Failed> {
    if !row.alone || std::env::var_os(ALONE).is_some() {
        let _beside = BESIDE_EACH_OTHER.read();
        row.run(mode, over);
        return Ok(());
    }
    drop(BESIDE_EACH_OTHER.write());
    // Each wait in there has a deadline.
    let mut itself = Command::new(std::env::current_exe()?);
    let said = itself.arg("--exact").arg(row.test(mode, over)).env(ALONE, "yes").output()?;
    if said.status.success() {
        return Ok(());
    }
    let text = [said.stdout, said.stderr].concat();
    Err(format!("in a process of its own:\n{}", String::from_utf8_lossy(&text)).into())
}
