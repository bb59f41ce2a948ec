//! Fault drills: would the analysis of a rollout notice a version that fails like this, and after how long?
//!
//! [`step`] is the whole state machine. Replicas count what the rehearsed version does apart from everything
//! else ([`DrillCounts`]), and the analysis judges these counts as those of a candidate.

mod counts;
mod latencies;
mod request;
mod state;
mod step;

pub use self::counts::{DrillCounts, DrillSide, Missing, Replayed};
pub use self::latencies::{BUCKETS, Latencies, bucket_of};
pub use self::request::{
    DEFAULT_RECORDS, DEFAULT_REQUESTS_PER_SECOND, DEFAULT_SECONDS, DrillRequest, FaultKind, MAX_LATENCY_MS,
    MAX_RECORDS, MAX_REQUESTS_PER_SECOND, MAX_SECONDS, RecordedRequests,
};
pub use self::state::{Drill, DrillEnd, DrillEnded, DrillVerdict, NewDrill, Noticed};
pub use self::step::{DrillSeen, REPORT_GRACE_MS, step};

#[cfg(test)]
mod tests;
