//! Experiments.

use std::collections::{BTreeSet, HashMap};

use slipway_domain::access::Visible;
use slipway_domain::registry::filter::{Clause, Order};
use slipway_domain::registry::validate_experiment_id;
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::{Pair, Pairs, columns, search};
use crate::error::{Error, Thing};

/// Which life stages a search sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Active,
    Deleted,
    All,
}

impl View {
    /// Adds the condition on a `deleted_ms` column.
    pub(crate) fn push(self, query: &mut QueryBuilder<Postgres>, column: &str) {
        match self {
            Self::Active => query.push(column).push(" IS NULL"),
            Self::Deleted => query.push(column).push(" IS NOT NULL"),
            Self::All => query.push("TRUE"),
        };
    }
}

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Experiment {
    pub(crate) experiment_id: i64,
    pub(crate) name: String,
    pub(crate) artifact_location: String,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) deleted_ms: Option<i64>,
    pub(crate) tags: Pairs,
}

const SELECT: &str = "SELECT e.experiment_id, e.name, e.artifact_location, e.created_ms, e.updated_ms, \
    e.deleted_ms, \
    coalesce((SELECT json_agg(json_build_array(t.key, t.value) ORDER BY t.key) FROM experiment_tags t \
     WHERE t.experiment_id = e.experiment_id), '[]') AS tags FROM experiments e";

/// Makes an experiment; without a location its artifacts go through the proxy.
pub(crate) async fn experiment_create(
    db: &mut PgConnection,
    name: &str,
    location: Option<&str>,
    tags: &[Pair],
    now_ms: i64,
) -> Result<i64, Error> {
    let created: Result<i64, sqlx::Error> = sqlx::query_scalar(
        "WITH fresh AS (SELECT nextval(pg_get_serial_sequence('experiments', 'experiment_id')) AS id) \
         INSERT INTO experiments (experiment_id, name, artifact_location, created_ms, updated_ms) \
         SELECT id, $1, coalesce($2, 'mlflow-artifacts:/' || id), $3, $3 FROM fresh RETURNING experiment_id",
    )
    .bind(name)
    .bind(location)
    .bind(now_ms)
    .fetch_one(&mut *db)
    .await;
    let experiment_id = match created {
        Err(error) if slipway_service_kit::db::is_duplicate(&error) => {
            return Err(Error::Exists(Thing::ExperimentNamed(name.to_owned())));
        }
        other => other?,
    };
    for (key, value) in tags {
        experiment_tag_set(db, experiment_id, key, value).await?;
    }
    Ok(experiment_id)
}

/// The experiment of that id, deleted or not.
pub(crate) async fn experiment_get(db: &mut PgConnection, experiment_id: &str) -> Result<Experiment, Error> {
    let id = validate_experiment_id(experiment_id)?;
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" WHERE e.experiment_id = ").push_bind(id);
    query.build_query_as().fetch_optional(db).await?.ok_or_else(|| absent(experiment_id))
}

/// There is no experiment of that id.
pub(crate) fn absent(experiment_id: &str) -> Error {
    Error::NotFound(Thing::Experiment(experiment_id.to_owned()))
}

/// Experiments that something is to be put into: where each keeps its artifacts, and whether it is deleted.
#[derive(Debug)]
pub(crate) struct Homes(HashMap<i64, (String, Option<i64>)>);

/// Those of them that exist.
pub(crate) async fn experiment_homes(
    db: &mut PgConnection,
    experiment_ids: &BTreeSet<&str>,
) -> Result<Homes, Error> {
    let ids: Vec<i64> = experiment_ids.iter().filter_map(|id| validate_experiment_id(id).ok()).collect();
    let rows: Vec<(i64, String, Option<i64>)> = sqlx::query_as(
        "SELECT experiment_id, artifact_location, deleted_ms FROM experiments WHERE experiment_id = ANY($1)",
    )
    .bind(ids)
    .fetch_all(db)
    .await?;
    Ok(Homes(rows.into_iter().map(|(id, location, deleted_ms)| (id, (location, deleted_ms))).collect()))
}

