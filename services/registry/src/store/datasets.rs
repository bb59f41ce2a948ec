//! Data sets that runs took in, and the logged models that they took in or brought forth.

use sqlx::PgConnection;
use sqlx::types::Json;

use super::Pair;
use super::runs::RunInfo;
use super::tags::DATASET_CONTEXT_TAG;
use crate::access::links::LoggedModelLink;
use crate::error::Error;

/// A data set as a run names it.
#[derive(Debug)]
pub(crate) struct NewInput {
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) source_type: String,
    pub(crate) source: String,
    pub(crate) schema: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) tags: Vec<Pair>,
}

/// Adds data sets to a run. A data set of an experiment is one by name and digest; one that the run has
/// already keeps its tags.
pub(crate) async fn inputs_log(
    db: &mut PgConnection,
    run: &RunInfo,
    inputs: &[NewInput],
) -> Result<(), Error> {
    for input in inputs {
        let tags: std::collections::BTreeMap<&str, &str> =
            input.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        sqlx::query(
            "WITH one AS (INSERT INTO datasets AS d (experiment_id, name, digest, source_type, source, \
             schema, profile) \
               VALUES ($2, $3, $4, $5, $6, $7, $8) \
               ON CONFLICT (experiment_id, name, digest) DO UPDATE SET name = d.name RETURNING dataset_key) \
             INSERT INTO run_datasets (run_key, dataset_key, tags) SELECT $1, dataset_key, $9 FROM one \
             ON CONFLICT (run_key, dataset_key) DO NOTHING",
        )
        .bind(run.run_key)
        .bind(run.experiment_id)
        .bind(&input.name)
        .bind(&input.digest)
        .bind(&input.source_type)
        .bind(&input.source)
        .bind(&input.schema)
        .bind(&input.profile)
        .bind(Json(tags))
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// Adds logged models that a run took in.
pub(crate) async fn model_inputs_log(
    db: &mut PgConnection,
    run: &RunInfo,
    models: &[LoggedModelLink],
) -> Result<(), Error> {
    let model_ids: Vec<&str> = models.iter().map(LoggedModelLink::model_id).collect();
    sqlx::query(
        "INSERT INTO run_model_inputs (run_key, model_id) SELECT $1, * FROM UNNEST($2::TEXT[]) ON CONFLICT \
         DO NOTHING",
    )
    .bind(run.run_key)
    .bind(model_ids)
    .execute(db)
    .await?;
    Ok(())
}

/// Adds logged models that a run brought forth.
pub(crate) async fn outputs_log(
    db: &mut PgConnection,
    run: &RunInfo,
    outputs: &[(LoggedModelLink, i64)],
) -> Result<(), Error> {
    let (models, steps): (Vec<&str>, Vec<i64>) =
        outputs.iter().map(|(model, step)| (model.model_id(), *step)).unzip();
    sqlx::query(
        "INSERT INTO run_outputs (run_key, model_id, step) SELECT DISTINCT ON (m) $1, m, s \
         FROM UNNEST($2::TEXT[], $3::BIGINT[]) AS g (m, s) ON CONFLICT (run_key, model_id) DO UPDATE \
         SET step = excluded.step",
    )
    .bind(run.run_key)
    .bind(models)
    .bind(steps)
    .execute(db)
    .await?;
    Ok(())
}

/// A data set of an experiment and what its runs used it for.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Summary {
    pub(crate) experiment_id: i64,
    pub(crate) name: String,
    pub(crate) digest: String,
    /// E.g. `training`.
    pub(crate) context: Option<String>,
}

/// The data sets that runs of those experiments took in, each once for each use.
pub(crate) async fn summaries(
    db: &mut PgConnection,
    experiment_ids: &[i64],
    limit: i64,
) -> Result<Vec<Summary>, Error> {
    Ok(sqlx::query_as(
        "SELECT DISTINCT d.experiment_id, d.name, d.digest, i.tags->>$3 AS context \
         FROM datasets d JOIN run_datasets i USING (dataset_key) JOIN runs r USING (run_key) \
         WHERE d.experiment_id = ANY($1) AND r.deleted_ms IS NULL ORDER BY 1, 2, 3, 4 LIMIT $2",
    )
    .bind(experiment_ids)
    .bind(limit)
    .bind(DATASET_CONTEXT_TAG)
    .fetch_all(db)
    .await?)
}
