//! A page of runs, read from where the last one ended.
//!
//! The two orders that a run table is read in, by start and by one metric, are walked along an index from the
//! last row seen, so that a page costs the same in an experiment of a thousand runs and of a million. Every
//! other order counts from the start.

use serde::{Deserialize, Serialize};
use slipway_domain::registry::filter::{Clause, Key, Order};
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::experiments::View;
use super::runs::{INFO_COLUMNS, RunInfo};
use super::search;
use crate::error::Error;

/// Which runs are looked for.
#[derive(Debug)]
pub(crate) struct RunSearch<'search> {
    pub(crate) experiment_ids: &'search [i64],
    pub(crate) view: View,
    pub(crate) clauses: &'search [Clause],
    pub(crate) orders: &'search [Order],
}

/// Where a page ended; the next one goes on behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum After {
    /// In order of start: behind the run with that start and id.
    Start(i64, String),
    /// In order of a metric: behind the run with that value, start and id, among those of one [`Kind`].
    Metric(Kind, Option<f64>, i64, String),
    /// In another order: after this many rows.
    Rows(i64),
}

/// Kinds of values, in the order in which a search by metric shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Number,
    NotANumber,
    Missing,
}

/// A found run, and the metric that it is found by.
#[derive(Debug, sqlx::FromRow)]
struct Row {
    #[sqlx(flatten)]
    info: RunInfo,
    value: Option<f64>,
}

/// How the page is read.
enum Walk<'search> {
    ByStart,
    ByMetric { experiment_id: i64, key: &'search str, ascending: bool },
    Counted,
}

impl<'search> RunSearch<'search> {
    fn walk(&self) -> Walk<'search> {
        match (self.orders, self.experiment_ids) {
            ([], _) => Walk::ByStart,
            ([Order { key: Key::Attribute(name), ascending: false }], _) if name == "start_time" => {
                Walk::ByStart
            }
            ([Order { key: Key::Metric(key), ascending }], [experiment_id]) => {
                Walk::ByMetric { experiment_id: *experiment_id, key, ascending: *ascending }
            }
            _ => Walk::Counted,
        }
    }

    /// The next `limit` runs, and where they end where more follow.
    ///
    /// # Errors
    /// `after` belongs to another order, or Postgres is unreachable.
    pub(crate) async fn page(
        &self,
        db: &mut PgConnection,
        after: Option<&After>,
        limit: usize,
    ) -> Result<(Vec<RunInfo>, Option<After>), Error> {
        let foreign =
            || Error::invalid("page_token", "Invalid page token: it belongs to a search with another order");
        match (self.walk(), after) {
            (Walk::ByStart, None) => self.by_start(db, None, limit).await,
            (Walk::ByStart, Some(After::Start(start_ms, run_id))) => {
                self.by_start(db, Some((*start_ms, run_id)), limit).await
            }
            (Walk::ByMetric { experiment_id, key, ascending }, None | Some(After::Metric(..))) => {
                self.by_metric(db, (experiment_id, key, ascending), after, limit).await
            }
            (Walk::Counted, None) => self.counted(db, 0, limit).await,
            (Walk::Counted, Some(After::Rows(rows))) if *rows >= 0 => self.counted(db, *rows, limit).await,
            _ => Err(foreign()),
        }
    }

    async fn by_start(
        &self,
        db: &mut PgConnection,
        after: Option<(i64, &str)>,
        limit: usize,
    ) -> Result<(Vec<RunInfo>, Option<After>), Error> {
        let mut query = self.runs("NULL::FLOAT8", "");
        if let Some(after) = after {
            push_behind_start(&mut query, after);
        }
        search::RUNS.push_filter(&mut query, self.clauses);
        query.push(" ORDER BY r.start_ms DESC, r.run_id");
        let rows = fetch(db, query, limit).await?;
        Ok(cut(
            rows,
            limit,
            |row| row.info,
            |last| After::Start(last.info.start_ms, last.info.run_id.clone()),
        ))
    }

    async fn by_metric(
        &self,
        db: &mut PgConnection,
        (experiment_id, key, ascending): (i64, &str, bool),
        after: Option<&After>,
        limit: usize,
    ) -> Result<(Vec<RunInfo>, Option<After>), Error> {
        // A condition on the metric itself holds for numbers alone.
        let (of_metric, others): (Vec<Clause>, Vec<Clause>) =
            self.clauses.iter().cloned().partition(|clause| clause.key == Key::Metric(key.to_owned()));
        let kinds: &[Kind] = if of_metric.is_empty() {
            &[Kind::Number, Kind::NotANumber, Kind::Missing]
        } else {
            &[Kind::Number]
        };
        let (first, mut behind) = match after {
            Some(After::Metric(kind, value, start_ms, run_id)) => {
                (*kind, Some((*value, *start_ms, run_id.as_str())))
            }
            _ => (Kind::Number, None),
        };
        let mut found: Vec<(Kind, Row)> = Vec::new();
        for kind in kinds.iter().copied().skip_while(|kind| *kind != first) {
            if found.len() > limit {
                break;
            }
            let mut query = self.of_kind(kind, experiment_id, key);
            search::push_values(&mut query, "o.value", &of_metric);
            if let Some((value, start_ms, run_id)) = behind.take() {
                push_behind_value(&mut query, value, (start_ms, run_id), ascending);
            }
            search::RUNS.push_filter(&mut query, &others);
            query.push(match (kind, ascending) {
                (Kind::Number, true) => " ORDER BY o.value, r.start_ms DESC, r.run_id",
                (Kind::Number, false) => " ORDER BY o.value DESC, r.start_ms DESC, r.run_id",
                _ => " ORDER BY r.start_ms DESC, r.run_id",
            });
            let rows = fetch(db, query, limit - found.len()).await?;
            found.extend(rows.into_iter().map(|row| (kind, row)));
        }
        Ok(cut(
            found,
            limit,
            |(_, row)| row.info,
            |(kind, last)| {
                After::Metric(
                    *kind,
                    last.value.filter(|value| !value.is_nan()),
                    last.info.start_ms,
                    last.info.run_id.clone(),
                )
            },
        ))
    }

    /// Runs whose value of the metric is of that kind.
    fn of_kind(&self, kind: Kind, experiment_id: i64, key: &str) -> QueryBuilder<Postgres> {
        if kind == Kind::Missing {
            let mut query = self.runs("NULL::FLOAT8", "");
            query.push(
                " AND NOT EXISTS (SELECT 1 FROM latest_metrics x WHERE x.run_key = r.run_key AND x.key = ",
            );
            query.push_bind(key.to_owned()).push(")");
            return query;
        }
        let mut query = self.runs("o.value", "JOIN latest_metrics o USING (run_key)");
        // The experiment again: that makes it a range of the index of values.
        query.push(" AND o.experiment_id = ").push_bind(experiment_id);
        query.push(" AND o.key = ").push_bind(key.to_owned());
        // Postgres holds NaN for greater than every number.
        query.push(if kind == Kind::Number { " AND o.value < 'NaN'" } else { " AND o.value = 'NaN'" });
        query
    }

    async fn counted(
        &self,
        db: &mut PgConnection,
        skipped: i64,
        limit: usize,
    ) -> Result<(Vec<RunInfo>, Option<After>), Error> {
        let mut query = QueryBuilder::<Postgres>::new(format!(
            "SELECT {INFO_COLUMNS}, NULL::FLOAT8 AS value FROM runs r"
        ));
        search::RUNS.push_order_joins(&mut query, self.orders);
        self.push_scope(&mut query);
        search::RUNS.push_filter(&mut query, self.clauses);
        search::RUNS.push_order(&mut query, self.orders);
        query.push(" OFFSET ").push_bind(skipped);
        let rows = fetch(db, query, limit).await?;
        let shown = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(cut(rows, limit, |row| row.info, |_| After::Rows(skipped.saturating_add(shown))))
    }

    fn runs(&self, value: &str, join: &str) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::<Postgres>::new(format!(
            "SELECT {INFO_COLUMNS}, {value} AS value FROM runs r {join}"
        ));
        self.push_scope(&mut query);
        query
    }

    fn push_scope(&self, query: &mut QueryBuilder<Postgres>) {
        query.push(" WHERE NOT r.purging AND r.experiment_id ");
        match self.experiment_ids {
            // Said with `=`, the index brings them in order of their start.
            [one] => query.push("= ").push_bind(*one),
            many => query.push("= ANY(").push_bind(many.to_vec()).push(")"),
        };
        query.push(" AND ");
        self.view.push(query, "r.deleted_ms");
    }
}

