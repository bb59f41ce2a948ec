//! What the paths of the artifact proxy hold.

use sqlx::PgConnection;

use super::blobs;
use crate::error::Error;

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Artifact {
    pub(crate) path: String,
    pub(crate) blob_key: String,
    pub(crate) size_bytes: i64,
    pub(crate) sha256: String,
}

/// A path of the proxy, seen from a directory above it.
pub(crate) fn within<'path>(root: &str, path: &'path str) -> &'path str {
    path.strip_prefix(root).map_or(path, |rest| rest.trim_start_matches('/'))
}

/// A line of a listing: a file, or a directory without a size.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) size_bytes: Option<i64>,
}

/// The file at that path.
pub(crate) async fn artifact_get(db: &mut PgConnection, path: &str) -> Result<Option<Artifact>, Error> {
    Ok(sqlx::query_as("SELECT path, blob_key, size_bytes, sha256 FROM artifacts WHERE path = $1")
        .bind(path)
        .fetch_optional(db)
        .await?)
}

/// Puts a file at its path and deletes what was there.
pub(crate) async fn artifact_put(
    db: &mut PgConnection,
    artifact: &Artifact,
    now_ms: i64,
) -> Result<(), Error> {
    // By the statement itself: a look before it would miss what another upload puts there meanwhile.
    let replaced: Option<String> = sqlx::query_scalar(
        "INSERT INTO artifacts AS a (path, blob_key, size_bytes, sha256, updated_ms) \
         VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (path) DO UPDATE SET replaced_key = a.blob_key, blob_key = excluded.blob_key, \
           size_bytes = excluded.size_bytes, sha256 = excluded.sha256, updated_ms = excluded.updated_ms \
         RETURNING replaced_key",
    )
    .bind(&artifact.path)
    .bind(&artifact.blob_key)
    .bind(artifact.size_bytes)
    .bind(&artifact.sha256)
    .bind(now_ms)
    .fetch_one(&mut *db)
    .await?;
    match replaced {
        Some(old) => blobs::blobs_release(db, &[old], now_ms).await,
        None => Ok(()),
    }
}

/// What a directory holds, by name. The empty path is the root.
pub(crate) async fn artifact_list(db: &mut PgConnection, directory: &str) -> Result<Vec<Entry>, Error> {
    let (from, to) = range_under(directory);
    Ok(sqlx::query_as(
        "SELECT split_part(substr(path, $3), '/', 1) AS name, \
           max(size_bytes) FILTER (WHERE strpos(substr(path, $3), '/') = 0) AS size_bytes \
         FROM artifacts WHERE path >= $1 AND path < $2 GROUP BY 1 ORDER BY 1",
    )
    .bind(&from)
    .bind(&to)
    .bind(i32::try_from(from.chars().count()).unwrap_or(i32::MAX).saturating_add(1))
    .fetch_all(db)
    .await?)
}

/// [`artifact_list`] of the files alone that versions of these models pin.
pub(crate) async fn artifact_list_pinned(
    db: &mut PgConnection,
    directory: &str,
    models: &[String],
) -> Result<Vec<Entry>, Error> {
    let (from, to) = range_under(directory);
    Ok(sqlx::query_as(
        "SELECT split_part(substr(f.artifact_path, $3), '/', 1) AS name, \
           max(f.size_bytes) FILTER (WHERE strpos(substr(f.artifact_path, $3), '/') = 0) AS size_bytes \
         FROM model_version_files f JOIN registered_models m USING (model_key) \
         WHERE f.artifact_path >= $1 AND f.artifact_path < $2 AND m.name = ANY($4) GROUP BY 1 ORDER BY 1",
    )
    .bind(&from)
    .bind(&to)
    .bind(i32::try_from(from.chars().count()).unwrap_or(i32::MAX).saturating_add(1))
    .bind(models)
    .fetch_all(db)
    .await?)
}

