//! What a contract test found.

use std::collections::BTreeMap;

/// What a contract test found.
#[derive(Debug, Default)]
pub struct Report {
    /// Operations of the document that were tested.
    pub operations: usize,
    /// Requests that were sent.
    pub requests: usize,
    /// Responses by status.
    pub statuses: BTreeMap<u16, usize>,
    /// Operations none of whose requests succeeded.
    pub never_successful: Vec<String>,
    /// Violations, each with the request as a `curl` command.
    pub failures: Vec<String>,
}

impl Report {
    /// Requires that no response violated the document, and that every operation succeeded at least once,
    /// except for those listed in `may_fail`.
    ///
    /// # Panics It did not.
    pub fn require(&self, may_fail: &[&str]) {
        let summary = format!(
            "{} requests to {} operations; responses by status: {:?}",
            self.requests, self.operations, self.statuses
        );
        println!("{summary}");
        let never: Vec<&String> =
            self.never_successful.iter().filter(|name| !may_fail.contains(&name.as_str())).collect();
        assert!(
            self.failures.is_empty(),
            "{summary}\n{} violations:\n{}",
            self.failures.len(),
            self.failures.join("\n")
        );
        assert!(never.is_empty(), "{summary}\nnever successful: {never:#?}");
    }
}
