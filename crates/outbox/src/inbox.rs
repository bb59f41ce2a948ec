//! Which events a consumer has handled already.

use sqlx::PgConnection;

/// Entries are kept this long: the events stream forgets sooner, so nothing older can come again.
const KEEP_DAYS: i32 = 30;

/// Whether `consumer` meets this event for the first time. Call it in the transaction that acts on the event:
/// both commit, or neither.
///
/// # Errors
/// The insert fails.
pub async fn first_time(
    connection: &mut PgConnection,
    consumer: &str,
    event_id: &str,
) -> Result<bool, sqlx::Error> {
    let inserted =
        sqlx::query("INSERT INTO inbox (consumer, event_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(consumer)
            .bind(event_id)
            .execute(&mut *connection)
            .await?;
    let first = inserted.rows_affected() == 1;
    if first {
        sqlx::query("DELETE FROM inbox WHERE handled_at < now() - make_interval(days => $1)")
            .bind(KEEP_DAYS)
            .execute(connection)
            .await?;
    }
    Ok(first)
}