/// Whether files lie under a path.
pub(crate) async fn artifact_is_directory(db: &mut PgConnection, path: &str) -> Result<bool, Error> {
    let (from, to) = range_under(path);
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM artifacts WHERE path >= $1 AND path < $2)")
        .bind(from)
        .bind(to)
        .fetch_one(db)
        .await?)
}

/// Every file under a directory, in the order of their paths.
pub(crate) async fn artifact_tree(
    db: &mut PgConnection,
    directory: &str,
    limit: i64,
) -> Result<Vec<Artifact>, Error> {
    let (from, to) = range_under(directory);
    Ok(sqlx::query_as(
        "SELECT path, blob_key, size_bytes, sha256 FROM artifacts WHERE path >= $1 AND path < $2 \
         ORDER BY path LIMIT $3",
    )
    .bind(from)
    .bind(to)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Removes a file, or everything under a directory; says how many files.
pub(crate) async fn artifact_delete(db: &mut PgConnection, path: &str, now_ms: i64) -> Result<usize, Error> {
    let (from, to) = range_under(path);
    let removed: Vec<String> = sqlx::query_scalar(
        "DELETE FROM artifacts WHERE path = $1 OR (path >= $2 AND path < $3) RETURNING blob_key",
    )
    .bind(path)
    .bind(from)
    .bind(to)
    .fetch_all(&mut *db)
    .await?;
    if !removed.is_empty() {
        blobs::blobs_release(db, &removed, now_ms).await?;
    }
    Ok(removed.len())
}

/// Holds the run's or logged model's directory against registration (`shared`) or against uploads, until the
/// transaction ends.
pub(crate) async fn artifact_lock(db: &mut PgConnection, path: &str, shared: bool) -> Result<(), Error> {
    let statement = if shared {
        "SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))"
    } else {
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
    };
    sqlx::query(statement).bind(lock_root(path)).execute(db).await?;
    Ok(())
}

/// The version, as model and number, that pins this path: one of its files, or a place within its directory.
/// A version made from a run's whole artifact directory pins its files only, since the run goes on logging.
pub(crate) async fn artifact_pinned_by(
    db: &mut PgConnection,
    path: &str,
) -> Result<Option<(String, i32)>, Error> {
    let ancestors: Vec<&str> = path.match_indices('/').map(|(end, _)| &path[..end]).chain([path]).collect();
    let (from, to) = range_under(path);
    Ok(sqlx::query_as(
        "SELECT m.name, p.version FROM ( \
           SELECT model_key, version FROM model_versions WHERE artifact_root = ANY($1) \
             AND (artifact_root !~ '^[^/]+/[^/]+/artifacts$') \
           UNION ALL SELECT model_key, version FROM model_version_files \
             WHERE artifact_path = $2 OR (artifact_path >= $3 AND artifact_path < $4)) p \
         JOIN registered_models m USING (model_key) LIMIT 1",
    )
    .bind(ancestors)
    .bind(path)
    .bind(from)
    .bind(to)
    .fetch_optional(db)
    .await?)
}

/// All paths under a directory lie between these: '0' is the character after '/'.
fn range_under(directory: &str) -> (String, String) {
    if directory.is_empty() {
        return (String::new(), "\u{10FFFF}".to_owned());
    }
    (format!("{directory}/"), format!("{directory}0"))
}

/// `<experiment>/<run>` or `<experiment>/models/<model>`.
fn lock_root(path: &str) -> String {
    let mut segments = path.split('/');
    let (first, second) = (segments.next().unwrap_or(""), segments.next().unwrap_or(""));
    if second == "models" {
        format!("{first}/models/{}", segments.next().unwrap_or(""))
    } else {
        format!("{first}/{second}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lock_covers_a_run_or_a_logged_model() {
        assert_eq!(lock_root("1/abc/artifacts/a/b"), "1/abc");
        assert_eq!(lock_root("1/models/m-1/artifacts/MLmodel"), "1/models/m-1");
        assert_eq!(range_under("a"), ("a/".to_owned(), "a0".to_owned()));
    }
}
