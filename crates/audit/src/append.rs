//! From the outbox into the audit trail: what the relay published becomes the next rows of the chain, in the transaction that
//! takes it out of the outbox. Requests pay nothing for the chain, and its rows are in one order, because there is one relay.
//!
//! Only a service with an [`Outbox::audited`](crate::Outbox::audited) has the tables `audit` and `audit_head`, and the columns
//! `principal`, `credential` and `origin` in its outbox.

use slipway_domain::audit::{Record, link};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Error;
use crate::outbox::OutboxRow;

/// On whose behalf a change is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Actor {
    /// The caller; `anonymous` where access is off, `system` for the service itself.
    pub principal: String,
    /// What it proved that with, e.g. `token:0123456789abcdef`; empty without a proof.
    pub credential: String,
    /// Its IP address; empty for the service itself.
    pub origin: String,
}

impl Actor {
    /// The service itself: purges by a rule, sweeps.
    pub fn system() -> Self {
        Self { principal: "system".to_owned(), ..Self::default() }
    }
}

/// Rows as columns, for `UNNEST`.
#[derive(Default)]
struct Columns<'row> {
    seqs: Vec<i64>,
    event_ids: Vec<Uuid>,
    times: Vec<i64>,
    principals: Vec<&'row str>,
    credentials: Vec<&'row str>,
    origins: Vec<&'row str>,
    trace_ids: Vec<&'row str>,
    entities: Vec<&'row str>,
    whats: Vec<&'row str>,
    ids: Vec<&'row str>,
    details: Vec<String>,
    hashes: Vec<Vec<u8>>,
}

/// Appends rows in their order, behind the last one of the chain.
///
/// # Errors
/// Postgres refuses or is away.
pub(crate) async fn append(db: &mut PgConnection, rows: &[OutboxRow]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let (mut seq, head): (i64, Vec<u8>) =
        sqlx::query_as("SELECT seq, hash FROM audit_head FOR UPDATE").fetch_one(&mut *db).await?;
    let mut hash: [u8; 32] = head
        .try_into()
        .map_err(|_| Error::Database(sqlx::Error::Protocol("the audit trail's head is damaged".into())))?;
    let mut columns = Columns::default();
    for row in rows {
        seq += 1;
        hash = columns.push(row, seq, &hash);
    }
    columns.insert(&mut *db).await?;
    sqlx::query("UPDATE audit_head SET seq = $1, hash = $2").bind(seq).bind(&hash[..]).execute(db).await?;
    Ok(())
}

impl<'row> Columns<'row> {
    /// Adds a row; its hash.
    fn push(&mut self, row: &'row OutboxRow, seq: i64, previous: &[u8; 32]) -> [u8; 32] {
        let (entity, what) = kind(&row.subject);
        let (event_id, details) = (row.id.to_string(), row.data.to_string());
        let record = Record {
            seq,
            event_id: &event_id,
            at_ms: row.occurred_at.timestamp_millis(),
            principal: &row.principal,
            credential: &row.credential,
            origin: &row.origin,
            trace_id: trace_id(row.traceparent.as_deref()),
            entity,
            what,
            id: &row.entity,
            details: &details,
        };
        let hash = link(previous, &record.canonical());
        self.seqs.push(seq);
        self.event_ids.push(row.id);
        self.times.push(record.at_ms);
        self.principals.push(&row.principal);
        self.credentials.push(&row.credential);
        self.origins.push(&row.origin);
        self.trace_ids.push(trace_id(row.traceparent.as_deref()));
        self.entities.push(entity);
        self.whats.push(what);
        self.ids.push(&row.entity);
        self.details.push(details);
        self.hashes.push(hash.to_vec());
        hash
    }

    async fn insert(self, db: &mut PgConnection) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO audit (seq, event_id, at_ms, principal, credential, origin, trace_id, entity, what, id, details, hash) \
             SELECT * FROM UNNEST($1::BIGINT[], $2::UUID[], $3::BIGINT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], \
             $8::TEXT[], $9::TEXT[], $10::TEXT[], $11::TEXT[], $12::BYTEA[])",
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
