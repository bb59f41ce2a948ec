//! Which replica of the service leads.

use sqlx::{PgConnection, PgPool};

/// Key of the advisory lock that the leader holds, in addition to the schema's name.
const LOCK_KEY: i32 = 0x51_1B_01;

/// The leader's lock, on a connection of its own. It is released when the connection is lost or closed.
#[derive(Debug)]
pub(crate) struct LeaderLock {
    connection: PgConnection,
}

impl LeaderLock {
    /// Takes the lock; `None` while another replica holds it.
    pub(crate) async fn take(pool: &PgPool) -> Result<Option<Self>, sqlx::Error> {
        let mut connection = pool.acquire().await?.detach();
        let taken: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext(current_schema()))")
            .bind(LOCK_KEY)
            .fetch_one(&mut connection)
            .await?;
        Ok(taken.then_some(Self { connection }))
    }

    /// Checks that the lock is still held.
    pub(crate) async fn check(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT 1").execute(&mut self.connection).await.map(drop)
    }
}