impl Homes {
    /// Number and artifact location of an experiment that takes something in.
    pub(crate) fn active(&self, experiment_id: &str) -> Result<(i64, &str), Error> {
        let id = validate_experiment_id(experiment_id)?;
        match self.0.get(&id) {
            None => Err(absent(experiment_id)),
            Some((_, Some(_))) => Err(Error::invalid(
                "experiment_id",
                format!(
                    "The experiment {experiment_id} must be in the 'active' state. Current state is deleted."
                ),
            )),
            Some((location, None)) => Ok((id, location)),
        }
    }
}

/// Number and artifact location of one experiment that takes something in.
pub(crate) async fn experiment_active(
    db: &mut PgConnection,
    experiment_id: &str,
) -> Result<(i64, String), Error> {
    let homes = experiment_homes(db, &BTreeSet::from([experiment_id])).await?;
    homes.active(experiment_id).map(|(id, location)| (id, location.to_owned()))
}

/// The experiment of that name, deleted or not.
pub(crate) async fn experiment_by_name(
    db: &mut PgConnection,
    name: &str,
) -> Result<Option<Experiment>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" WHERE e.name = ").push_bind(name);
    Ok(query.build_query_as().fetch_optional(db).await?)
}

/// A page of experiments.
pub(crate) async fn experiment_search(
    db: &mut PgConnection,
    (view, visible): (View, &Visible<i64>),
    clauses: &[Clause],
    orders: &[Order],
    (limit, offset): (i64, i64),
) -> Result<Vec<Experiment>, Error> {
    let shape = &search::EXPERIMENTS;
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    shape.push_order_joins(&mut query, orders);
    query.push(" WHERE ");
    view.push(&mut query, "e.deleted_ms");
    search::push_visible(&mut query, "e.experiment_id", visible);
    shape.push_filter(&mut query, clauses);
    shape.push_order(&mut query, orders);
    query.push(" LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// Renames an active experiment.
pub(crate) async fn experiment_rename(
    db: &mut PgConnection,
    id: i64,
    name: &str,
    now_ms: i64,
) -> Result<(), Error> {
    let renamed = sqlx::query("UPDATE experiments SET name = $2, updated_ms = $3 WHERE experiment_id = $1")
        .bind(id)
        .bind(name)
        .bind(now_ms)
        .execute(db)
        .await;
    match renamed {
        Err(error) if slipway_service_kit::db::is_duplicate(&error) => {
            Err(Error::Exists(Thing::ExperimentNamed(name.to_owned())))
        }
        other => Ok(other.map(drop)?),
    }
}

/// Deletes an experiment with its runs, or brings both back.
pub(crate) async fn experiment_set_deleted(
    db: &mut PgConnection,
    id: i64,
    deleted: bool,
    now_ms: i64,
) -> Result<(), Error> {
    let stamp = deleted.then_some(now_ms);
    sqlx::query("UPDATE experiments SET deleted_ms = $2, updated_ms = $3 WHERE experiment_id = $1")
        .bind(id)
        .bind(stamp)
        .bind(now_ms)
        .execute(&mut *db)
        .await?;
    sqlx::query("UPDATE runs SET deleted_ms = $2 WHERE experiment_id = $1 AND (deleted_ms IS NULL) = $3")
        .bind(id)
        .bind(stamp)
        .bind(deleted)
        .execute(db)
        .await?;
    Ok(())
}

/// Sets a tag.
pub(crate) async fn experiment_tag_set(
    db: &mut PgConnection,
    id: i64,
    key: &str,
    value: &str,
) -> Result<(), Error> {
    let pairs = [(key.to_owned(), value.to_owned())];
    let (keys, values) = columns(&pairs);
    sqlx::query(
        "INSERT INTO experiment_tags (experiment_id, key, value) SELECT $1, * \
         FROM UNNEST($2::TEXT[], $3::TEXT[]) \
         ON CONFLICT (experiment_id, key) DO UPDATE SET value = excluded.value",
    )
    .bind(id)
    .bind(keys)
    .bind(values)
    .execute(db)
    .await?;
    Ok(())
}

/// Removes a tag; `false` where there was none.
pub(crate) async fn experiment_tag_delete(db: &mut PgConnection, id: i64, key: &str) -> Result<bool, Error> {
    let removed = sqlx::query("DELETE FROM experiment_tags WHERE experiment_id = $1 AND key = $2")
        .bind(id)
        .bind(key)
        .execute(db)
        .await?;
    Ok(removed.rows_affected() == 1)
}
