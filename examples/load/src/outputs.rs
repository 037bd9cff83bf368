//! The files that a run leaves behind.
use std::fs;

use crate::cli::JudgeArgs;
use crate::report::Report;

/// Writes what was asked for.
///
/// # Errors
/// Names the file that could not be written.
pub(crate) fn write(asked: &JudgeArgs, report: &Report) -> Result<(), String> {
    if let Some(path) = &asked.json {
        let text = serde_json::to_string_pretty(report)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        fs::write(path, text + "\n")
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}
