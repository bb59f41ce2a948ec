//! What a drill is asked to do.

use serde::{Deserialize, Serialize};

use crate::traffic::{DrillTarget, Fault};
use crate::{Invalid, invalid::ensure};

/// Length of a drill unless it is given, in seconds.
pub const DEFAULT_SECONDS: u32 = 60;
/// Longest drill, in seconds.
pub const MAX_SECONDS: u32 = 3_600;
/// Largest latency that is added, in milliseconds.
pub const MAX_LATENCY_MS: u64 = 60_000;
/// Recorded requests that are replayed unless a number is given.
pub const DEFAULT_RECORDS: u32 = 1_000;
/// The most recorded requests that are replayed.
pub const MAX_RECORDS: u32 = 100_000;
/// Recorded requests that are sent each second unless a number is given.
pub const DEFAULT_REQUESTS_PER_SECOND: u32 = 10;
/// The most recorded requests that are sent each second.
pub const MAX_REQUESTS_PER_SECOND: u32 = 1_000;

/// A drill as it is asked for: a fault or recorded requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrillRequest {
    /// The fault.
    pub fault: Option<FaultKind>,
    /// For [`FaultKind::Latency`]: by how much answers take longer, in milliseconds.
    pub latency_ms: Option<u64>,
    /// Recorded requests.
    pub records: Option<RecordedRequests>,
    /// Who meets the fault.
    pub target: DrillTarget,
    /// Name of the deployment, where users' requests meet the fault: it has to be said twice.
    pub confirm: Option<String>,
    /// Share of the copies, or of users' requests, that meets the fault.
    pub percent: Option<u8>,
    /// How long it runs.
    pub seconds: Option<u32>,
}

/// A fault by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "see `Fault`")]
pub enum FaultKind {
    NotLoading,
    StorageGone,
    OutOfMemory,
    Errors,
    Latency,
}

impl FaultKind {
    /// What a rollout does about such a failure before any analysis, where it does something.
    pub const fn while_loading(fault: Option<Self>) -> Option<&'static str> {
        match fault {
            Some(Self::NotLoading | Self::OutOfMemory) => Some(
                "a rollout of a version that fails to load fails while it prepares, before the version \
                 receives traffic; a version that was unloaded fails its requests",
            ),
            Some(Self::StorageGone) => Some(
                "a rollout waits while it prepares, for prepare_timeout_s at most, before the version \
                 receives traffic; requests for a version that was unloaded count as overload, which no \
                 analysis sees",
            ),
            _ => None,
        }
    }
}

/// Which recorded requests are replayed, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordedRequests {
    /// The newest ones, this many at most.
    pub last: u32,
    /// How many are sent each second.
    pub requests_per_second: u32,
}

impl Default for RecordedRequests {
    fn default() -> Self {
        Self { last: DEFAULT_RECORDS, requests_per_second: DEFAULT_REQUESTS_PER_SECOND }
    }
}

impl DrillRequest {
    /// Checks the request for a drill of this deployment.
    ///
    /// # Errors
    /// Names the field, and what is expected of it.
    pub fn validate(&self, deployment: &str) -> Result<(), Invalid> {
        ensure(self.fault.is_some() != self.records.is_some(), "fault", || {
            "expected either `fault` or `records`".into()
        })?;
        self.validate_latency()?;
        if let Some(records) = &self.records {
            within("records.last", records.last.into(), MAX_RECORDS.into())?;
            let (rate, most) = (records.requests_per_second, MAX_REQUESTS_PER_SECOND);
            within("records.requests_per_second", rate.into(), most.into())?;
        }
        if let Some(percent) = self.percent {
            ensure(self.records.is_none(), "percent", || "not with `records`, all of which are sent".into())?;
            within("percent", percent.into(), 100)?;
        }
        within("seconds", self.seconds().into(), MAX_SECONDS.into())?;
        self.validate_target(deployment)
    }

    fn validate_latency(&self) -> Result<(), Invalid> {
        match (self.fault, self.latency_ms) {
            (Some(FaultKind::Latency), Some(latency_ms)) => within("latency_ms", latency_ms, MAX_LATENCY_MS),
            (Some(FaultKind::Latency), None) => {
                let message = format!("required for the fault `latency`: 1 to {MAX_LATENCY_MS}");
                Err(Invalid::new("latency_ms", message))
            }
            (_, Some(_)) => Err(Invalid::new("latency_ms", "only with the fault `latency`")),
            (_, None) => Ok(()),
        }
    }

    /// Users' requests meet a fault only if that is said twice, and the share is given.
    fn validate_target(&self, deployment: &str) -> Result<(), Invalid> {
        let confirmed = self.confirm.as_deref();
        if self.target == DrillTarget::Copies {
            return ensure(confirmed.is_none(), "confirm", || {
                "only with the target `answers`; copies of requests need no confirmation".into()
            });
        }
        ensure(self.fault.is_some(), "target", || {
            "recorded requests are replayed against `copies` only".into()
        })?;
        ensure(confirmed == Some(deployment), "confirm", || {
            format!(
                "with the target `answers`, users' requests meet the fault; expected the name of the \
                 deployment, `{deployment}`, to confirm that, got {}",
                confirmed.map_or_else(|| "nothing".to_owned(), |given| format!("`{given}`"))
            )
        })?;
        ensure(self.percent.is_some(), "percent", || {
            "required with the target `answers`: the share of users' requests that meets the fault, 1 to 100"
                .into()
        })
    }

