//! The transactional outbox: an event is committed with the change that it describes, and published
//! afterwards.

use std::sync::Arc;

use slipway_api::events::EventBody;
use slipway_audit::Actor;
use slipway_runtime::id;
use sqlx::PgConnection;
use tokio::sync::watch;
use uuid::Uuid;

/// Adds events to the outbox and tells the relay of them, in whichever replica it runs. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    /// Commits of this process.
    pub(crate) own: Commits,
    /// Commits of other replicas, as far as they told this one.
    pub(crate) elsewhere: watch::Sender<u64>,
    pub(crate) audited: bool,
}

/// Counts commits: those that the relay is told of immediately, and those that may wait a little.
#[derive(Debug, Clone, Default)]
pub(crate) struct Commits {
    pub(crate) urgent: watch::Sender<u64>,
    pub(crate) patient: watch::Sender<u64>,
}

impl Outbox {
    /// The outbox of a service with an audit trail: the relay appends what it publishes to it.
    #[must_use]
    pub fn audited() -> Self {
        Self { audited: true, ..Self::default() }
    }

    /// Adds an event in the caller's transaction; its trace context is the current span's. Call
    /// [`Self::wake`] after the commit. Returns the event's id.
    ///
    /// # Errors
    /// The insert fails.
    pub async fn enqueue<E: EventBody>(
        &self,
        connection: &mut PgConnection,
        event: &E,
    ) -> Result<Uuid, sqlx::Error> {
        let prepared = Prepared::new(event, slipway_telemetry::current_traceparent())?;
        let id = prepared.id;
        self.enqueue_all(connection, std::slice::from_ref(&prepared)).await?;
        Ok(id)
    }

    /// [`Self::enqueue`] for many events in one statement, in their order.
    ///
    /// # Errors
    /// The insert fails.
    pub async fn enqueue_all(
        &self,
        connection: &mut PgConnection,
        events: &[Prepared],
    ) -> Result<(), sqlx::Error> {
        let column = |field: fn(&Prepared) -> &str| events.iter().map(field).collect::<Vec<&str>>();
        sqlx::query(
            "INSERT INTO outbox (id, subject, event_type, entity, data, traceparent, principal, credential, \
             origin) \
             SELECT id, subject, subject, entity, data::JSONB, traceparent, principal, credential, origin \
             FROM UNNEST($1::UUID[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], \
             $8::TEXT[]) \
             AS given (id, subject, entity, data, traceparent, principal, credential, origin)",
        )
        .bind(events.iter().map(|event| event.id).collect::<Vec<Uuid>>())
        .bind(column(|event| &event.subject))
        .bind(column(|event| &event.entity))
        .bind(column(|event| &event.data))
        .bind(events.iter().map(|event| event.traceparent.as_deref()).collect::<Vec<Option<&str>>>())
        .bind(column(|event| &event.actor.principal))
        .bind(column(|event| &event.actor.credential))
        .bind(column(|event| &event.actor.origin))
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Tells the relay that something was committed. If it is not called, the relay finds out within its poll
    /// interval.
    pub fn wake(&self) {
        count(&self.own.urgent);
    }

    /// [`Self::wake`] within a fraction of a second, for events that come in great numbers: they are
    /// published together.
    pub fn wake_later(&self) {
        count(&self.own.patient);
    }

    /// Changes when this replica has committed something.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.own.urgent.subscribe()
    }

    /// Changes when another replica has committed something, while this one leads. News may get lost, so
    /// whoever waits for them also looks from time to time.
    pub fn commits_elsewhere(&self) -> watch::Receiver<u64> {
        self.elsewhere.subscribe()
    }
}

pub(crate) fn count(commits: &watch::Sender<u64>) {
    commits.send_modify(|count| *count = count.wrapping_add(1));
}

/// An event on its way into the outbox.
#[derive(Debug, Clone)]
pub struct Prepared {
    id: Uuid,
    subject: String,
    entity: String,
    data: String,
    traceparent: Option<String>,
    actor: Arc<Actor>,
}

impl Prepared {
    /// `traceparent` is the W3C context of the request that caused the event.
    ///
    /// # Errors
    /// The event has no JSON form ([`sqlx::Error::Encode`]).
    pub fn new<E: EventBody>(event: &E, traceparent: Option<String>) -> Result<Self, sqlx::Error> {
        let data = serde_json::to_string(event).map_err(|error| sqlx::Error::Encode(error.into()))?;
        Ok(Self {
            id: id::time_ordered(),
            subject: event.subject(),
            entity: event.entity(),
            data,
            traceparent,
            actor: Arc::default(),
        })
    }

    /// Sets on whose behalf the change was made, for the audit trail.
    #[must_use]
    pub fn by(mut self, actor: Arc<Actor>) -> Self {
        self.actor = actor;
        self
    }
}
