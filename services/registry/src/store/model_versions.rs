//! Model versions and their manifests.

use slipway_domain::access::Visible;
use slipway_domain::registry::filter::{Clause, Order};
use slipway_service_kit::db::is_duplicate;
use sqlx::types::Json;
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::artifacts::Artifact;
use super::facts::Facts;
use super::registered_models::absent as model_absent;
use super::{Pair, Pairs, blobs, columns, search};
use crate::access::caller::{current_actor, proven};
use crate::access::links::{LoggedModelLink, RunLink};
use crate::error::{Error, Thing};

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct ModelVersion {
    pub(crate) model_key: i64,
    pub(crate) name: String,
    pub(crate) version: i32,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) stage: String,
    pub(crate) description: Option<String>,
    pub(crate) source: String,
    pub(crate) download_uri: String,
    pub(crate) run_id: Option<String>,
    /// Experiment of that run when the version's link to it was authorised; `None` for one that was not.
    pub(crate) run_experiment_id: Option<i64>,
    pub(crate) run_link: Option<String>,
    pub(crate) logged_model_id: Option<String>,
    pub(crate) status: String,
    pub(crate) digest: String,
    pub(crate) servable: bool,
    pub(crate) facts: Json<Facts>,
    pub(crate) tags: Pairs,
    pub(crate) aliases: Vec<String>,
}

/// A version of a model, as a client names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VersionName<'name> {
    pub(crate) model: &'name str,
    pub(crate) version: i32,
}

/// A file of a version, pinned.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct VersionFile {
    pub(crate) path: String,
    pub(crate) artifact_path: String,
    pub(crate) blob_key: String,
    pub(crate) size_bytes: i64,
    pub(crate) sha256: String,
}

impl VersionFile {
    /// The file at the place where it was logged.
    pub(crate) fn into_artifact(self) -> Artifact {
        Artifact {
            path: self.artifact_path,
            blob_key: self.blob_key,
            size_bytes: self.size_bytes,
            sha256: self.sha256,
        }
    }

    /// As signatures see it.
    pub(crate) fn signed_as(&self) -> slipway_model_signing::File<'_> {
        slipway_model_signing::File {
            path: &self.path,
            sha256: &self.sha256,
            size_bytes: self.size_bytes.unsigned_abs(),
        }
    }
}

/// A version to be made.
#[derive(Debug)]
pub(crate) struct NewVersion<'version> {
    pub(crate) description: Option<&'version str>,
    pub(crate) source: &'version str,
    pub(crate) download_uri: &'version str,
    pub(crate) run: Option<&'version RunLink>,
    pub(crate) run_link: Option<&'version str>,
    pub(crate) logged_model: Option<&'version LoggedModelLink>,
    pub(crate) artifact_root: Option<&'version str>,
    pub(crate) digest: &'version str,
    pub(crate) servable: bool,
    pub(crate) facts: &'version Facts,
    pub(crate) files: &'version [VersionFile],
    pub(crate) tags: &'version [Pair],
    /// The number it has to have; the next one where absent.
    pub(crate) version: Option<i32>,
}

const SELECT: &str = "SELECT v.model_key, m.name, v.version, v.created_ms, v.updated_ms, v.stage, \
    v.description, v.source, \
    v.download_uri, v.run_id, v.run_experiment_id, v.run_link, v.logged_model_id, v.status, v.digest, \
    v.servable, v.facts, \
    coalesce((SELECT json_agg(json_build_array(t.key, t.value) ORDER BY t.key) FROM model_version_tags t \
      WHERE t.model_key = v.model_key AND t.version = v.version), '[]') AS tags, \
    ARRAY(SELECT a.alias FROM model_aliases a WHERE a.model_key = v.model_key AND a.version = v.version \
    ORDER BY 1) AS aliases \
    FROM model_versions v JOIN registered_models m USING (model_key)";

/// There is no such version.
pub(crate) fn absent(name: &str, version: impl std::fmt::Display) -> Error {
    Error::NotFound(Thing::Version { model: name.to_owned(), version: version.to_string() })
}

