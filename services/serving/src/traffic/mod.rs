//! What this replica and the rollout controller tell each other through NATS: traffic tables, the status of
//! the replica, and events.

mod by_deployment;
pub(crate) mod joining;
pub(crate) mod pulse;
pub(crate) mod selection;
pub(crate) mod status;
pub(crate) mod tables;
pub(crate) mod usage;
