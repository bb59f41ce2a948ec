//! What the samples of live traffic tell: switch-over times, answers by a version that was not to answer.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// An answer may still be on its way when a decision falls, and the table needs its time to arrive.
const SWITCH_GRACE_MS: u64 = 1_000;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) at_unix_ms: u64,
    pub(crate) latency_us: u64,
    pub(crate) version: String,
    pub(crate) correct: bool,
}

/// Versions that may answer between two moments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Allowed {
    pub(crate) version: String,
    pub(crate) from_unix_ms: u64,
    /// Absent while it still may.
    pub(crate) until_unix_ms: Option<u64>,
}

/// Answers by a version outside its time.
pub(crate) fn wrong_version(samples: &[Sample], allowed: &[Allowed]) -> usize {
    samples
        .iter()
        .filter(|sample| {
            !allowed.iter().any(|span| {
                span.version == sample.version
                    && sample.at_unix_ms >= span.from_unix_ms
                    && span.until_unix_ms.is_none_or(|until| sample.at_unix_ms <= until + SWITCH_GRACE_MS)
            })
        })
        .count()
}

/// From a decision to the first answer by `version` after it, in milliseconds.
pub(crate) fn until_first_answer_ms(samples: &[Sample], version: &str, decided_unix_ms: u64) -> Option<u64> {
    samples
        .iter()
        .filter(|sample| sample.version == version && sample.at_unix_ms >= decided_unix_ms)
        .map(|sample| sample.at_unix_ms - decided_unix_ms)
        .min()
}

/// From a decision to the last answer by `version`, in milliseconds; 0 where none came after it.
pub(crate) fn until_last_answer_ms(samples: &[Sample], version: &str, decided_unix_ms: u64) -> u64 {
    samples
        .iter()
        .filter(|sample| sample.version == version)
        .map(|sample| sample.at_unix_ms.saturating_sub(decided_unix_ms))
        .max()
        .unwrap_or(0)
}

/// Share of right answers by a version between two moments, and their number.
pub(crate) fn accuracy(samples: &[Sample], version: &str, from_unix_ms: u64) -> Option<(f64, usize)> {
    let answers: Vec<_> = samples
        .iter()
        .filter(|sample| sample.version == version && sample.at_unix_ms >= from_unix_ms)
        .collect();
    let right = answers.iter().filter(|sample| sample.correct).count();
    (!answers.is_empty()).then(|| (right as f64 / answers.len() as f64, answers.len()))
}

/// The value below which the given share of the values lies.
pub(crate) fn quantile(values: &mut [u64], share: f64) -> u64 {
    if values.is_empty() {
        return 0;
    }
    values.sort_unstable();
    values[(((values.len() - 1) as f64) * share).round() as usize]
}

/// Unix time in milliseconds.
pub(crate) fn now_unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_unix_ms: u64, version: &str) -> Sample {
        Sample { at_unix_ms, latency_us: 1, version: version.into(), correct: true }
    }

    #[test]
    fn an_answer_after_the_rollback_is_wrong() {
        let allowed = [
            Allowed { version: "2".into(), from_unix_ms: 0, until_unix_ms: None },
            Allowed { version: "3".into(), from_unix_ms: 100, until_unix_ms: Some(200) },
        ];
        let samples =
            [sample(50, "3"), sample(150, "3"), sample(1_150, "3"), sample(1_300, "3"), sample(9_000, "2")];
        assert_eq!(wrong_version(&samples, &allowed), 2);
    }

    #[test]
    fn switch_times_count_from_the_decision() {
        let samples = [sample(90, "3"), sample(130, "3"), sample(140, "2"), sample(105, "2")];
        assert_eq!(until_last_answer_ms(&samples, "3", 100), 30);
        assert_eq!(until_first_answer_ms(&samples, "2", 100), Some(5));
    }
}
