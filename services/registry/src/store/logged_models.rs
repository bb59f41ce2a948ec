//! Logged models: what a run brought forth, before it is registered.

use slipway_domain::registry::filter::{Clause, Key, Order};
use slipway_service_kit::db::is_duplicate;
use sqlx::types::Json;
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::search::DatasetKey;
use super::{Pair, Pairs, columns, search};
use crate::access::caller::{current_actor, proven};
use crate::access::links::{LoggedModelLink, RunLink};
use crate::error::{Error, Thing};
use crate::store::tags::{VERSIONS_TAG, versions_text};

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct LoggedModel {
    pub(crate) model_id: String,
    pub(crate) experiment_id: i64,
    pub(crate) name: String,
    pub(crate) artifact_uri: String,
    pub(crate) status: String,
    pub(crate) model_type: String,
    pub(crate) source_run_id: Option<String>,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) params: Pairs,
    pub(crate) tags: Pairs,
    pub(crate) metrics: Json<Vec<ModelMetric>>,
    pub(crate) registrations: Pairs,
}

#[derive(Debug, serde::Deserialize)]
pub(crate) struct ModelMetric {
    pub(crate) key: String,
    /// Text, since JSON has no NaN.
    pub(crate) value: String,
    pub(crate) at_ms: i64,
    pub(crate) step: i64,
    pub(crate) run_id: String,
    pub(crate) dataset_name: Option<String>,
    pub(crate) dataset_digest: Option<String>,
}

/// A logged model to be made.
#[derive(Debug)]
pub(crate) struct NewLoggedModel<'model> {
    pub(crate) model_id: &'model str,
    pub(crate) experiment_id: i64,
    pub(crate) name: &'model str,
    pub(crate) artifact_uri: &'model str,
    pub(crate) model_type: &'model str,
    pub(crate) source_run: Option<&'model RunLink>,
}

const SELECT: &str = "SELECT l.model_id, l.experiment_id, l.name, l.artifact_uri, l.status, l.model_type, \
    l.source_run_id, \
    l.created_ms, l.updated_ms, \
    coalesce((SELECT json_agg(json_build_array(x.key, x.value) ORDER BY x.key) FROM logged_model_params x \
      WHERE x.model_id = l.model_id), '[]') AS params, \
    coalesce((SELECT json_agg(json_build_array(x.key, x.value) ORDER BY x.key) FROM logged_model_tags x \
      WHERE x.model_id = l.model_id), '[]') AS tags, \
    coalesce((SELECT json_agg(json_build_object('key', x.key, 'value', x.value::TEXT, 'at_ms', x.at_ms, \
    'step', x.step, \
      'run_id', r.run_id, 'dataset_name', x.dataset_name, 'dataset_digest', x.dataset_digest) \
      ORDER BY x.key, x.step, x.at_ms) \
      FROM logged_model_metrics x JOIN runs r USING (run_key) \
      WHERE x.model_id = l.model_id), '[]') AS metrics, \
    coalesce((SELECT json_agg(json_build_array(m.name, v.version::TEXT) ORDER BY m.name, v.version) \
    FROM model_versions v \
      JOIN registered_models m USING (model_key) WHERE v.logged_model_id = l.model_id), \
      '[]') AS registrations \
    FROM logged_models l";

/// Makes a logged model, pending until its files are there.
pub(crate) async fn logged_model_create(
    db: &mut PgConnection,
    model: &NewLoggedModel<'_>,
    params: &[Pair],
    tags: &[Pair],
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO logged_models (model_id, experiment_id, name, artifact_uri, status, model_type, \
         source_run_id, \
         created_ms, updated_ms, created_by) VALUES ($1, $2, $3, $4, 'LOGGED_MODEL_PENDING', $5, $6, $7, $7, \
         $8)",
    )
    .bind(model.model_id)
    .bind(model.experiment_id)
    .bind(model.name)
    .bind(model.artifact_uri)
    .bind(model.model_type)
    .bind(model.source_run.map(RunLink::run_id))
    .bind(now_ms)
    .bind(proven(&current_actor()))
    .execute(&mut *db)
    .await
    .map_err(|error| match is_duplicate(&error) {
        true => Error::Exists(Thing::LoggedModel(model.model_id.to_owned())),
        false => error.into(),
    })?;
    logged_model_params_add(db, model.model_id, params).await?;
    logged_model_tags_set(db, model.model_id, tags).await
}