    /// The fault, with its details.
    pub fn fault(&self) -> Option<Fault> {
        Some(match self.fault? {
            FaultKind::NotLoading => Fault::NotLoading,
            FaultKind::StorageGone => Fault::StorageGone,
            FaultKind::OutOfMemory => Fault::OutOfMemory,
            FaultKind::Errors => Fault::Errors,
            FaultKind::Latency => Fault::Latency { added_ms: self.latency_ms.unwrap_or_default() },
        })
    }

    /// Share of the copies, or of users' requests, that meets the fault, in percent.
    pub fn percent(&self) -> u8 {
        self.percent.unwrap_or(100)
    }

    /// How long it runs.
    pub fn seconds(&self) -> u32 {
        self.seconds.unwrap_or(DEFAULT_SECONDS)
    }

    /// What is rehearsed, in words.
    pub fn in_words(&self) -> String {
        let what = match (self.fault, self.records) {
            (Some(FaultKind::NotLoading), _) => "the model does not load".to_owned(),
            (Some(FaultKind::StorageGone), _) => "the artifact store is unreachable".to_owned(),
            (Some(FaultKind::OutOfMemory), _) => "the model does not load for lack of memory".to_owned(),
            (Some(FaultKind::Errors), _) => "the model fails".to_owned(),
            (Some(FaultKind::Latency), _) => {
                format!("answers take {} ms longer", self.latency_ms.unwrap_or_default())
            }
            (None, Some(records)) => {
                return format!(
                    "the last {} recorded requests are sent to a copy, {} each second",
                    records.last, records.requests_per_second
                );
            }
            (None, None) => "nothing".to_owned(),
        };
        let percent = self.percent();
        match self.target {
            DrillTarget::Copies => format!("{what}, for {percent} % of the copies of requests"),
            DrillTarget::Answers => format!("{what}, for {percent} % of users' requests"),
        }
    }
}

fn within(field: &str, value: u64, most: u64) -> Result<(), Invalid> {
    ensure((1..=most).contains(&value), field, || format!("expected 1 to {most}, got {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors() -> DrillRequest {
        DrillRequest { fault: Some(FaultKind::Errors), ..DrillRequest::default() }
    }

    fn refused(request: &DrillRequest) -> String {
        request.validate("churn").unwrap_err().field
    }

    #[test]
    fn users_meet_a_fault_only_if_that_is_said_twice() {
        let answers = DrillRequest { target: DrillTarget::Answers, percent: Some(5), ..errors() };
        let invalid = answers.validate("churn").unwrap_err();
        assert_eq!(invalid.field, "confirm");
        assert!(invalid.message.contains("`churn`") && invalid.message.ends_with("got nothing"), "{invalid}");
        // The confirmation alone turns no drill against users.
        let confirm = Some("churn".to_owned());
        assert_eq!(refused(&DrillRequest { confirm: confirm.clone(), ..errors() }), "confirm");
        let confirmed = DrillRequest { confirm, ..answers };
        let other = DrillRequest { confirm: Some("fraud".into()), ..confirmed };
        assert_eq!(refused(&other), "confirm");
        assert_eq!(confirmed.validate("churn"), Ok(()));
        assert_eq!(refused(&DrillRequest { percent: None, ..confirmed.clone() }), "percent");
        let records = Some(RecordedRequests::default());
        assert_eq!(refused(&DrillRequest { fault: None, percent: None, records, ..confirmed }), "target");
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_place() {
        assert_eq!(refused(&DrillRequest::default()), "fault");
        let records = |last| Some(RecordedRequests { last, ..RecordedRequests::default() });
        assert_eq!(refused(&DrillRequest { records: records(1), ..errors() }), "fault");
        let replay = DrillRequest { records: records(5), ..DrillRequest::default() };
        assert_eq!(replay.validate("churn"), Ok(()));
        assert_eq!(refused(&DrillRequest { records: records(100_001), ..replay.clone() }), "records.last");
        assert_eq!(refused(&DrillRequest { percent: Some(5), ..replay }), "percent");
        for seconds in [0, 3_601] {
            assert_eq!(refused(&DrillRequest { seconds: Some(seconds), ..errors() }), "seconds");
        }
        assert_eq!(refused(&DrillRequest { percent: Some(0), ..errors() }), "percent");
        assert_eq!(refused(&DrillRequest { latency_ms: Some(5), ..errors() }), "latency_ms");
        let latency = DrillRequest { fault: Some(FaultKind::Latency), ..DrillRequest::default() };
        assert_eq!(refused(&latency), "latency_ms");
        let latency = DrillRequest { latency_ms: Some(250), ..latency };
        assert_eq!(latency.validate("churn"), Ok(()));
        assert_eq!(latency.fault(), Some(Fault::Latency { added_ms: 250 }));
    }
}
