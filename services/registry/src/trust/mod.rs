//! Use cases of trust: signatures of model versions, reports, approvals and policies.

pub(crate) mod signing;