/// The logged model of that id.
pub(crate) async fn logged_model_get(db: &mut PgConnection, model_id: &str) -> Result<LoggedModel, Error> {
    logged_model_find(db, model_id, false).await
}

/// The logged model of that id; with `deleted` also a deleted one.
pub(crate) async fn logged_model_find(
    db: &mut PgConnection,
    model_id: &str,
    deleted: bool,
) -> Result<LoggedModel, Error> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" WHERE (l.deleted_ms IS NULL OR ").push_bind(deleted).push(") AND l.model_id = ");
    query.push_bind(model_id);
    query.build_query_as().fetch_optional(db).await?.ok_or_else(|| absent(model_id))
}

fn absent(model_id: &str) -> Error {
    Error::NotFound(Thing::LoggedModel(model_id.to_owned()))
}

/// Sets status or just the time of the last change.
pub(crate) async fn logged_model_touch(
    db: &mut PgConnection,
    model_id: &str,
    status: Option<&str>,
    now_ms: i64,
) -> Result<(), Error> {
    let touched = sqlx::query(
        "UPDATE logged_models SET status = coalesce($2, status), updated_ms = $3 \
         WHERE model_id = $1 AND deleted_ms IS NULL",
    )
    .bind(model_id)
    .bind(status)
    .bind(now_ms)
    .execute(db)
    .await?;
    if touched.rows_affected() == 1 { Ok(()) } else { Err(absent(model_id)) }
}

/// Deletes a logged model; its files and the versions made from it stay. `false` where it was deleted before.
pub(crate) async fn logged_model_delete(
    db: &mut PgConnection,
    model_id: &str,
    now_ms: i64,
) -> Result<bool, Error> {
    let deleted: Option<bool> = sqlx::query_scalar(
        "WITH before AS (SELECT deleted_ms FROM logged_models WHERE model_id = $1 FOR UPDATE) \
         UPDATE logged_models l SET deleted_ms = coalesce(l.deleted_ms, $2) FROM before WHERE model_id = $1 \
         RETURNING before.deleted_ms IS NULL",
    )
    .bind(model_id)
    .bind(now_ms)
    .fetch_optional(db)
    .await?;
    deleted.ok_or_else(|| absent(model_id))
}

