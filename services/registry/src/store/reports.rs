//! Validation reports and approvals of versions.

use slipway_domain::registry::report::Report;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::error::Error;

/// A report, stored.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct StoredReport {
    pub(crate) report_id: String,
    pub(crate) seq: i64,
    pub(crate) body: Json<Report>,
    pub(crate) created_ms: i64,
}

/// An approval of a version.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Approval {
    pub(crate) approver: String,
    pub(crate) comment: Option<String>,
    pub(crate) created_ms: i64,
    /// The approver proved who it is; with access control off the client chose the name.
    pub(crate) authenticated: bool,
}

const SELECT: &str = "SELECT report_id, seq, body, created_ms FROM model_version_reports \
    WHERE model_key = $1 AND version = $2";

/// Keeps a report.
pub(crate) async fn report_add(
    db: &mut PgConnection,
    (model_key, version): (i64, i32),
    report_id: &str,
    report: &Report,
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO model_version_reports (report_id, model_key, version, name, body, created_ms) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(report_id)
    .bind(model_key)
    .bind(version)
    .bind(&report.name)
    .bind(Json(report))
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// How many reports a version has, and how many names they have besides this one.
pub(crate) async fn report_counts(
    db: &mut PgConnection,
    (model_key, version): (i64, i32),
    name: &str,
) -> Result<(i64, i64), Error> {
    Ok(sqlx::query_as(
        "SELECT count(*), count(DISTINCT name) FILTER (WHERE name <> $3) FROM model_version_reports \
         WHERE model_key = $1 AND version = $2",
    )
    .bind(model_key)
    .bind(version)
    .bind(name)
    .fetch_one(db)
    .await?)
}

/// A page of a version's reports, the newest first, of one name where it is given.
pub(crate) async fn reports(
    db: &mut PgConnection,
    (model_key, version): (i64, i32),
    name: Option<&str>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<StoredReport>, Error> {
    let sql = format!(
        "{SELECT} AND ($3::TEXT IS NULL OR name = $3) AND ($4::BIGINT IS NULL OR seq < $4) ORDER BY seq DESC \
         LIMIT $5"
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(model_key)
        .bind(version)
        .bind(name)
        .bind(before)
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// One report of a version.
pub(crate) async fn report_get(
    db: &mut PgConnection,
    (model_key, version): (i64, i32),
    report_id: &str,
) -> Result<Option<StoredReport>, Error> {
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(format!("{SELECT} AND report_id = $3")))
        .bind(model_key)
        .bind(version)
        .bind(report_id)
        .fetch_optional(db)
        .await?)
}

/// The newest report of each name.
pub(crate) async fn reports_newest(
    db: &mut PgConnection,
    model_key: i64,
    version: i32,
) -> Result<Vec<StoredReport>, Error> {
    Ok(sqlx::query_as(
        "SELECT DISTINCT ON (name) report_id, seq, body, created_ms FROM model_version_reports \
         WHERE model_key = $1 AND version = $2 ORDER BY name, seq DESC",
    )
    .bind(model_key)
    .bind(version)
    .fetch_all(db)
    .await?)
}

/// Approves a version; `false` where that person did already. An approval under an unproven name becomes one
/// of the principal.
pub(crate) async fn approval_add(
    db: &mut PgConnection,
    (model_key, version): (i64, i32),
    approval: &Approval,
) -> Result<bool, Error> {
    let added = sqlx::query(
        "INSERT INTO model_version_approvals AS known (model_key, version, approver, comment, created_ms, \
         authenticated) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (model_key, version, approver) DO UPDATE \
           SET comment = excluded.comment, created_ms = excluded.created_ms, authenticated = TRUE \
           WHERE excluded.authenticated AND NOT known.authenticated",
    )
    .bind(model_key)
    .bind(version)
    .bind(&approval.approver)
    .bind(&approval.comment)
    .bind(approval.created_ms)
    .bind(approval.authenticated)
    .execute(db)
    .await?;
    Ok(added.rows_affected() == 1)
}

/// Withdraws an approval; `false` where there was none.
pub(crate) async fn approval_delete(
    db: &mut PgConnection,
    (model_key, version): (i64, i32),
    approver: &str,
) -> Result<bool, Error> {
    let removed = sqlx::query(
        "DELETE FROM model_version_approvals WHERE model_key = $1 AND version = $2 AND approver = $3",
    )
    .bind(model_key)
    .bind(version)
    .bind(approver)
    .execute(db)
    .await?;
    Ok(removed.rows_affected() == 1)
}

/// Who approved a version, by name, after the given one.
pub(crate) async fn approvals(
    db: &mut PgConnection,
    (model_key, version): (i64, i32),
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Approval>, Error> {
    Ok(sqlx::query_as(
        "SELECT approver, comment, created_ms, authenticated FROM model_version_approvals \
         WHERE model_key = $1 AND version = $2 AND ($3::TEXT IS NULL OR approver > $3) ORDER BY approver \
         LIMIT $4",
    )
    .bind(model_key)
    .bind(version)
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await?)
}