/// Makes a version of a model, whose row is held from then on.
pub(crate) async fn version_create(
    db: &mut PgConnection,
    name: &str,
    new: &NewVersion<'_>,
    now_ms: i64,
) -> Result<ModelVersion, Error> {
    let made: Option<(i64, i32)> = sqlx::query_as(
        "WITH next AS (UPDATE registered_models SET updated_ms = $2, \
             last_version = greatest(last_version, coalesce($13, last_version + 1)) \
           WHERE name = $1 RETURNING model_key, coalesce($13, last_version) AS version) \
         INSERT INTO model_versions (model_key, version, created_ms, updated_ms, description, source, \
         download_uri, run_id, \
           run_link, logged_model_id, status, artifact_root, digest, servable, facts, created_by, \
           run_experiment_id) \
         SELECT model_key, version, $2, $2, $3, $4, $5, $6, $7, $8, 'READY', $9, $10, $11, $12, $14, $15 \
         FROM next \
         RETURNING model_key, version",
    )
    .bind(name)
    .bind(now_ms)
    .bind(new.description)
    .bind(new.source)
    .bind(new.download_uri)
    .bind(new.run.map(RunLink::run_id))
    .bind(new.run_link)
    .bind(new.logged_model.map(LoggedModelLink::model_id))
    .bind(new.artifact_root)
    .bind(new.digest)
    .bind(new.servable)
    .bind(Json(new.facts))
    .bind(new.version)
    .bind(proven(&current_actor()))
    .bind(new.run.and_then(RunLink::experiment_id))
    .fetch_optional(&mut *db)
    .await
    .map_err(|error| match (is_duplicate(&error), new.version) {
        (true, Some(version)) => {
            Error::Exists(Thing::Version { model: name.to_owned(), version: version.to_string() })
        }
        _ => error.into(),
    })?;
    let (model_key, version) = made.ok_or_else(|| model_absent(name))?;
    if !new.files.is_empty() {
        version_files_put(db, model_key, version, new.files).await?;
    }
    if !new.tags.is_empty() {
        version_tags_set(db, model_key, version, new.tags).await?;
    }
    Ok(ModelVersion::fresh((model_key, name, version), new, now_ms))
}

async fn version_files_put(
    db: &mut PgConnection,
    model_key: i64,
    version: i32,
    files: &[VersionFile],
) -> Result<(), Error> {
    let column = |field: fn(&VersionFile) -> &str| files.iter().map(field).collect::<Vec<&str>>();
    let sizes: Vec<i64> = files.iter().map(|file| file.size_bytes).collect();
    sqlx::query(
        "INSERT INTO model_version_files (model_key, version, path, artifact_path, blob_key, sha256, \
         size_bytes) \
         SELECT $1, $2, * FROM UNNEST($3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::BIGINT[])",
    )
    .bind(model_key)
    .bind(version)
    .bind(column(|file| &file.path))
    .bind(column(|file| &file.artifact_path))
    .bind(column(|file| &file.blob_key))
    .bind(column(|file| &file.sha256))
    .bind(sizes)
    .execute(db)
    .await?;
    Ok(())
}

impl ModelVersion {
    /// A version that was made just now.
    fn fresh((model_key, name, version): (i64, &str, i32), new: &NewVersion<'_>, now_ms: i64) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let (keys, values) = columns(new.tags);
        let tags = keys.into_iter().zip(values).map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self {
            model_key,
            name: name.to_owned(),
            version,
            created_ms: now_ms,
            updated_ms: now_ms,
            stage: "None".to_owned(),
            description: owned(new.description),
            source: new.source.to_owned(),
            download_uri: new.download_uri.to_owned(),
            run_id: owned(new.run.map(RunLink::run_id)),
            run_experiment_id: new.run.and_then(RunLink::experiment_id),
            run_link: owned(new.run_link),
            logged_model_id: owned(new.logged_model.map(LoggedModelLink::model_id)),
            status: "READY".to_owned(),
            digest: new.digest.to_owned(),
            servable: new.servable,
            facts: Json(new.facts.clone()),
            tags: Json(tags.collect()),
            aliases: Vec::new(),
        }
    }
}

