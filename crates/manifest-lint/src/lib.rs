//! Checks manifests of Kubernetes against the CustomResourceDefinitions of this release, without a cluster:
//! types, required and unknown fields, enums, limits, patterns and validation rules in CEL. Each error has
//! the line and the column.
//!
//! Rules that compare an object with its earlier state (`oldSelf`) are not evaluated: a file has none.

mod cel;
mod definitions;
mod document;
mod metadata;
mod schema;
mod yaml;

pub use definitions::Definitions;

/// A place in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// What is wrong, or what was not checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where.
    pub position: Position,
    /// Path of the field, e.g. `spec.replicas.min`; empty for a whole document.
    pub path: String,
    /// What was found and what was expected.
    pub message: String,
}

/// The findings of one file, in the order of its lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Number of objects that were checked.
    pub checked: usize,
    /// What a cluster would reject or ignore.
    pub errors: Vec<Finding>,
    /// Objects and rules that were not checked.
    pub notes: Vec<Finding>,
}

/// What the documents of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Documents {
    /// Objects of Kubernetes: one without `apiVersion` and `kind` is an error.
    Objects,
    /// Anything, as in a folder: what lacks `apiVersion` or `kind` is passed over with a note.
    Anything,
}

/// Checks all documents of a YAML or JSON file.
pub fn lint(text: &str, documents_are: Documents, definitions: &Definitions) -> Report {
    let mut report = Report::default();
    let documents = yaml::documents(text, &mut |position, message| {
        report.errors.push(Finding { position, path: String::new(), message });
    });
    for document in &documents {
        if documents_are == Documents::Anything && !document::is_object(document) {
            let message = "not an object of Kubernetes; not checked".to_owned();
            report.notes.push(Finding { position: document.position, path: String::new(), message });
        } else {
            document::check(document, definitions, &mut report);
        }
    }
    report.errors.sort();
    report.notes.sort();
    report
}
