//! What this replica and the rollout controller tell each other through NATS: traffic tables, the status of
//! the replica, and events.

pub(crate) mod joining;
pub(crate) mod status;
pub(crate) mod tables;