/// That version of that model.
pub(crate) async fn version_get(
    db: &mut PgConnection,
    name: &str,
    version: i32,
) -> Result<ModelVersion, Error> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" WHERE m.name = ").push_bind(name).push(" AND v.version = ").push_bind(version);
    query.build_query_as().fetch_optional(db).await?.ok_or_else(|| absent(name, version))
}

/// Whether that version exists, for a change of a model whose row the caller holds.
pub(crate) async fn version_require(
    db: &mut PgConnection,
    model_key: i64,
    name: &str,
    version: i32,
) -> Result<(), Error> {
    let found: Option<i32> =
        sqlx::query_scalar("SELECT version FROM model_versions WHERE model_key = $1 AND version = $2")
            .bind(model_key)
            .bind(version)
            .fetch_optional(db)
            .await?;
    found.map(drop).ok_or_else(|| absent(name, version))
}

/// Keeps a version from being deleted until the transaction ends. One that is gone has no files any more.
pub(crate) async fn version_lock(db: &mut PgConnection, model_key: i64, version: i32) -> Result<(), Error> {
    sqlx::query("SELECT version FROM model_versions WHERE model_key = $1 AND version = $2 FOR SHARE")
        .bind(model_key)
        .bind(version)
        .execute(db)
        .await?;
    Ok(())
}

/// The files of a version, by path.
pub(crate) async fn version_files(
    db: &mut PgConnection,
    model_key: i64,
    version: i32,
) -> Result<Vec<VersionFile>, Error> {
    Ok(sqlx::query_as(
        "SELECT path, artifact_path, blob_key, size_bytes, sha256 FROM model_version_files \
         WHERE model_key = $1 AND version = $2 ORDER BY path",
    )
    .bind(model_key)
    .bind(version)
    .fetch_all(db)
    .await?)
}

/// One file of a version, by its path within the version.
pub(crate) async fn version_file(
    db: &mut PgConnection,
    model_key: i64,
    version: i32,
    path: &str,
) -> Result<Option<VersionFile>, Error> {
    Ok(sqlx::query_as(
        "SELECT path, artifact_path, blob_key, size_bytes, sha256 FROM model_version_files \
         WHERE model_key = $1 AND version = $2 AND path = $3",
    )
    .bind(model_key)
    .bind(version)
    .bind(path)
    .fetch_optional(db)
    .await?)
}

