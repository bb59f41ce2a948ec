//! How the publisher of tokens and roles hears of changes.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes the publisher after a change was committed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Announcer(Arc<Notify>);

impl Announcer {
    /// Has the tables published.
    pub(crate) fn announce(&self) {
        self.0.notify_one();
    }

    /// Waits for [`Self::announce`].
    pub(crate) async fn announced(&self) {
        self.0.notified().await;
    }
}
