//! Reads the trail. The relay writes it, as it publishes what was committed.

use slipway_domain::audit::Record;
use sqlx::postgres::PgRow;
use sqlx::{FromRow as _, PgPool, Postgres, QueryBuilder, Row as _};

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
    let direction = if filter.ascending { "" } else { " DESC" };
    // One statement sees one state: a row that is added between two would break a client's walk along the
    // chain.
    let mut query = QueryBuilder::<Postgres>::new(
        "SELECT h.seq AS head_seq, h.hash AS head_hash, a.* FROM audit_head h LEFT JOIN LATERAL (\
         SELECT seq, event_id::TEXT AS event_id, at_ms, principal, credential, origin, trace_id, entity, \
         what, id, details, hash FROM audit WHERE TRUE",
    );
    push_conditions(&mut query, filter, after);
    query.push(" ORDER BY seq").push(direction).push(" LIMIT ").push_bind(limit);
    query.push(") a ON TRUE ORDER BY a.seq").push(direction);
    let found = query.build().persistent(false).fetch_all(pool).await?;
    let head = found.first().ok_or(sqlx::Error::RowNotFound)?;
    let (head_seq, head_hash) = (head.try_get("head_seq")?, head.try_get("head_hash")?);
    // Without a row that matches, there is the head alone.
    let is_row = |row: &&PgRow| row.try_get::<Option<i64>, _>("seq").is_ok_and(|seq| seq.is_some());
    let rows = found.iter().filter(is_row).map(AuditRow::from_row).collect::<Result<_, _>>()?;
    Ok(Page { rows, head_seq, head_hash })
}

fn push_conditions(query: &mut QueryBuilder<Postgres>, filter: &Filter, after: Option<i64>) {
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
}
