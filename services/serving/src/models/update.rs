//! What the manager is given.

use slipway_api::traffic::{TablesPosition, TrafficTable};

/// News about tables.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Update {
    /// The newest table of a deployment.
    Table(Box<Entry>),
    /// The newest table of a deployment cannot be used; the one before stays in use.
    Refused {
        /// The deployment.
        deployment: String,
        /// Its place in the bucket.
        revision: u64,
        /// Why.
        reason: String,
    },
    /// The deployment is gone.
    Deleted(String),
    /// Every table that existed when the folder was read first has been received.
    Current,
    /// Everything that the bucket has.
    All(Box<AllTables>),
    /// Everything up to this place in the bucket has been sent.
    Applied(TablesPosition),
}

/// A table, and where it is in the bucket; 0 for one that comes from elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// The table.
    pub(crate) table: TrafficTable,
    /// Revision of its entry.
    pub(crate) revision: u64,
}

/// The bucket, read as a whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AllTables {
    /// All tables, and those that cannot be used ([`Update::Refused`]).
    pub(crate) updates: Vec<Update>,
    /// Whether there are no others: a bucket that is being written again has not all of them yet.
    pub(crate) complete: bool,
    /// Up to where it was read.
    pub(crate) position: TablesPosition,
    /// Suspensions of the process before the reading began.
    pub(crate) suspensions: u64,
}
