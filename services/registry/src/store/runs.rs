//! Runs with their params and tags.

use std::collections::{BTreeMap, HashMap};

use slipway_domain::access::Visible;
use slipway_service_kit::db::is_duplicate;
use sqlx::types::Json;
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::search::push_visible;
use super::{Pair, columns};
use crate::error::{Error, Thing};
use crate::store::tags::{MODEL_HISTORY_TAG, RUN_NAME_TAG};

/// A run's own row.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct RunInfo {
    pub(crate) run_key: i64,
    pub(crate) run_id: String,
    pub(crate) experiment_id: i64,
    pub(crate) name: String,
    pub(crate) user_id: String,
    pub(crate) status: String,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: Option<i64>,
    pub(crate) artifact_uri: String,
    pub(crate) deleted_ms: Option<i64>,
}

/// A run with everything but its metric histories. Lists come as columns, which is the quickest way to read a
/// thousand.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Run {
    #[sqlx(flatten)]
    pub(crate) info: RunInfo,
    pub(crate) metric_keys: Vec<String>,
    pub(crate) metric_values: Vec<f64>,
    pub(crate) metric_times: Vec<i64>,
    pub(crate) metric_steps: Vec<i64>,
    pub(crate) param_keys: Vec<String>,
    pub(crate) param_values: Vec<String>,
    pub(crate) tag_keys: Vec<String>,
    pub(crate) tag_values: Vec<String>,
    pub(crate) dataset_inputs: Json<Vec<DatasetInput>>,
    pub(crate) model_inputs: Vec<String>,
    pub(crate) model_outputs: Json<Vec<(String, i64)>>,
}

/// A data set that a run took in.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct DatasetInput {
    #[serde(flatten)]
    pub(crate) dataset: Dataset,
    pub(crate) tags: std::collections::BTreeMap<String, String>,
}

/// A dataset, as it is stored.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
pub(crate) struct Dataset {
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) source_type: String,
    pub(crate) source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) profile: Option<String>,
}

/// A run to be made.
#[derive(Debug)]
pub(crate) struct NewRun<'run> {
    pub(crate) run_id: &'run str,
    pub(crate) experiment_id: i64,
    pub(crate) name: &'run str,
    /// As the client says.
    pub(crate) user_id: &'run str,
    /// The authenticated principal; `None` with access control off.
    pub(crate) created_by: Option<&'run str>,
    pub(crate) start_ms: i64,
    pub(crate) artifact_uri: String,
    pub(crate) tags: &'run [Pair],
}

macro_rules! info_columns {
    () => {
        "r.run_key, r.run_id, r.experiment_id, r.name, r.user_id, r.status, r.start_ms, r.end_ms, \
         r.artifact_uri, r.deleted_ms"
    };
}

/// Columns of [`RunInfo`].
pub(crate) const INFO_COLUMNS: &str = info_columns!();

const INFO: &str = concat!("SELECT ", info_columns!(), " FROM runs r");

const FULL: &str = concat!(
    "SELECT ",
    info_columns!(),
    ", m.metric_keys, m.metric_values, m.metric_times, m.metric_steps, \
    p.param_keys, p.param_values, t.tag_keys, t.tag_values, \
    coalesce((SELECT json_agg(json_build_object('name', d.name, 'digest', d.digest, 'source_type', \
    d.source_type, \
      'source', d.source, 'schema', d.schema, 'profile', d.profile, 'tags', i.tags) ORDER BY d.dataset_key) \
      FROM run_datasets i JOIN datasets d USING (dataset_key) \
      WHERE i.run_key = r.run_key), '[]') AS dataset_inputs, \
    ARRAY(SELECT i.model_id FROM run_model_inputs i WHERE i.run_key = r.run_key ORDER BY 1) AS model_inputs, \
    coalesce((SELECT json_agg(json_build_array(o.model_id, o.step) ORDER BY o.step, o.model_id) \
      FROM run_outputs o WHERE o.run_key = r.run_key), '[]') AS model_outputs \
  FROM runs r \
  LEFT JOIN LATERAL (SELECT coalesce(array_agg(x.key), '{}') AS metric_keys, coalesce(array_agg(x.value), \
  '{}') AS metric_values, \
    coalesce(array_agg(x.at_ms), '{}') AS metric_times, coalesce(array_agg(x.step), '{}') AS metric_steps \
    FROM latest_metrics x WHERE x.run_key = r.run_key) m ON TRUE \
  LEFT JOIN LATERAL (SELECT coalesce(array_agg(x.key), '{}') AS param_keys, coalesce(array_agg(x.value), \
  '{}') AS param_values \
    FROM run_params x WHERE x.run_key = r.run_key) p ON TRUE \
  LEFT JOIN LATERAL (SELECT coalesce(array_agg(x.key), '{}') AS tag_keys, coalesce(array_agg(x.value), \
  '{}') AS tag_values \
    FROM run_tags x WHERE x.run_key = r.run_key) t ON TRUE"
);