/// Cuts to the page; where more follow, says behind which row.
fn cut<T>(
    mut rows: Vec<T>,
    limit: usize,
    info: impl Fn(T) -> RunInfo,
    place: impl Fn(&T) -> After,
) -> (Vec<RunInfo>, Option<After>) {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let after = rows.last().filter(|_| more).map(place);
    (rows.into_iter().map(info).collect(), after)
}

fn push_behind_start(query: &mut QueryBuilder<Postgres>, (start_ms, run_id): (i64, &str)) {
    // The first condition alone lets the index start at the right place.
    query.push(" AND r.start_ms <= ").push_bind(start_ms);
    query.push(" AND (r.start_ms < ").push_bind(start_ms);
    query.push(" OR r.run_id > ").push_bind(run_id.to_owned()).push(")");
}

fn push_behind_value(
    query: &mut QueryBuilder<Postgres>,
    value: Option<f64>,
    start: (i64, &str),
    ascending: bool,
) {
    let Some(value) = value else { return push_behind_start(query, start) };
    let further = if ascending { ">" } else { "<" };
    query.push(format!(" AND o.value {further}= ")).push_bind(value);
    query.push(format!(" AND (o.value {further} ")).push_bind(value);
    query.push(" OR (TRUE");
    push_behind_start(query, start);
    query.push("))");
}

/// One row more than the limit, to see whether there are more.
async fn fetch(
    db: &mut PgConnection,
    mut query: QueryBuilder<Postgres>,
    limit: usize,
) -> Result<Vec<Row>, Error> {
    query.push(" LIMIT ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1);
    // Planned for the values at hand: a plan that is good for every limit and threshold is good for none.
    Ok(query.build_query_as().persistent(false).fetch_all(db).await?)
}
