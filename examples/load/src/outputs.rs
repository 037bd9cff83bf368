//! The files that a run leaves behind.
use std::fs;

use crate::cli::JudgeArgs;
use crate::compare;
use crate::report::{Report, html};

/// Writes what was asked for.
///
/// # Errors
/// Names the file that could not be written.
pub(crate) fn write(asked: &JudgeArgs, report: &Report) -> Result<(), String> {
    let save = |path: &std::path::Path, text: String| {
        fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    if let Some(path) = &asked.json {
        let text = serde_json::to_string_pretty(report)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        save(path, text + "\n")?;
    }
    if let Some(path) = &asked.html {
        let others: Result<Vec<_>, _> =
            asked.overlay.iter().map(|path| compare::read(path)).collect();
        let others = others?;
        let runs: Vec<_> = std::iter::once(report).chain(&others).collect();
        save(path, html::page(&runs)?)?;
    }
    Ok(())
}
