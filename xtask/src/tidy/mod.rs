//! `cargo xtask tidy`: rules for the source code that neither rustc nor clippy checks.
//!
//! A check is a function from the sources to its findings. Exceptions of a check are listed in a file next to
//! it; an entry that is no longer needed is a finding itself, so that lists only get shorter.

mod allowance;
mod circles;
mod imports;
mod migrations;
mod registry;
mod sources;
mod texts;
mod tokens;
mod tuples;
mod width;
mod words;

use std::fmt;

use anyhow::bail;

use sources::Source;

/// A violation of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Path from the workspace root.
    pub(crate) file: String,
    /// Line of the violation, from 1; 0 for the whole file.
    pub(crate) line: usize,
    /// What is wrong, and what to do about it.
    pub(crate) message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.file, self.line, self.message)
    }
}

type Check = fn(&[Source]) -> anyhow::Result<Vec<Finding>>;

/// All checks with their names.
const CHECKS: [(&str, Check); 6] = [
    ("import circles", circles::check),
    ("tuple parameters", tuples::check),
    ("rings of the registry", registry::check),
    ("the field's terms", words::check),
    ("width", width::check),
    ("migrations only add", migrations::check),
];

/// Runs every check and prints all findings; fails if there are any.
pub(crate) fn run() -> anyhow::Result<()> {
    let sources = sources::read(&crate::build::root())?;
    let mut count = 0;
    for (name, check) in CHECKS {
        for finding in check(&sources)? {
            eprintln!("{name}: {finding}");
            count += 1;
        }
    }
    if count > 0 {
        bail!("{count} violations");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let sources = sources::read(&crate::build::root()).unwrap();
        for (name, check) in CHECKS {
            let findings: Vec<String> = check(&sources).unwrap().iter().map(Finding::to_string).collect();
            assert!(findings.is_empty(), "{name}:\n{}", findings.join("\n"));
        }
    }
}
