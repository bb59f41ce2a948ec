//! Registered models, their tags and aliases.

use slipway_domain::access::Visible;
use slipway_domain::registry::filter::{Clause, Order};
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::{Pair, Pairs, blobs, columns, search};
use crate::error::{Error, Thing};

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct RegisteredModel {
    pub(crate) model_key: i64,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) tags: Pairs,
    /// Alias and version.
    pub(crate) aliases: Pairs,
}

const SELECT: &str = "SELECT m.model_key, m.name, m.description, m.created_ms, m.updated_ms, \
    coalesce((SELECT json_agg(json_build_array(t.key, t.value) ORDER BY t.key) FROM registered_model_tags t \
      WHERE t.model_key = m.model_key), '[]') AS tags, \
    coalesce((SELECT json_agg(json_build_array(a.alias, a.version::TEXT) ORDER BY a.alias) \
    FROM model_aliases a \
      WHERE a.model_key = m.model_key), '[]') AS aliases FROM registered_models m";

/// The refusal for a model that is not there.
pub(crate) fn absent(name: &str) -> Error {
    Error::NotFound(Thing::Model(name.to_owned()))
}

/// Makes a registered model.
pub(crate) async fn model_create(
    db: &mut PgConnection,
    name: &str,
    description: Option<&str>,
    tags: &[Pair],
    now_ms: i64,
) -> Result<(), Error> {
    let made: Result<i64, sqlx::Error> = sqlx::query_scalar(
        "INSERT INTO registered_models (name, description, created_ms, updated_ms) VALUES ($1, $2, $3, $3) \
         RETURNING model_key",
    )
    .bind(name)
    .bind(description)
    .bind(now_ms)
    .fetch_one(&mut *db)
    .await;
    let model_key = match made {
        Err(error) if slipway_service_kit::db::is_duplicate(&error) => {
            return Err(Error::Exists(Thing::Model(name.to_owned())));
        }
        other => other?,
    };
    if tags.is_empty() { Ok(()) } else { model_tags_set(db, model_key, tags).await }
}

/// The model of that name.
pub(crate) async fn model_get(db: &mut PgConnection, name: &str) -> Result<RegisteredModel, Error> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" WHERE m.name = ").push_bind(name);
    query.build_query_as().fetch_optional(db).await?.ok_or_else(|| absent(name))
}

/// Key of the model of that name, held until the transaction ends, with the time of the change.
pub(crate) async fn model_touch(db: &mut PgConnection, name: &str, now_ms: i64) -> Result<i64, Error> {
    sqlx::query_scalar("UPDATE registered_models SET updated_ms = $2 WHERE name = $1 RETURNING model_key")
        .bind(name)
        .bind(now_ms)
        .fetch_optional(db)
        .await?
        .ok_or_else(|| absent(name))
}

/// Key of the model of that name, held until the transaction ends as it is.
pub(crate) async fn model_hold(db: &mut PgConnection, name: &str) -> Result<i64, Error> {
    sqlx::query_scalar("SELECT model_key FROM registered_models WHERE name = $1 FOR NO KEY UPDATE")
        .bind(name)
        .fetch_optional(db)
        .await?
        .ok_or_else(|| absent(name))
}

/// A model that an alias is to be set of, its row held until the transaction ends.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct AliasTarget {
    pub(crate) model_key: i64,
    /// The version that the alias is to point at exists.
    pub(crate) exists: bool,
    /// A policy guards the alias.
    pub(crate) guarded: bool,
}

/// [`model_touch`], with what setting an alias has to know; `None` where there is no model of that name.
pub(crate) async fn alias_target(
    db: &mut PgConnection,
    name: &str,
    alias: &str,
    version: i32,
    now_ms: i64,
) -> Result<Option<AliasTarget>, Error> {
    Ok(sqlx::query_as(
        "UPDATE registered_models m SET updated_ms = $4 WHERE name = $1 RETURNING model_key, \
           EXISTS (SELECT FROM model_versions v WHERE v.model_key = m.model_key \
           AND v.version = $3) AS exists, \
           EXISTS (SELECT FROM alias_policies p WHERE p.model_key = m.model_key AND p.alias = $2) AS guarded",
    )
    .bind(name)
    .bind(alias)
    .bind(version)
    .bind(now_ms)
    .fetch_optional(db)
    .await?)
}

/// How often a model was renamed; 0 where it is gone.
pub(crate) async fn name_revision(db: &mut PgConnection, model_key: i64) -> Result<i32, Error> {
    let found: Option<i32> =
        sqlx::query_scalar("SELECT name_revision FROM registered_models WHERE model_key = $1")
            .bind(model_key)
            .fetch_optional(db)
            .await?;
    Ok(found.unwrap_or_default())
}

/// Whether there is a model of that name.
pub(crate) async fn model_require(db: &mut PgConnection, name: &str) -> Result<(), Error> {
    let found: Option<i64> = sqlx::query_scalar("SELECT model_key FROM registered_models WHERE name = $1")
        .bind(name)
        .fetch_optional(db)
        .await?;
    found.map(drop).ok_or_else(|| absent(name))
}

