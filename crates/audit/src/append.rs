//! Appends rows to the trail. Requests pay nothing for the chain, and its rows are in one order, because
//! there is one relay.

use slipway_domain::audit::link;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::trail::AuditRow;

/// On whose behalf a change is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Actor {
    /// The caller; `anonymous` where access is off, `system` for the service itself.
    pub principal: String,
    /// What it authenticated with, e.g. `token:0123456789abcdef`; empty without a credential.
    pub credential: String,
    /// Its IP address; empty for the service itself.
    pub origin: String,
}

impl Actor {
    /// The service itself: scheduled deletions, garbage collection.
    pub fn system() -> Self {
        Self { principal: "system".to_owned(), ..Self::default() }
    }
}

/// An event that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its CloudEvents id.
    pub event_id: Uuid,
    /// When the change was made, Unix milliseconds.
    pub at_ms: i64,
    /// On whose behalf.
    pub actor: Actor,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// `slipway.<service>.<entity>.<what>`.
    pub subject: String,
    /// The entity's name or id.
    pub id: String,
    /// The event's body, as JSON text.
    pub details: String,
}

impl Entry {
    /// The row at `seq`, behind the row with the hash `previous`; and its hash.
    fn chain(self, seq: i64, previous: &[u8; 32]) -> (AuditRow, [u8; 32]) {
        let (entity, what) = kind(&self.subject);
        let mut row = AuditRow {
            seq,
            event_id: self.event_id.to_string(),
            at_ms: self.at_ms,
            principal: self.actor.principal,
            credential: self.actor.credential,
            origin: self.actor.origin,
            trace_id: trace_id(self.traceparent.as_deref()).to_owned(),
            entity: entity.to_owned(),
            what: what.to_owned(),
            id: self.id,
            details: self.details,
            hash: Vec::new(),
        };
        let hash = link(previous, &row.record().canonical());
        row.hash = hash.to_vec();
        (row, hash)
    }
}

/// Appends entries in their order, behind the last row of the chain.
///
/// # Errors
/// Postgres rejects the statement or is unreachable; or the head of the chain is damaged
/// ([`sqlx::Error::Protocol`]).
pub async fn append(
    db: &mut PgConnection,
    entries: impl IntoIterator<Item = Entry>,
) -> Result<(), sqlx::Error> {
    let mut entries = entries.into_iter().peekable();
    if entries.peek().is_none() {
        return Ok(());
    }
    let (mut seq, head): (i64, Vec<u8>) =
        sqlx::query_as("SELECT seq, hash FROM audit_head FOR UPDATE").fetch_one(&mut *db).await?;
    let mut hash: [u8; 32] =
        head.try_into().map_err(|_| sqlx::Error::Protocol("the audit trail's head is damaged".into()))?;
    let mut columns = Columns::default();
    for entry in entries {
        seq += 1;
        let (row, next) = entry.chain(seq, &hash);
        hash = next;
        columns.push(row);
    }
    columns.insert(&mut *db).await?;
    sqlx::query("UPDATE audit_head SET seq = $1, hash = $2").bind(seq).bind(&hash[..]).execute(db).await?;
    Ok(())
}

/// Rows as columns, for `UNNEST`.
#[derive(Default)]
struct Columns {
    seqs: Vec<i64>,
    event_ids: Vec<String>,
    times: Vec<i64>,
    principals: Vec<String>,
    credentials: Vec<String>,
    origins: Vec<String>,
    trace_ids: Vec<String>,
    entities: Vec<String>,
    whats: Vec<String>,
    ids: Vec<String>,
    details: Vec<String>,
    hashes: Vec<Vec<u8>>,
}

impl Columns {
    fn push(&mut self, row: AuditRow) {
        self.seqs.push(row.seq);
        self.event_ids.push(row.event_id);
        self.times.push(row.at_ms);
        self.principals.push(row.principal);
        self.credentials.push(row.credential);
        self.origins.push(row.origin);
        self.trace_ids.push(row.trace_id);
        self.entities.push(row.entity);
        self.whats.push(row.what);
        self.ids.push(row.id);
        self.details.push(row.details);
        self.hashes.push(row.hash);
    }

    async fn insert(self, db: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO audit (seq, event_id, at_ms, principal, credential, origin, trace_id, entity, what, \
             id, details, hash) \
             SELECT seq, event_id::UUID, at_ms, principal, credential, origin, trace_id, entity, what, id, \
             details, hash \
             FROM UNNEST($1::BIGINT[], $2::TEXT[], $3::BIGINT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], \
             $7::TEXT[], \
             $8::TEXT[], $9::TEXT[], $10::TEXT[], $11::TEXT[], $12::BYTEA[]) \
             AS given (seq, event_id, at_ms, principal, credential, origin, trace_id, entity, what, id, \
             details, hash)",
        )
        .bind(self.seqs)
        .bind(self.event_ids)
        .bind(self.times)
        .bind(self.principals)
        .bind(self.credentials)
        .bind(self.origins)
        .bind(self.trace_ids)
        .bind(self.entities)
        .bind(self.whats)
        .bind(self.ids)
        .bind(self.details)
        .bind(self.hashes)
        .execute(db)
        .await?;
        Ok(())
    }
}

/// Entity and what happened to it, of `slipway.<service>.<entity>.<what>`.
fn kind(subject: &str) -> (&str, &str) {
    let mut parts = subject.splitn(4, '.').skip(2);
    (parts.next().unwrap_or(subject), parts.next().unwrap_or_default())
}

fn trace_id(traceparent: Option<&str>) -> &str {
    traceparent.and_then(|text| text.split('-').nth(1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_says_what_happened_to_what() {
        assert_eq!(kind("slipway.registry.model-version.created"), ("model-version", "created"));
        assert_eq!(kind("odd"), ("odd", ""));
        assert_eq!(trace_id(Some("00-aa-bb-01")), "aa");
    }
}