/// Adds params; one that is there stays as it is.
pub(crate) async fn logged_model_params_add(
    db: &mut PgConnection,
    model_id: &str,
    params: &[Pair],
) -> Result<(), Error> {
    let (keys, values) = columns(params);
    sqlx::query(
        "INSERT INTO logged_model_params (model_id, key, value) SELECT $1, * \
         FROM UNNEST($2::TEXT[], $3::TEXT[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(model_id)
    .bind(keys)
    .bind(values)
    .execute(db)
    .await?;
    Ok(())
}

/// Sets tags.
pub(crate) async fn logged_model_tags_set(
    db: &mut PgConnection,
    model_id: &str,
    tags: &[Pair],
) -> Result<(), Error> {
    let (keys, values) = columns(tags);
    sqlx::query(
        "INSERT INTO logged_model_tags (model_id, key, value) SELECT $1, * \
         FROM UNNEST($2::TEXT[], $3::TEXT[]) \
         ON CONFLICT (model_id, key) DO UPDATE SET value = excluded.value",
    )
    .bind(model_id)
    .bind(keys)
    .bind(values)
    .execute(db)
    .await?;
    Ok(())
}

/// Removes a tag; `false` where there was none.
pub(crate) async fn logged_model_tag_delete(
    db: &mut PgConnection,
    model_id: &str,
    key: &str,
) -> Result<bool, Error> {
    let removed = sqlx::query("DELETE FROM logged_model_tags WHERE model_id = $1 AND key = $2")
        .bind(model_id)
        .bind(key)
        .execute(db)
        .await?;
    Ok(removed.rows_affected() == 1)
}

/// Notes a version in the tag where clients look for it.
pub(crate) async fn logged_model_add_version(
    db: &mut PgConnection,
    model: &LoggedModelLink,
    name: &str,
    version: i32,
) -> Result<(), Error> {
    let model_id = model.model_id();
    let current: Option<String> =
        sqlx::query_scalar("SELECT value FROM logged_model_tags WHERE model_id = $1 AND key = $2 FOR UPDATE")
            .bind(model_id)
            .bind(VERSIONS_TAG)
            .fetch_optional(&mut *db)
            .await?;
    let mut versions: Vec<serde_json::Value> =
        current.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    versions.push(serde_json::json!({"name": name, "version": version}));
    let tag = [(VERSIONS_TAG.to_owned(), versions_text(&versions))];
    logged_model_tags_set(db, model_id, &tag).await
}

/// What a search of logged models asks for.
#[derive(Debug)]
pub(crate) struct ModelSearch<'search> {
    pub(crate) experiment_ids: &'search [i64],
    /// Metrics are looked for on these; on any where there are none.
    pub(crate) datasets: &'search [DatasetKey],
    pub(crate) clauses: &'search [Clause],
    pub(crate) orders: &'search [Order],
    /// For each order the dataset that its metric is about.
    pub(crate) order_datasets: &'search [Option<DatasetKey>],
}

/// A page of logged models.
pub(crate) async fn logged_model_search(
    db: &mut PgConnection,
    asked: &ModelSearch<'_>,
    (limit, offset): (i64, i64),
) -> Result<Vec<LoggedModel>, Error> {
    let shape = &search::LOGGED_MODELS;
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    shape.push_order_joins_on(&mut query, asked.orders, asked.order_datasets);
    query
        .push(" WHERE l.deleted_ms IS NULL AND l.experiment_id = ANY(")
        .push_bind(asked.experiment_ids.to_vec())
        .push(")");
    if asked.datasets.is_empty() {
        shape.push_filter(&mut query, asked.clauses);
    } else {
        let is_metric = |clause: &&Clause| matches!(clause.key, Key::Metric(_));
        let (metrics, others): (Vec<&Clause>, Vec<&Clause>) = asked.clauses.iter().partition(is_metric);
        let others: Vec<Clause> = others.into_iter().cloned().collect();
        shape.push_filter(&mut query, &others);
        if metrics.is_empty() {
            push_metric_on(&mut query, asked.datasets, None);
        }
        for clause in metrics {
            push_metric_on(&mut query, asked.datasets, Some(clause));
        }
    }
    shape.push_order(&mut query, asked.orders);
    query.push(" LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// Adds ` AND …`: there is a metric on one of the datasets, and the clause holds for it.
fn push_metric_on(query: &mut QueryBuilder<Postgres>, datasets: &[DatasetKey], clause: Option<&Clause>) {
    query.push(" AND EXISTS (SELECT 1 FROM logged_model_metrics x WHERE x.model_id = l.model_id");
    if let Some(clause) = clause
        && let Key::Metric(key) = &clause.key
    {
        query.push(" AND x.key = ").push_bind(key.clone()).push(" AND x.value <> 'NaN'");
        search::push_values(query, "x.value", std::slice::from_ref(clause));
    }
    query.push(" AND (FALSE");
    for dataset in datasets {
        query.push(" OR ");
        dataset.push(query);
    }
    query.push("))");
}
