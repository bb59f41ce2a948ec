//! The id of the installation, which all launchers of one database share.

use sqlx::PgPool;
use uuid::Uuid;

/// The id.
pub(crate) async fn id(pool: &PgPool) -> Result<Uuid, sqlx::Error> {
    sqlx::query_scalar("SELECT id FROM installation").fetch_one(pool).await
}
