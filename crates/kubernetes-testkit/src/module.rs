//! Files of other projects, out of their Go modules.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::{Error, command};

/// Downloads a Go module, unless the module cache has it. Returns its folder, which is read-only.
///
/// `sum` is its checksum, as a `go.sum` has it.
///
/// # Errors
/// There is no such module, or it has another checksum.
pub fn go_module(path: &str, version: &str, sum: &str) -> Result<PathBuf, Error> {
    let module = format!("{path}@{version}");
    let mut download = Command::new("go");
    download.args(["mod", "download", "-json", &module]).current_dir(std::env::temp_dir());
    let answer = command::output(&mut download, &format!("go mod download {module}"), None)?;
    let found: Value = serde_json::from_str(&answer).unwrap_or_default();
    if found["Sum"] != sum {
        return Err(Error::Module { module, expected: sum.to_owned(), found: found["Sum"].to_string() });
    }
    Ok(PathBuf::from(found["Dir"].as_str().unwrap_or_default()))
}
