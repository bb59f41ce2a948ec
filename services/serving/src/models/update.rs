//! What the manager is given.

use slipway_api::traffic::TrafficTable;

/// News about tables.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Update {
    /// The newest table of a deployment.
    Table(Box<TrafficTable>),
    /// The deployment is gone.
    Deleted(String),
    /// Every table that existed when the watch started has been received.
    Current,
}
