//! Commands that run to their end.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::Error;
use crate::error::tail;

const SHOWN_LINES: usize = 12;

/// Runs a command to its end and returns what it wrote.
pub(crate) fn output(command: &mut Command, shown: &str, input: Option<&str>) -> Result<String, Error> {
    let failed = |reason: String| Error::Command { command: shown.to_owned(), reason };
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        // A command that ends without reading it says why in its output.
        let _ = pipe.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned());
    }
    let errors = tail(&String::from_utf8_lossy(&output.stderr), SHOWN_LINES);
    Err(failed(format!("{}: {errors}", output.status)))
}
