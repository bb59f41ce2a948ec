//! Deliveries of events to webhooks.

use slipway_domain::registry::webhook::Format;
use sqlx::PgConnection;

use crate::error::Error;

/// A delivery as it is shown.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Delivery {
    pub(crate) delivery_id: i64,
    pub(crate) event_id: String,
    pub(crate) subject: String,
    pub(crate) state: String,
    pub(crate) attempts: i32,
    pub(crate) next_attempt_ms: i64,
    pub(crate) last_status: Option<i32>,
    pub(crate) last_error: Option<String>,
    pub(crate) created_ms: i64,
    pub(crate) finished_ms: Option<i64>,
}

/// A claimed delivery.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Claimed {
    pub(crate) delivery_id: i64,
    pub(crate) webhook_key: i64,
    pub(crate) webhook: String,
    #[sqlx(try_from = "String")]
    pub(crate) format: Format,
    pub(crate) url: String,
    pub(crate) event_id: String,
    pub(crate) body: String,
    /// Attempts before this one.
    pub(crate) attempts: i32,
}

/// How an attempt came out.
#[derive(Debug)]
pub(crate) struct Attempt<'attempt> {
    pub(crate) state: &'static str,
    pub(crate) next_attempt_ms: i64,
    pub(crate) status: Option<i32>,
    pub(crate) error: Option<&'attempt str>,
}

/// An event that is to be delivered.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) event_id: String,
    pub(crate) subject: String,
    pub(crate) body: String,
}

/// Adds a delivery for each of the webhooks, where there is none of that event yet; says how many were added.
pub(crate) async fn deliveries_add(
    db: &mut PgConnection,
    webhook_keys: &[i64],
    event: &Told,
    now_ms: i64,
) -> Result<u64, Error> {
    // From the table and not from the keys alone: a webhook may have been removed meanwhile.
    let added = sqlx::query(
        "INSERT INTO webhook_deliveries (webhook_key, event_id, subject, body, next_attempt_ms, created_ms) \
         SELECT webhook_key, $2, $3, $4, $5, $5 FROM webhooks WHERE webhook_key = ANY($1) \
         ON CONFLICT (webhook_key, event_id) DO NOTHING",
    )
    .bind(webhook_keys)
    .bind(&event.event_id)
    .bind(&event.subject)
    .bind(&event.body)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(added.rows_affected())
}

/// Delivers these events to a webhook, again where that is over already; says how many it waits for now.
pub(crate) async fn deliveries_replay(
    db: &mut PgConnection,
    webhook_key: i64,
    events: &[Told],
    now_ms: i64,
) -> Result<u64, Error> {
    let column = |field: fn(&Told) -> &str| events.iter().map(field).collect::<Vec<&str>>();
    let queued = sqlx::query(
        "INSERT INTO webhook_deliveries AS d (webhook_key, event_id, subject, body, next_attempt_ms, \
         created_ms) \
         SELECT $1, event_id, subject, body, $5, $5 \
         FROM UNNEST($2::TEXT[], $3::TEXT[], $4::TEXT[]) AS g (event_id, subject, body) \
         ON CONFLICT (webhook_key, event_id) DO UPDATE \
         SET state = 'pending', attempts = 0, next_attempt_ms = excluded.next_attempt_ms, \
           finished_ms = NULL WHERE d.state <> 'pending'",
    )
    .bind(webhook_key)
    .bind(column(|event| &event.event_id))
    .bind(column(|event| &event.subject))
    .bind(column(|event| &event.body))
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(queued.rows_affected())
}

/// Delivers once more; `false` where there is no such delivery. One that is under way stays as it is.
pub(crate) async fn delivery_replay(
    db: &mut PgConnection,
    webhook_key: i64,
    delivery_id: i64,
    now_ms: i64,
) -> Result<bool, Error> {
    let found = sqlx::query(
        "UPDATE webhook_deliveries SET state = 'pending', next_attempt_ms = $3, finished_ms = NULL, \
           attempts = CASE WHEN state = 'pending' THEN attempts ELSE 0 END \
         WHERE webhook_key = $1 AND delivery_id = $2",
    )
    .bind(webhook_key)
    .bind(delivery_id)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(found.rows_affected() == 1)
}