/// Makes runs with their tags; the key of each by its id.
pub(crate) async fn runs_create(
    db: &mut PgConnection,
    runs: &[&NewRun<'_>],
) -> Result<HashMap<String, i64>, Error> {
    let text = |field: for<'run> fn(&'run NewRun<'_>) -> &'run str| {
        runs.iter().map(|run| field(run)).collect::<Vec<&str>>()
    };
    let (mut owners, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for run in runs {
        let (of_run, set_to) = columns(run.tags);
        owners.extend(std::iter::repeat_n(run.run_id, of_run.len()));
        keys.extend(of_run);
        values.extend(set_to);
    }
    let made: Result<Vec<(String, i64)>, sqlx::Error> = sqlx::query_as(
        "WITH made AS (INSERT INTO runs (run_id, experiment_id, name, user_id, status, start_ms, \
         artifact_uri, created_by) \
           SELECT run_id, experiment_id, name, user_id, 'RUNNING', start_ms, artifact_uri, created_by \
           FROM UNNEST($1::TEXT[], $2::BIGINT[], $3::TEXT[], $4::TEXT[], $5::BIGINT[], $6::TEXT[], \
           $10::TEXT[]) \
             AS g (run_id, experiment_id, name, user_id, start_ms, artifact_uri, created_by) \
             RETURNING run_id, run_key), \
         tagged AS (INSERT INTO run_tags (run_key, key, value) SELECT made.run_key, t.key, t.value \
           FROM UNNEST($7::TEXT[], $8::TEXT[], $9::TEXT[]) AS t (run_id, key, value) JOIN made \
           USING (run_id)) \
         SELECT run_id, run_key FROM made",
    )
    .bind(text(|run| run.run_id))
    .bind(runs.iter().map(|run| run.experiment_id).collect::<Vec<i64>>())
    .bind(text(|run| run.name))
    .bind(text(|run| run.user_id))
    .bind(runs.iter().map(|run| run.start_ms).collect::<Vec<i64>>())
    .bind(text(|run| &run.artifact_uri))
    .bind(owners)
    .bind(keys)
    .bind(values)
    .bind(runs.iter().map(|run| run.created_by).collect::<Vec<Option<&str>>>())
    .fetch_all(db)
    .await;
    let made = made.map_err(|error| match (is_duplicate(&error), runs) {
        (true, [only]) => Error::Exists(Thing::Run(only.run_id.to_owned())),
        _ => error.into(),
    })?;
    Ok(made.into_iter().collect())
}

impl Run {
    /// A run that was made just now.
    pub(crate) fn fresh(run_key: i64, run: &NewRun<'_>) -> Self {
        let (keys, values) = columns(run.tags);
        let texts = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
        let info = RunInfo {
            run_key,
            run_id: run.run_id.to_owned(),
            experiment_id: run.experiment_id,
            name: run.name.to_owned(),
            user_id: run.user_id.to_owned(),
            status: "RUNNING".to_owned(),
            start_ms: run.start_ms,
            end_ms: None,
            artifact_uri: run.artifact_uri.clone(),
            deleted_ms: None,
        };
        Self { tag_keys: texts(keys), tag_values: texts(values), ..info.into() }
    }
}

/// A run with everything.
pub(crate) async fn run_get(db: &mut PgConnection, run_id: &str) -> Result<Run, Error> {
    let mut query = QueryBuilder::<Postgres>::new(FULL);
    query.push(" WHERE NOT r.purging AND r.run_id = ").push_bind(run_id);
    query.build_query_as().fetch_optional(db).await?.ok_or_else(|| absent(run_id))
}

/// A run's own row.
pub(crate) async fn run_info(db: &mut PgConnection, run_id: &str) -> Result<RunInfo, Error> {
    let mut query = QueryBuilder::<Postgres>::new(INFO);
    query.push(" WHERE NOT r.purging AND r.run_id = ").push_bind(run_id);
    query.build_query_as().fetch_optional(db).await?.ok_or_else(|| absent(run_id))
}

/// The rows of those runs, by id.
pub(crate) async fn run_infos(
    db: &mut PgConnection,
    run_ids: &[&str],
) -> Result<HashMap<String, RunInfo>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(INFO);
    query.push(" WHERE NOT r.purging AND r.run_id = ANY(").push_bind(run_ids).push(")");
    let found: Vec<RunInfo> = query.build_query_as().fetch_all(db).await?;
    Ok(found.into_iter().map(|run| (run.run_id.clone(), run)).collect())
}

/// The row of a run that may be written to.
pub(crate) async fn run_active(db: &mut PgConnection, run_id: &str) -> Result<RunInfo, Error> {
    let info = run_info(db, run_id).await?;
    info.writable()?;
    Ok(info)
}

impl RunInfo {
    /// Refuses a deleted run.
    pub(crate) fn writable(&self) -> Result<(), Error> {
        match self.deleted_ms {
            None => Ok(()),
            Some(_) => Err(Error::invalid(
                "run_id",
                format!("The run {} must be in the 'active' state. Current state is deleted.", self.run_id),
            )),
        }
    }
}

/// There is no run of that id.
pub(crate) fn absent(run_id: &str) -> Error {
    Error::NotFound(Thing::Run(run_id.to_owned()))
}

/// A page of runs for REST v1, the newest first, behind the run with that start and id.
pub(crate) async fn run_list(
    db: &mut PgConnection,
    visible: &Visible<i64>,
    experiment_id: Option<i64>,
    after: Option<(i64, String)>,
    limit: i64,
) -> Result<Vec<RunInfo>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(INFO);
    query.push(" WHERE r.deleted_ms IS NULL");
    push_visible(&mut query, "r.experiment_id", visible);
    if let Some(experiment_id) = experiment_id {
        query.push(" AND r.experiment_id = ").push_bind(experiment_id);
    }
    if let Some((start_ms, run_id)) = after {
        query.push(" AND (r.start_ms < ").push_bind(start_ms);
        query.push(" OR (r.start_ms = ").push_bind(start_ms);
        query.push(" AND r.run_id > ").push_bind(run_id).push("))");
    }
    query.push(" ORDER BY r.start_ms DESC, r.run_id LIMIT ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// Changes status, end and name as far as given.
pub(crate) async fn run_update(
    db: &mut PgConnection,
    run: &RunInfo,
    status: Option<&str>,
    end_ms: Option<i64>,
    name: Option<&str>,
) -> Result<RunInfo, Error> {
    if let Some(name) = name {
        let tag = (RUN_NAME_TAG.to_owned(), name.to_owned());
        run_tags_set(&mut *db, &[(run, &tag)]).await?;
    }
    Ok(sqlx::query_as(
        "UPDATE runs r SET status = coalesce($2, status), end_ms = coalesce($3, end_ms), name = coalesce($4, \
         name) \
         WHERE run_key = $1 RETURNING r.run_key, r.run_id, r.experiment_id, r.name, r.user_id, r.status, \
         r.start_ms, \
         r.end_ms, r.artifact_uri, r.deleted_ms",
    )
    .bind(run.run_key)
    .bind(status)
    .bind(end_ms)
    .bind(name)
    .fetch_one(db)
    .await?)
}

/// Deletes a run or brings it back.
pub(crate) async fn run_set_deleted(
    db: &mut PgConnection,
    run_key: i64,
    deleted_ms: Option<i64>,
) -> Result<(), Error> {
    sqlx::query("UPDATE runs SET deleted_ms = $2 WHERE run_key = $1")
        .bind(run_key)
        .bind(deleted_ms)
        .execute(db)
        .await?;
    Ok(())
}

/// Keys and values of pairs of runs, each key of a run once: the last one.
type Columns<'pair> = (Vec<i64>, Vec<&'pair str>, Vec<&'pair str>);

fn run_columns<'pair>(pairs: &[(&'pair RunInfo, &'pair Pair)]) -> Columns<'pair> {
    // In order of the primary key, so that two transactions lock rows in one order.
    let unique: BTreeMap<(i64, &str), &str> =
        pairs.iter().map(|(run, (key, value))| ((run.run_key, key.as_str()), value.as_str())).collect();
    let mut columns = Columns::default();
    for ((run_key, key), value) in unique {
        columns.0.push(run_key);
        columns.1.push(key);
        columns.2.push(value);
    }
    columns
}

/// Logs params of runs. One that is there, or is given twice, with another value is refused.
pub(crate) async fn run_params_log(db: &mut PgConnection, params: &[(&RunInfo, &Pair)]) -> Result<(), Error> {
    if params.is_empty() {
        return Ok(());
    }
    let (run_keys, keys, values) = run_columns(params);
    let logged: Vec<(i64, String, String)> = sqlx::query_as(
        "INSERT INTO run_params (run_key, key, value) SELECT * \
         FROM UNNEST($1::BIGINT[], $2::TEXT[], $3::TEXT[]) \
         ON CONFLICT (run_key, key) DO UPDATE SET value = run_params.value RETURNING run_key, key, value",
    )
    .bind(run_keys)
    .bind(keys)
    .bind(values)
    .fetch_all(db)
    .await?;
    let logged: HashMap<(i64, &str), &str> =
        logged.iter().map(|(run_key, key, value)| ((*run_key, key.as_str()), value.as_str())).collect();
    for (run, (key, new)) in params {
        match logged.get(&(run.run_key, key.as_str())) {
            Some(old) if old != new => {
                return Err(Error::invalid(
                    "params",
                    format!(
                        "Changing param values is not allowed. Param with key='{key}' was already logged \
                         with value='{old}' for run ID='{}'. Attempted logging new value '{new}'.",
                        run.run_id
                    ),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Sets tags of runs; of a repeated key the last value stays.
pub(crate) async fn run_tags_set(db: &mut PgConnection, tags: &[(&RunInfo, &Pair)]) -> Result<(), Error> {
    if tags.is_empty() {
        return Ok(());
    }
    let (run_keys, keys, values) = run_columns(tags);
    sqlx::query(
        "INSERT INTO run_tags (run_key, key, value) SELECT * \
         FROM UNNEST($1::BIGINT[], $2::TEXT[], $3::TEXT[]) \
         ON CONFLICT (run_key, key) DO UPDATE SET value = excluded.value",
    )
    .bind(run_keys)
    .bind(keys)
    .bind(values)
    .execute(&mut *db)
    .await?;
    let names: Vec<_> = tags.iter().filter(|(_, (key, _))| key == RUN_NAME_TAG).copied().collect();
    if !names.is_empty() {
        let (run_keys, _, names) = run_columns(&names);
        sqlx::query(
            "UPDATE runs SET name = given.name FROM UNNEST($1::BIGINT[], $2::TEXT[]) AS given (run_key, \
             name) \
             WHERE runs.run_key = given.run_key",
        )
        .bind(run_keys)
        .bind(names)
        .execute(db)
        .await?;
    }
    Ok(())
}

/// Adds a model to the tag [`MODEL_HISTORY_TAG`].
pub(crate) async fn run_models_add(
    db: &mut PgConnection,
    run: &RunInfo,
    model: &serde_json::Value,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO run_tags AS t (run_key, key, value) VALUES ($1, $2, jsonb_build_array($3::JSONB)::TEXT) \
         ON CONFLICT (run_key, key) DO UPDATE SET value = (t.value::JSONB || $3::JSONB)::TEXT",
    )
    .bind(run.run_key)
    .bind(MODEL_HISTORY_TAG)
    .bind(model)
    .execute(db)
    .await?;
    Ok(())
}

/// Removes a tag; `false` where there was none.
pub(crate) async fn run_tag_delete(db: &mut PgConnection, run_key: i64, key: &str) -> Result<bool, Error> {
    let removed = sqlx::query("DELETE FROM run_tags WHERE run_key = $1 AND key = $2")
        .bind(run_key)
        .bind(key)
        .execute(db)
        .await?;
    Ok(removed.rows_affected() == 1)
}
