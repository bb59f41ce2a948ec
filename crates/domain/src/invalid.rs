//! What is wrong with a value that came from outside, and where.

/// A value that breaks a rule, with the path of the field that holds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// Path of the field within the body, e.g. `steps[1].weight_percent`.
    pub field: String,
    /// What the rule is and what was given, for people.
    pub message: String,
}

impl Invalid {
    /// A complaint about `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }

    /// The same complaint, seen from the body that holds this one under `parent`.
    #[must_use]
    pub fn under(self, parent: &str) -> Self {
        Self { field: format!("{parent}.{}", self.field), message: self.message }
    }
}

/// Complains about `field` unless `valid`.
pub(crate) fn ensure(lawful: bool, field: &str, message: impl FnOnce() -> String) -> Result<(), Invalid> {
    if lawful { Ok(()) } else { Err(Invalid::new(field, message())) }
}