/// Deliveries of a webhook, the newest first.
pub(crate) async fn delivery_list(
    db: &mut PgConnection,
    webhook_key: i64,
    state: Option<&str>,
    below: Option<i64>,
    limit: i64,
) -> Result<Vec<Delivery>, Error> {
    Ok(sqlx::query_as(
        "SELECT delivery_id, event_id, subject, state, attempts, next_attempt_ms, last_status, last_error, \
         created_ms, finished_ms \
         FROM webhook_deliveries WHERE webhook_key = $1 AND ($2::TEXT IS NULL OR state = $2) \
         AND ($3::BIGINT IS NULL OR delivery_id < $3) \
         ORDER BY delivery_id DESC LIMIT $4",
    )
    .bind(webhook_key)
    .bind(state)
    .bind(below)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Takes what is due, at most `room` in all and `per_webhook` of each webhook at a time, whichever replica is
/// at it.
pub(crate) async fn deliveries_claim(
    db: &mut PgConnection,
    claim: i64,
    room: i64,
    per_webhook: i64,
    now_ms: i64,
    until_ms: i64,
) -> Result<Vec<Claimed>, Error> {
    Ok(sqlx::query_as(
        "WITH busy AS (SELECT webhook_key, count(*) AS deliveries FROM webhook_deliveries \
           WHERE state = 'pending' AND claimed_until_ms > $4 GROUP BY 1), \
         due AS (SELECT d.delivery_id FROM webhooks w LEFT JOIN busy b USING (webhook_key), LATERAL ( \
           SELECT delivery_id FROM webhook_deliveries d WHERE d.webhook_key = w.webhook_key \
           AND d.state = 'pending' \
             AND d.next_attempt_ms <= $4 AND d.claimed_until_ms <= $4 \
           ORDER BY d.next_attempt_ms LIMIT greatest($3 - coalesce(b.deliveries, 0), \
           0) FOR UPDATE SKIP LOCKED) d \
           WHERE w.enabled LIMIT $2) \
         UPDATE webhook_deliveries d SET claim = $1, claimed_until_ms = $5 FROM due, webhooks w \
         WHERE d.delivery_id = due.delivery_id AND w.webhook_key = d.webhook_key \
         RETURNING d.delivery_id, d.webhook_key, w.name AS webhook, w.format, w.url, d.event_id, d.body, \
         d.attempts",
    )
    .bind(claim)
    .bind(room)
    .bind(per_webhook)
    .bind(now_ms)
    .bind(until_ms)
    .fetch_all(db)
    .await?)
}

/// When the next attempt of a delivery that is not under way is due, Unix milliseconds; `None` without one.
pub(crate) async fn deliveries_next(db: &mut PgConnection) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT min(due) FROM webhooks w, LATERAL (SELECT d.next_attempt_ms AS due FROM webhook_deliveries d \
         WHERE d.webhook_key = w.webhook_key AND d.state = 'pending' AND d.claim IS NULL \
         ORDER BY d.next_attempt_ms LIMIT 1) d WHERE w.enabled",
    )
    .fetch_one(db)
    .await?)
}

/// Ends all claims.
pub(crate) async fn deliveries_unclaim(db: &mut PgConnection) -> Result<(), Error> {
    sqlx::query(
        "UPDATE webhook_deliveries SET claim = NULL, claimed_until_ms = 0 \
         WHERE state = 'pending' AND claim IS NOT NULL",
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Stores the outcome of an attempt; `false` if another worker has claimed the delivery meanwhile.
pub(crate) async fn delivery_finish(
    db: &mut PgConnection,
    delivery_id: i64,
    claim: i64,
    attempt: &Attempt<'_>,
    now_ms: i64,
) -> Result<bool, Error> {
    let noted = sqlx::query(
        "UPDATE webhook_deliveries SET state = $3, next_attempt_ms = $4, last_status = $5, last_error = $6, \
         attempts = attempts + 1, \
           claim = NULL, claimed_until_ms = 0, finished_ms = CASE WHEN $3 = 'pending' THEN NULL ELSE $7 END \
         WHERE delivery_id = $1 AND claim = $2 AND state = 'pending'",
    )
    .bind(delivery_id)
    .bind(claim)
    .bind(attempt.state)
    .bind(attempt.next_attempt_ms)
    .bind(attempt.status)
    .bind(attempt.error)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// Forgets what was over before `before_ms`.
pub(crate) async fn deliveries_forget(
    db: &mut PgConnection,
    before_ms: i64,
    limit: i64,
) -> Result<u64, Error> {
    let removed = sqlx::query(
        "DELETE FROM webhook_deliveries WHERE delivery_id IN \
         (SELECT delivery_id FROM webhook_deliveries WHERE finished_ms < $1 ORDER BY finished_ms LIMIT $2)",
    )
    .bind(before_ms)
    .bind(limit)
    .execute(db)
    .await?;
    Ok(removed.rows_affected())
}
