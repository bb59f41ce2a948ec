//! A contract test: requests that are generated from a service's OpenAPI document, and responses that are
//! compared with it.
//!
//! Half of the requests of an operation are valid by their schemas; the others break them. No response may
//! have a status, a content type or a field that the document does not have, and none may be an error of the
//! server. The requests are the same in every run.

mod cases;
mod check;
mod generate;
mod random;
mod report;
mod schema;
mod send;

use std::collections::BTreeMap;

use serde_json::Value;

use self::cases::Cases;
pub use self::report::Report;
use self::send::Sender;

/// Valid requests of each operation, and as many invalid ones.
const CASES: usize = 12;
/// Failures that are reported.
const MAX_FAILURES: usize = 40;
/// Reads before changes, so that most requests find what the test made; deletions last.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// A contract test of one service.
#[derive(Debug)]
pub struct Contract {
    base: String,
    known: BTreeMap<String, Vec<Value>>,
    skipped: Vec<String>,
}

/// An operation of a document.
#[derive(Debug, Clone, Copy)]
struct Operation<'document> {
    document: &'document Value,
    method: &'document str,
    path: &'document str,
    described: &'document Value,
}

impl Operation<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl Contract {
    /// Of the service at `base`, e.g. `http://127.0.0.1:5010`.
    pub fn of(base: &str) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), known: BTreeMap::new(), skipped: Vec::new() }
    }

    /// Half of the parameters and fields of this name take one of these values: names and IDs that exist. A
    /// name such as `post /a/{b} name` holds for one operation, and `/a name` for those whose paths begin so.
    /// The name of a body is empty: `post /a/{b} `.
    #[must_use]
    pub fn knowing(mut self, name: &str, values: &[Value]) -> Self {
        self.known.entry(name.to_owned()).or_default().extend_from_slice(values);
        self
    }

    /// Leaves out an operation, e.g. `post /api/v1/gc`.
    #[must_use]
    pub fn without(mut self, operation: &str) -> Self {
        self.skipped.push(operation.to_owned());
        self
    }

    /// Sends the requests.
    ///
    /// # Panics
    /// The service does not return its document.
    pub async fn run(&self) -> Report {
        let sender = Sender::new(&self.base);
        let document = sender.document().await;
        let mut report = Report::default();
        for method in METHODS {
            // The longest paths first: what a deployment has is deleted before the deployment.
            for (path, item) in document["paths"].as_object().into_iter().flatten().rev() {
                let Some(described) = item.get(method) else { continue };
                let operation = Operation { document: &document, method, path, described };
                if !self.skipped.contains(&operation.name()) {
                    self.test(&sender, operation, &mut report).await;
                }
            }
        }
        report
    }

    async fn test(&self, sender: &Sender, operation: Operation<'_>, report: &mut Report) {
        report.operations += 1;
        let mut succeeded = false;
        for case in Cases::new(operation, &self.known).take(2 * CASES) {
            let outcome = sender.send(&case).await;
            report.requests += 1;
            if let Ok(received) = &outcome {
                *report.statuses.entry(received.status).or_default() += 1;
                succeeded |= received.status < 300;
            }
            let violations = match outcome {
                Ok(received) => check::violations(operation, &received),
                Err(error) => vec![error],
            };
            for violation in violations {
                if report.failures.len() < MAX_FAILURES {
                    report.failures.push(format!("{violation}\n  {}", case.curl(&self.base)));
                }
            }
        }
        if !succeeded {
            report.never_successful.push(operation.name());
        }
    }
}