/// A page of versions.
pub(crate) async fn version_search(
    db: &mut PgConnection,
    visible: &Visible<String>,
    (clauses, orders): (&[Clause], &[Order]),
    (limit, offset): (i64, i64),
) -> Result<Vec<ModelVersion>, Error> {
    let shape = &search::MODEL_VERSIONS;
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    shape.push_order_joins(&mut query, orders);
    query.push(" WHERE TRUE");
    search::push_visible(&mut query, "m.name", visible);
    shape.push_filter(&mut query, clauses);
    shape.push_order(&mut query, orders);
    query.push(" LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// A page of a model's versions, the newest first, below the given one.
pub(crate) async fn version_list(
    db: &mut PgConnection,
    model_key: i64,
    below: Option<i32>,
    limit: i64,
) -> Result<Vec<ModelVersion>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" WHERE v.model_key = ").push_bind(model_key);
    if let Some(below) = below {
        query.push(" AND v.version < ").push_bind(below);
    }
    query.push(" ORDER BY v.version DESC LIMIT ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// The newest version of each stage, of each of these models.
pub(crate) async fn versions_latest(
    db: &mut PgConnection,
    model_keys: &[i64],
) -> Result<Vec<ModelVersion>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(
        " WHERE (v.model_key, v.version) IN (SELECT model_key, max(version) FROM model_versions \
        WHERE model_key = ANY(",
    );
    query.push_bind(model_keys.to_vec());
    query.push(") GROUP BY model_key, stage) ORDER BY v.model_key, v.version");
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// Versions with files of their own that an older revision of the inspection looked at, those first that
/// cannot be served.
pub(crate) async fn versions_outdated(
    db: &mut PgConnection,
    revision: u32,
    limit: i64,
) -> Result<Vec<ModelVersion>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" WHERE v.artifact_root IS NOT NULL AND coalesce((v.facts->>'inspection')::BIGINT, 0) < ");
    query.push_bind(i64::from(revision));
    query.push(" ORDER BY v.servable, v.created_ms DESC LIMIT ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// What is known of a version, which is held until the transaction ends; `None` where it is gone.
pub(crate) async fn version_hold(
    db: &mut PgConnection,
    (model_key, version): (i64, i32),
) -> Result<Option<Facts>, Error> {
    let found: Option<Json<Facts>> = sqlx::query_scalar(
        "SELECT facts FROM model_versions WHERE model_key = $1 AND version = $2 FOR UPDATE",
    )
    .bind(model_key)
    .bind(version)
    .fetch_optional(db)
    .await?;
    Ok(found.map(|Json(facts)| facts))
}

/// Stores what was found when a version was inspected again.
pub(crate) async fn version_reinspected(
    db: &mut PgConnection,
    (model_key, version): (i64, i32),
    (facts, servable): (&Facts, bool),
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE model_versions SET facts = $3, servable = $4, \
           updated_ms = CASE WHEN servable = $4 THEN updated_ms ELSE $5 END WHERE model_key = $1 \
           AND version = $2",
    )
    .bind(model_key)
    .bind(version)
    .bind(Json(facts))
    .bind(servable)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// Changes description and stage as far as given.
pub(crate) async fn version_update(
    db: &mut PgConnection,
    model_key: i64,
    version: i32,
    (description, stage): (Option<&str>, Option<&str>),
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE model_versions SET description = coalesce($3, description), stage = coalesce($4, stage), \
         updated_ms = $5 \
         WHERE model_key = $1 AND version = $2",
    )
    .bind(model_key)
    .bind(version)
    .bind(description)
    .bind(stage)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// Archives all other versions of a stage.
pub(crate) async fn versions_archive(
    db: &mut PgConnection,
    model_key: i64,
    stage: &str,
    but: i32,
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE model_versions SET stage = 'Archived', updated_ms = $4 WHERE model_key = $1 AND stage = $2 \
         AND version <> $3",
    )
    .bind(model_key)
    .bind(stage)
    .bind(but)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// Removes a version; its number is not given again.
pub(crate) async fn version_delete(
    db: &mut PgConnection,
    model_key: i64,
    version: i32,
    now_ms: i64,
) -> Result<(), Error> {
    let files = version_files(&mut *db, model_key, version).await?;
    let blob_keys: Vec<String> = files.into_iter().map(|file| file.blob_key).collect();
    blobs::blobs_release(db, &blob_keys, now_ms).await?;
    sqlx::query("DELETE FROM model_versions WHERE model_key = $1 AND version = $2")
        .bind(model_key)
        .bind(version)
        .execute(db)
        .await?;
    Ok(())
}

/// Sets tags.
pub(crate) async fn version_tags_set(
    db: &mut PgConnection,
    model_key: i64,
    version: i32,
    tags: &[Pair],
) -> Result<(), Error> {
    let (keys, values) = columns(tags);
    sqlx::query(
        "INSERT INTO model_version_tags (model_key, version, key, value) \
         SELECT $1, $2, * FROM UNNEST($3::TEXT[], $4::TEXT[]) \
         ON CONFLICT (model_key, version, key) DO UPDATE SET value = excluded.value",
    )
    .bind(model_key)
    .bind(version)
    .bind(keys)
    .bind(values)
    .execute(db)
    .await?;
    Ok(())
}

/// Removes a tag, where there is one.
pub(crate) async fn version_tag_delete(
    db: &mut PgConnection,
    model_key: i64,
    version: i32,
    key: &str,
) -> Result<(), Error> {
    sqlx::query("DELETE FROM model_version_tags WHERE model_key = $1 AND version = $2 AND key = $3")
        .bind(model_key)
        .bind(version)
        .bind(key)
        .execute(db)
        .await?;
    Ok(())
}

/// The newest version of a model with this digest.
pub(crate) async fn version_of_digest(
    db: &mut PgConnection,
    model: &str,
    digest: &str,
) -> Result<Option<i32>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT max(v.version) FROM model_versions v JOIN registered_models m USING (model_key) \
         WHERE m.name = $1 AND v.digest = $2",
    )
    .bind(model)
    .bind(digest)
    .fetch_one(db)
    .await?)
}
