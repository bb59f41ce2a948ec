//! What of a version's predictions is recorded.

use serde::Deserialize;
use slipway_domain::traffic::stable_hash;

/// Share and fields that are recorded.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RecordPolicy {
    /// Share of requests that leave a record, 0 to 100.
    pub sample_percent: f64,
    /// Tensors (`name`), or single columns of them (`name[3]`, the elements at that place of each row), that are recorded as null.
    pub redact: Vec<String>,
}

impl Default for RecordPolicy {
    fn default() -> Self {
        Self { sample_percent: 100.0, redact: Vec::new() }
    }
}

/// Values of one tensor that are not recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redaction {
    Nothing,
    Everything,
    /// Places within a row.
    Columns(Vec<usize>),
}

impl RecordPolicy {
    /// Refuses what means nothing.
    ///
    /// # Errors
    /// Names the field and what was expected.
    pub(crate) fn checked(self) -> Result<Self, String> {
        if !(0.0..=100.0).contains(&self.sample_percent) {
            return Err(format!("records.sample_percent is {}; expected 0 to 100", self.sample_percent));
        }
        Ok(self)
    }

    /// Whether the request is one of the sample: the same for every version that sees it, and when it is sent again.
    pub(crate) fn takes(&self, request_id: &str) -> bool {
        if self.sample_percent >= 100.0 {
            return true;
        }
        #[expect(clippy::cast_precision_loss, reason = "a share of all requests")]
        let draw = stable_hash(&["record", request_id]) as f64 / u64::MAX as f64;
        draw * 100.0 < self.sample_percent
    }

    /// What is left out of a tensor.
    pub(crate) fn redaction(&self, tensor: &str) -> Redaction {
        let mut columns = Vec::new();
        for field in &self.redact {
            if field == tensor {
                return Redaction::Everything;
            }
            let place = field
                .strip_prefix(tensor)
                .and_then(|rest| rest.strip_prefix('[')?.strip_suffix(']')?.parse::<usize>().ok());
            columns.extend(place);
        }
        if columns.is_empty() { Redaction::Nothing } else { Redaction::Columns(columns) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_share_and_is_the_same_again() {
        let policy = RecordPolicy { sample_percent: 25.0, ..RecordPolicy::default() };
        let taken = (0..10_000).filter(|at| policy.takes(&format!("request-{at}"))).count();
        assert!((2_300..2_700).contains(&taken), "{taken}");
        assert_eq!(policy.takes("r-1"), policy.takes("r-1"));
        assert!(RecordPolicy { sample_percent: 101.0, ..policy }.checked().is_err());
    }

    #[test]
    fn a_tensor_or_a_column_of_it_is_redacted() {
        let policy = RecordPolicy {
            redact: vec!["name".into(), "x[3]".into(), "x[0]".into()],
            ..RecordPolicy::default()
        };
        assert_eq!(policy.redaction("name"), Redaction::Everything);
        assert_eq!(policy.redaction("x"), Redaction::Columns(vec![3, 0]));
        assert_eq!(policy.redaction("names"), Redaction::Nothing);
    }
}
