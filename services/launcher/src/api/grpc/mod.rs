//! gRPC: jobs for other services, and the agents' side.

pub(crate) mod agents;
pub(crate) mod jobs;
