//! What the manager is given.

use slipway_api::traffic::TrafficTable;

/// News about tables.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Update {
    /// The newest table of a deployment.
    Table(Box<TrafficTable>),
    /// The deployment is gone.
    Deleted(String),
    /// Every table that there was when the watch began has been told.
    Current,
}
