//! What of a version's predictions is recorded.

use serde::Deserialize;
use slipway_domain::traffic::stable_hash;
use slipway_inference::{Signature, TensorSpec};

/// Share and fields that are recorded.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RecordPolicy {
    /// Share of requests that leave a record, 0 to 100.
    pub sample_percent: f64,
    /// Tensors (`name`), or single columns of them (`name[3]`, the elements at that place of each row), that
    /// are recorded as null.
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
    /// What both of them record.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let more = other.redact.iter().filter(|field| !self.redact.contains(field));
        let redact = self.redact.iter().chain(more).cloned().collect();
        Self { sample_percent: self.sample_percent.min(other.sample_percent), redact }
    }

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

    /// Rejects a redaction that matches nothing: its author meant something else, which would be
    /// recorded.
    ///
    /// # Errors
    /// Names the field, and what could be redacted.
    pub(crate) fn check(&self, signature: &Signature) -> Result<(), String> {
        for field in &self.redact {
            check_redaction(field, signature)?;
        }
        Ok(())
    }

    /// Whether the request is one of the sample: the same for every version that sees it, and when it is sent
    /// again.
    pub(crate) fn takes(&self, request_id: &str) -> bool {
        if self.sample_percent >= 100.0 {
            return true;
        }
        #[expect(clippy::cast_precision_loss, reason = "a share of all requests")]
        let draw = stable_hash(&["record", request_id]) as f64 / u64::MAX as f64;
        draw * 100.0 < self.sample_percent
    }

    /// Share of requests that leave a record, in percent; `None` where all do.
    pub(crate) fn sampled(&self) -> Option<f64> {
        (self.sample_percent < 100.0).then_some(self.sample_percent)
    }

    /// What is left out of a tensor.
    pub(crate) fn redaction(&self, tensor: &str) -> Redaction {
        let mut columns = Vec::new();
        for field in &self.redact {
            if field == tensor {
                return Redaction::Everything;
            }
            columns.extend(column(field, tensor));
        }
        if columns.is_empty() { Redaction::Nothing } else { Redaction::Columns(columns) }
    }
}

/// The column of a tensor that a field names.
fn column(field: &str, tensor: &str) -> Option<usize> {
    field.strip_prefix(tensor)?.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Elements of each row, where the shape says so.
fn row_width(spec: &TensorSpec) -> Option<usize> {
    let (_, row) = spec.shape.split_first()?;
    row.iter().try_fold(1_usize, |width, size| width.checked_mul(usize::try_from(*size).ok()?))
}

fn check_redaction(field: &str, signature: &Signature) -> Result<(), String> {
    let mut too_narrow = None;
    for spec in signature.inputs.iter().chain(&signature.optional).chain(&signature.outputs) {
        let width = row_width(spec);
        match column(field, &spec.name) {
            _ if field == spec.name => return Ok(()),
            Some(place) if width.is_none_or(|width| place < width) => return Ok(()),
            Some(_) => too_narrow = Some((&spec.name, width.unwrap_or(0))),
            None => {}
        }
    }
    let expected = match too_narrow {
        Some((name, width)) => format!("rows of '{name}' have {width} elements, counted from 0"),
        None => {
            let specs = signature.inputs.iter().chain(&signature.outputs);
            let names: Vec<String> = specs.map(|spec| format!("'{}'", spec.name)).collect();
            format!(
                "expected an input or output ({}), or one place of its rows, such as name[3]",
                names.join(", ")
            )
        }
    };
    Err(format!("records.redact has '{field}', which matches nothing: {expected}"))
}

#[cfg(test)]
mod tests {
    use slipway_inference::Datatype;

    use super::*;

    #[test]
    fn a_redaction_that_matches_nothing_is_refused() {
        let spec = |name: &str, shape: &[i64]| TensorSpec {
            name: name.into(),
            datatype: Datatype::Fp32,
            shape: shape.to_vec(),
        };
        let signature = Signature {
            inputs: vec![spec("x", &[-1, 2, 3]), spec("free", &[-1, -1])],
            outputs: vec![spec("label", &[-1]), spec("unsaid", &[])],
            ..Signature::default()
        };
        let check = |field: &str| {
            RecordPolicy { redact: vec![field.into()], ..RecordPolicy::default() }.check(&signature)
        };
        for field in ["x", "x[0]", "x[5]", "free[700]", "label", "label[0]", "unsaid[9]"] {
            assert_eq!(check(field), Ok(()));
        }
        let narrow = "records.redact has 'x[6]', which matches nothing: rows of 'x' have 6 elements";
        assert!(check("x[6]").unwrap_err().starts_with(narrow));
        for field in ["typo", "X", "x[-1]", "x[one]", "x[1", "", "label[1]"] {
            let refused = check(field).unwrap_err();
            assert!(refused.starts_with(&format!("records.redact has '{field}', which")), "{refused}");
        }
        assert!(check("typo").unwrap_err().contains("('x', 'free', 'label', 'unsaid')"));
    }

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
