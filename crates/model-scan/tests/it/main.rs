//! The scan on files that Python wrote (`tests/fixtures/make.py`) and on files made here.

mod archives;
mod assemble;
mod differential;
mod documents;
mod documents_of_code;
mod evasions;
mod formats;
mod imports;
mod laws;
mod models;
mod numbers;
mod opcodes;
mod pickles;
mod streams;
mod tars;
mod trees;

use std::{collections::BTreeSet, io::Cursor, path::PathBuf};

use slipway_model_scan::{Code, Policy, Report, Verdict, scan};

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).expect("a fixture is readable")
}

pub(crate) fn scan_bytes(name: &str, bytes: &[u8]) -> Report {
    let report = scan(name, Cursor::new(bytes), &Policy::default()).expect("memory is readable");
    assert_eq!(report.verdict == Verdict::Safe, report.findings.is_empty());
    report
}

pub(crate) fn scan_fixture(name: &str) -> Report {
    scan_bytes(name, &fixture(name))
}

pub(crate) fn codes(report: &Report) -> BTreeSet<Code> {
    report.findings.iter().map(|finding| finding.code).collect()
}

/// Fails unless the file is unsafe for this reason, with whatever else.
#[track_caller]
pub(crate) fn assert_found(name: &str, code: Code) -> Report {
    let report = scan_fixture(name);
    assert!(codes(&report).contains(&code), "{name}: {code:?} is not in {report:#?}");
    report
}

#[track_caller]
pub(crate) fn assert_safe(report: &Report) {
    assert_eq!(report.findings, [], "{report:#?}");
    assert_eq!(report.verdict, Verdict::Safe);
}
