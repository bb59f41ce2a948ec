//! Use cases of trust: signatures of model versions, reports, approvals and policies.

pub(crate) mod approvals;
pub(crate) mod policies;
pub(crate) mod reports;
pub(crate) mod signatures;
pub(crate) mod signing;
