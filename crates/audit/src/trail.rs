//! Reads the trail. The relay writes it, as it publishes what was committed.

use slipway_domain::audit::Record;
use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder};

/// Begins a transaction whose statements all see the same rows.
const ONE_VIEW: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A row of the trail. [`Record`] explains the fields.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AuditRow {
    /// Place in the chain, from 1.
    pub seq: i64,
    /// Id of the event.
    pub event_id: String,
    /// When the change was made, Unix milliseconds.
    pub at_ms: i64,
    /// The caller.
    pub principal: String,
    /// What it authenticated with; empty without a credential.
    pub credential: String,
    /// Its IP address; empty for the service itself.
    pub origin: String,
    /// Trace of the request; empty without one.
    pub trace_id: String,
    /// Kind of entity that changed, e.g. `run`.
    pub entity: String,
    /// What happened to it, e.g. `created`.
    pub what: String,
    /// Its name or id.
    pub id: String,
    /// The event's body, as JSON text.
    pub details: String,
    /// SHA-256 over the hash of the row before and this row's record, 32 bytes.
    pub hash: Vec<u8>,
}

impl AuditRow {
    /// What the row's hash covers, besides the hash of the row before.
    pub fn record(&self) -> Record<'_> {
        Record {
            seq: self.seq,
            event_id: &self.event_id,
            at_ms: self.at_ms,
            principal: &self.principal,
            credential: &self.credential,
            origin: &self.origin,
            trace_id: &self.trace_id,
            entity: &self.entity,
            what: &self.what,
            id: &self.id,
            details: &self.details,
        }
    }
}

/// Which rows to read; the default reads all, newest first.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Changes by this caller.
    pub principal: Option<String>,
    /// Changes of this kind of entity.
    pub entity: Option<String>,
    /// Changes of the entity with this name or id.
    pub id: Option<String>,
    /// From this time on, Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Before this time, Unix milliseconds.
    pub until_ms: Option<i64>,
    /// Oldest first, which is the order of the chain.
    pub ascending: bool,
}

/// A page of the trail, and the end of the chain when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The rows.
    pub rows: Vec<AuditRow>,
    /// Number of the chain's last row; 0 for an empty trail.
    pub head_seq: i64,
    /// Its hash.
    pub head_hash: Vec<u8>,
}

/// Reads at most `limit` rows behind the row `after`.
///
/// # Errors
/// Postgres is unreachable.
pub async fn page(
    pool: &PgPool,
    filter: &Filter,
    after: Option<i64>,
    limit: i64,
) -> Result<Page, sqlx::Error> {
    // One snapshot for both, so that a row which is added in between does not break a client's walk along the
    // chain.
    let mut db = pool.begin_with(ONE_VIEW).await?;
    let (head_seq, head_hash) =
        sqlx::query_as("SELECT seq, hash FROM audit_head").fetch_one(&mut *db).await?;
    let rows = list(&mut db, filter, after, limit).await?;
    Ok(Page { rows, head_seq, head_hash })
}

async fn list(
    db: &mut PgConnection,
    filter: &Filter,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<AuditRow>, sqlx::Error> {
    let mut query = QueryBuilder::<Postgres>::new(
        "SELECT seq, event_id::TEXT AS event_id, at_ms, principal, credential, origin, trace_id, entity, \
         what, id, \
         details, hash FROM audit WHERE TRUE",
    );
    if let Some(id) = &filter.id {
        // As the index has it.
        query.push(" AND left(id, 256) = left(").push_bind(id.clone()).push(", 256)");
    }
    for (column, wanted) in [("principal", &filter.principal), ("entity", &filter.entity), ("id", &filter.id)]
    {
        if let Some(wanted) = wanted {
            query.push(format!(" AND {column} = ")).push_bind(wanted.clone());
        }
    }
    if let Some(since) = filter.since_ms {
        query.push(" AND at_ms >= ").push_bind(since);
    }
    if let Some(until) = filter.until_ms {
        query.push(" AND at_ms < ").push_bind(until);
    }
    if let Some(after) = after {
        query.push(if filter.ascending { " AND seq > " } else { " AND seq < " }).push_bind(after);
    }
    query.push(if filter.ascending { " ORDER BY seq LIMIT " } else { " ORDER BY seq DESC LIMIT " });
    query.push_bind(limit);
    query.build_query_as().persistent(false).fetch_all(db).await
}
