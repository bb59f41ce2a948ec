//! Findings as people, GitHub and GitLab read them.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use slipway_manifest_lint::Finding;

use super::Checked;
use crate::output::{self, outln};

fn each(checked: &[Checked]) -> impl Iterator<Item = (&str, &Finding, bool)> {
    checked.iter().flat_map(|Checked { file, report }| {
        let errors = report.errors.iter().map(|finding| (file.as_str(), finding, true));
        errors.chain(report.notes.iter().map(|finding| (file.as_str(), finding, false)))
    })
}

/// The field and what is wrong with it.
fn message(finding: &Finding) -> String {
    if finding.path.is_empty() {
        finding.message.clone()
    } else {
        format!("{}: {}", finding.path, finding.message)
    }
}

pub(super) fn summary(files: usize, objects: usize, errors: usize) -> String {
    let count = |number: usize, unit: &str| format!("{number} {unit}{}", if number == 1 { "" } else { "s" });
    format!("{}, {}, {}", count(files, "file"), count(objects, "object"), count(errors, "error"))
}

pub(super) fn text(checked: &[Checked]) {
    for (file, finding, is_error) in each(checked) {
        let severity = if is_error { "error" } else { "note" };
        let at = finding.position;
        outln!("{file}:{}:{}: {severity}: {}", at.line, at.column, message(finding));
    }
}

pub(super) fn json(checked: &[Checked]) {
    let findings = |errors: bool| -> Vec<Value> {
        let wanted = each(checked).filter(|(_, _, is_error)| *is_error == errors);
        wanted
            .map(|(file, finding, _)| {
                json!({"file": file, "line": finding.position.line, "column": finding.position.column,
                    "path": finding.path, "message": finding.message})
            })
            .collect()
    };
    let objects: usize = checked.iter().map(|file| file.report.checked).sum();
    output::json(&json!({"files": checked.len(), "objects": objects, "errors": findings(true),
        "notes": findings(false)}));
}

/// [Workflow commands](https://docs.github.com/actions/reference/workflow-commands-for-github-actions).
pub(super) fn github(checked: &[Checked]) {
    for (file, finding, is_error) in each(checked) {
        outln!("{}", annotation(file, finding, is_error));
    }
}

fn annotation(file: &str, finding: &Finding, is_error: bool) -> String {
    let severity = if is_error { "error" } else { "notice" };
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let at = finding.position;
    let text = data(&message(finding));
    format!("::{severity} file={},line={},col={}::{text}", property(file), at.line, at.column)
}

/// [Code Quality](https://docs.gitlab.com/ci/testing/code_quality/), which has no notes.
pub(super) fn gitlab(checked: &[Checked]) {
    let errors = each(checked).filter(|(_, _, is_error)| *is_error);
    let issues: Vec<Value> = errors.map(|(file, finding, _)| issue(file, finding)).collect();
    output::json(&issues);
}

fn issue(file: &str, finding: &Finding) -> Value {
    let text = message(finding);
    // The same error on another line is the same issue.
    let fingerprint = hex::encode(Sha256::digest(format!("{file}\n{text}")));
    json!({"description": text, "check_name": "slipway-lint", "fingerprint": fingerprint, "severity": "major",
        "location": {"path": file, "lines": {"begin": finding.position.line}}})
}

#[cfg(test)]
mod tests {
    use slipway_manifest_lint::Position;

    use super::*;

    fn finding() -> Finding {
        let position = Position { line: 3, column: 7 };
        Finding { position, path: "spec.x".to_owned(), message: "100 %\nof it".to_owned() }
    }

    #[test]
    fn annotations_escape_what_ends_them() {
        let line = annotation("a,b:c.yaml", &finding(), true);
        assert_eq!(line, "::error file=a%2Cb%3Ac.yaml,line=3,col=7::spec.x: 100 %25%0Aof it");
        assert!(annotation("a", &finding(), false).starts_with("::notice "));
    }

    #[test]
    fn issues_have_what_gitlab_requires() {
        let issue = issue("a.yaml", &finding());
        assert_eq!(issue["location"], json!({"path": "a.yaml", "lines": {"begin": 3}}));
        assert_eq!(issue["fingerprint"].as_str().unwrap().len(), 64);
        assert_eq!(summary(1, 2, 0), "1 file, 2 objects, 0 errors");
    }
}
