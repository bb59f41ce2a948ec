//! The transaction in which a change and its events commit together.

use serde_json::Value;
use slipway_api::events::{EventBody, RegistryChange, catalog};
use slipway_outbox::{Outbox, Prepared};
use sqlx::postgres::PgConnection;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::sync::watch;

use crate::access::caller::current_actor;
use crate::error::Error;

/// Opens changes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Changes {
    pool: PgPool,
    outbox: Outbox,
}

impl Changes {
    /// Changes of this database, whose events go out through that outbox.
    pub(crate) const fn new(pool: PgPool, outbox: Outbox) -> Self {
        Self { pool, outbox }
    }

    /// Tells the leader that something was committed which is no change with events.
    pub(crate) fn committed(&self) {
        self.outbox.wake();
    }

    /// Changes when another replica has committed something, while this one leads.
    pub(crate) fn elsewhere(&self) -> watch::Receiver<u64> {
        self.outbox.commits_elsewhere()
    }

    /// Begins a change; in the work of the leader it is fenced.
    ///
    /// # Errors
    /// Postgres is unreachable, or this replica leads no longer.
    pub(crate) async fn begin(&self) -> Result<Change, Error> {
        let transaction = slipway_lease::begin(&self.pool).await?;
        Ok(Change { transaction, outbox: self.outbox.clone(), published: None })
    }
}

/// One request's transaction. Dropped without [`Change::commit`], it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Change {
    transaction: Transaction<'static, Postgres>,
    outbox: Outbox,
    published: Option<Published>,
}

/// How soon the relay is told of the events of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Published {
    Later,
    AtCommit,
}

impl Change {
    /// The connection, for the store's functions.
    pub(crate) fn db(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Adds an event that is published when the change commits.
    ///
    /// # Errors
    /// Postgres is unreachable.
    pub(crate) async fn publish<E: EventBody>(&mut self, event: &E) -> Result<(), Error> {
        debug_assert!(
            catalog::find(&event.subject()).is_some(),
            "{}: slipway_api::events::catalog does not know it",
            event.subject()
        );
        let event = Prepared::new(event, slipway_telemetry::current_traceparent())?.by(current_actor());
        self.outbox.enqueue_all(&mut self.transaction, &[event]).await?;
        self.published = Some(Published::AtCommit);
        Ok(())
    }

    /// [`Self::publish`] for many at once, made before. The relay looks a fraction of a second later: waking
    /// it for each point of a training loop would cost more than the points.
    ///
    /// # Errors
    /// Postgres is unreachable.
    pub(crate) async fn publish_all(&mut self, events: &[Prepared]) -> Result<(), Error> {
        self.outbox.enqueue_all(&mut self.transaction, events).await?;
        self.published = self.published.max(Some(Published::Later));
        Ok(())
    }

    /// Has the relay look as soon as the change is committed.
    pub(crate) const fn wake_at_commit(&mut self) {
        self.published = Some(Published::AtCommit);
    }

    /// [`Self::publish`] for the usual event of the registry: `entity` `id` was `what`.
    ///
    /// # Errors
    /// Postgres is unreachable.
    pub(crate) async fn tell(
        &mut self,
        entity: &str,
        what: &str,
        id: impl Into<String>,
        details: Value,
    ) -> Result<(), Error> {
        let event =
            RegistryChange { entity: entity.to_owned(), what: what.to_owned(), id: id.into(), details };
        self.publish(&event).await
    }

    /// Makes the change and its events true.
    ///
    /// # Errors
    /// Postgres is unreachable: then nothing of it happened, or the acknowledgement was lost.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        self.transaction.commit().await?;
        match self.published {
            Some(Published::AtCommit) => self.outbox.wake(),
            Some(Published::Later) => self.outbox.wake_later(),
            None => {}
        }
        Ok(())
    }
}