/// A page of models.
pub(crate) async fn model_search(
    db: &mut PgConnection,
    visible: &Visible<String>,
    (clauses, orders): (&[Clause], &[Order]),
    (limit, offset): (i64, i64),
) -> Result<Vec<RegisteredModel>, Error> {
    let shape = &search::REGISTERED_MODELS;
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    shape.push_order_joins(&mut query, orders);
    query.push(" WHERE TRUE");
    search::push_visible(&mut query, "m.name", visible);
    shape.push_filter(&mut query, clauses);
    shape.push_order(&mut query, orders);
    query.push(" LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// A page of models by name, behind the given one.
pub(crate) async fn model_list(
    db: &mut PgConnection,
    visible: &Visible<String>,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<RegisteredModel>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" WHERE TRUE");
    search::push_visible(&mut query, "m.name", visible);
    if let Some(after) = after {
        query.push(" AND m.name > ").push_bind(after);
    }
    query.push(" ORDER BY m.name LIMIT ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// Sets the description.
pub(crate) async fn model_describe(
    db: &mut PgConnection,
    model_key: i64,
    description: &str,
) -> Result<(), Error> {
    sqlx::query("UPDATE registered_models SET description = $2 WHERE model_key = $1")
        .bind(model_key)
        .bind(description)
        .execute(db)
        .await?;
    Ok(())
}

/// Gives a model and its versions another name.
pub(crate) async fn model_rename(
    db: &mut PgConnection,
    model_key: i64,
    name: &str,
    now_ms: i64,
) -> Result<(), Error> {
    let renamed = sqlx::query("UPDATE registered_models SET name = $2 WHERE model_key = $1")
        .bind(model_key)
        .bind(name)
        .execute(&mut *db)
        .await;
    if renamed.as_ref().is_err_and(slipway_service_kit::db::is_duplicate) {
        return Err(Error::Exists(Thing::Model(name.to_owned())));
    }
    renamed?;
    sqlx::query("UPDATE model_versions SET updated_ms = $2 WHERE model_key = $1")
        .bind(model_key)
        .bind(now_ms)
        .execute(db)
        .await?;
    Ok(())
}

/// Removes a model with its versions; answers with the numbers of these.
pub(crate) async fn model_delete(
    db: &mut PgConnection,
    model_key: i64,
    now_ms: i64,
) -> Result<Vec<i32>, Error> {
    let blob_keys: Vec<String> =
        sqlx::query_scalar("SELECT blob_key FROM model_version_files WHERE model_key = $1")
            .bind(model_key)
            .fetch_all(&mut *db)
            .await?;
    blobs::blobs_release(db, &blob_keys, now_ms).await?;
    let versions =
        sqlx::query_scalar("SELECT version FROM model_versions WHERE model_key = $1 ORDER BY version")
            .bind(model_key)
            .fetch_all(&mut *db)
            .await?;
    sqlx::query("DELETE FROM registered_models WHERE model_key = $1").bind(model_key).execute(db).await?;
    Ok(versions)
}

/// Sets tags.
pub(crate) async fn model_tags_set(
    db: &mut PgConnection,
    model_key: i64,
    tags: &[Pair],
) -> Result<(), Error> {
    let (keys, values) = columns(tags);
    sqlx::query(
        "INSERT INTO registered_model_tags (model_key, key, value) SELECT $1, * \
         FROM UNNEST($2::TEXT[], $3::TEXT[]) \
         ON CONFLICT (model_key, key) DO UPDATE SET value = excluded.value",
    )
    .bind(model_key)
    .bind(keys)
    .bind(values)
    .execute(db)
    .await?;
    Ok(())
}

/// Removes a tag, where there is one.
pub(crate) async fn model_tag_delete(db: &mut PgConnection, model_key: i64, key: &str) -> Result<(), Error> {
    sqlx::query("DELETE FROM registered_model_tags WHERE model_key = $1 AND key = $2")
        .bind(model_key)
        .bind(key)
        .execute(db)
        .await?;
    Ok(())
}

/// Points an alias at a version; `false` where it did so already. The model's row is held, so that two of
/// these follow one another.
pub(crate) async fn alias_set(
    db: &mut PgConnection,
    model_key: i64,
    alias: &str,
    version: i32,
) -> Result<bool, Error> {
    let changed = sqlx::query(
        "INSERT INTO model_aliases AS a (model_key, alias, version) VALUES ($1, $2, $3) \
         ON CONFLICT (model_key, alias) DO UPDATE SET version = excluded.version \
         WHERE a.version <> excluded.version",
    )
    .bind(model_key)
    .bind(alias)
    .bind(version)
    .execute(db)
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// Removes an alias; `false` where there was none.
pub(crate) async fn alias_delete(db: &mut PgConnection, model_key: i64, alias: &str) -> Result<bool, Error> {
    let removed = sqlx::query("DELETE FROM model_aliases WHERE model_key = $1 AND alias = $2")
        .bind(model_key)
        .bind(alias)
        .execute(db)
        .await?;
    Ok(removed.rows_affected() == 1)
}

/// The version that an alias points at, if any.
pub(crate) async fn alias_find(db: &mut PgConnection, name: &str, alias: &str) -> Result<Option<i32>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT a.version FROM model_aliases a JOIN registered_models m USING (model_key) WHERE m.name = $1 \
         AND a.alias = $2",
    )
    .bind(name)
    .bind(alias)
    .fetch_optional(db)
    .await?)
}

/// The version that an alias points at; that there is none is an error.
pub(crate) async fn alias_get(db: &mut PgConnection, name: &str, alias: &str) -> Result<i32, Error> {
    let found: Option<(i64, Option<i32>)> = sqlx::query_as(
        "SELECT m.model_key, a.version FROM registered_models m \
         LEFT JOIN model_aliases a ON a.model_key = m.model_key AND a.alias = $2 WHERE m.name = $1",
    )
    .bind(name)
    .bind(alias)
    .fetch_optional(db)
    .await?;
    match found {
        None => Err(absent(name)),
        Some((_, None)) => {
            Err(Error::NotFound(Thing::Alias { model: name.to_owned(), alias: alias.to_owned() }))
        }
        Some((_, Some(version))) => Ok(version),
    }
}
