//! Search filters and orders as parameterised SQL, for every entity alike.

use slipway_domain::access::Visible;
use slipway_domain::registry::filter::{Clause, Comparison, Key, Operand, Order};
use sqlx::{Postgres, QueryBuilder};

use super::tags::{LOGGED_ARTIFACTS_TAG, PROMPT_TAG};

/// Up to here each whole float names one integer.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Where the fields of an entity are.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Condition that joins a child row `x` with the entity's row.
    child: &'static str,
    tags: &'static str,
    params: &'static str,
    metrics: &'static str,
    /// Name, expression, and whether it is a number.
    attributes: &'static [(&'static str, &'static str, bool)],
    /// Order among equals, which makes every order total.
    ties: &'static str,
    /// Order where none is asked for.
    default: &'static str,
}

/// A dataset that a metric of a logged model is about.
#[derive(Debug, Clone)]
pub(crate) struct DatasetKey {
    /// Any where absent.
    pub(crate) name: Option<String>,
    /// Any where absent.
    pub(crate) digest: Option<String>,
}

impl DatasetKey {
    /// Adds the condition on a row `x` of metrics.
    pub(crate) fn push(&self, query: &mut QueryBuilder<Postgres>) {
        query.push("(TRUE");
        if let Some(name) = &self.name {
            query.push(" AND x.dataset_name = ").push_bind(name.clone());
        }
        if let Some(digest) = &self.digest {
            query.push(" AND x.dataset_digest = ").push_bind(digest.clone());
        }
        query.push(")");
    }
}

/// Runs, as `r`.
pub(crate) const RUNS: Shape = Shape {
    child: "x.run_key = r.run_key",
    tags: "run_tags",
    params: "run_params",
    metrics: "latest_metrics",
    attributes: &[
        ("run_id", "r.run_id", false),
        ("run_name", "r.name", false),
        ("status", "r.status", false),
        ("user_id", "r.user_id", false),
        ("artifact_uri", "r.artifact_uri", false),
        ("start_time", "r.start_ms", true),
        ("end_time", "r.end_ms", true),
    ],
    ties: "r.start_ms DESC, r.run_id",
    default: "r.start_ms DESC, r.run_id",
};

/// Experiments, as `e`.
pub(crate) const EXPERIMENTS: Shape = Shape {
    child: "x.experiment_id = e.experiment_id",
    tags: "experiment_tags",
    params: "",
    metrics: "",
    attributes: &[
        ("name", "e.name", false),
        ("experiment_id", "e.experiment_id::TEXT", false),
        ("creation_time", "e.created_ms", true),
        ("last_update_time", "e.updated_ms", true),
    ],
    ties: "e.experiment_id",
    default: "e.created_ms DESC, e.experiment_id",
};

/// Registered models, as `m`.
pub(crate) const REGISTERED_MODELS: Shape = Shape {
    child: "x.model_key = m.model_key",
    tags: "registered_model_tags",
    params: "",
    metrics: "",
    attributes: &[("name", "m.name", false), ("last_updated_timestamp", "m.updated_ms", true)],
    ties: "m.name",
    default: "m.name",
};

/// Model versions, as `v`, with their model as `m`.
pub(crate) const MODEL_VERSIONS: Shape = Shape {
    child: "x.model_key = v.model_key AND x.version = v.version",
    tags: "model_version_tags",
    params: "",
    metrics: "",
    attributes: &[
        ("name", "m.name", false),
        ("run_id", "v.run_id", false),
        ("source_path", "v.source", false),
        ("version_number", "v.version", true),
        ("creation_timestamp", "v.created_ms", true),
        ("last_updated_timestamp", "v.updated_ms", true),
    ],
    ties: "m.name, v.version DESC",
    default: "v.updated_ms DESC, m.name, v.version DESC",
};

/// Logged models, as `l`.
pub(crate) const LOGGED_MODELS: Shape = Shape {
    child: "x.model_id = l.model_id",
    tags: "logged_model_tags",
    params: "logged_model_params",
    metrics: "logged_model_latest_metrics",
    attributes: &[
        ("name", "l.name", false),
        ("model_id", "l.model_id", false),
        ("model_type", "l.model_type", false),
        ("status", "l.status", false),
        ("source_run_id", "l.source_run_id", false),
        ("experiment_id", "l.experiment_id::TEXT", false),
        ("creation_timestamp", "l.created_ms", true),
        ("last_updated_timestamp", "l.updated_ms", true),
    ],
    ties: "l.created_ms DESC, l.model_id",
    default: "l.created_ms DESC, l.model_id",
};

impl Shape {
    fn attribute(&self, name: &str) -> (&'static str, bool) {
        // The parser knows the same names; one that is new to us matches nothing rather than everything.
        self.attributes
            .iter()
            .find(|(known, _, _)| *known == name)
            .map_or(("NULL", false), |(_, sql, numeric)| (sql, *numeric))
    }

    fn children(&self, key: &Key) -> &'static str {
        match key {
            Key::Metric(_) => self.metrics,
            Key::Param(_) => self.params,
            _ => self.tags,
        }
    }

    /// Adds the joins that an order needs; they go before the WHERE.
    pub(crate) fn push_order_joins(&self, query: &mut QueryBuilder<Postgres>, orders: &[Order]) {
        self.push_order_joins_on(query, orders, &[]);
    }

    /// The same for logged models, where the key of that place in `datasets` is a metric on that dataset.
    pub(crate) fn push_order_joins_on(
        &self,
        query: &mut QueryBuilder<Postgres>,
        orders: &[Order],
        datasets: &[Option<DatasetKey>],
    ) {
        for (index, order) in orders.iter().enumerate() {
            if let (Key::Metric(name), Some(Some(dataset))) = (&order.key, datasets.get(index)) {
                query.push(
                    " LEFT JOIN LATERAL (SELECT x.value FROM logged_model_metrics x \
                     WHERE x.model_id = l.model_id AND x.key = ",
                );
                query.push_bind(name.clone()).push(" AND ");
                dataset.push(query);
                query.push(format!(
                    " ORDER BY x.step DESC, x.at_ms DESC, x.value DESC LIMIT 1) o{index} ON TRUE"
                ));
                continue;
            }
            if let Key::Metric(name) | Key::Param(name) | Key::Tag(name) = &order.key {
                let (table, child) = (self.children(&order.key), self.child);
                query.push(format!(
                    " LEFT JOIN LATERAL (SELECT x.value FROM {table} x WHERE {child} AND x.key = "
                ));
                query.push_bind(name.clone());
                query.push(format!(") o{index} ON TRUE"));
            }
        }
    }

    /// Adds ` AND …` for each clause.
    pub(crate) fn push_filter(&self, query: &mut QueryBuilder<Postgres>, clauses: &[Clause]) {
        for clause in clauses {
            query.push(" AND ");
            match &clause.key {
                Key::Attribute(name) => {
                    let (column, numeric) = self.attribute(name);
                    push_comparison(query, column, numeric, clause);
                }
                Key::Dataset(field) => push_dataset(query, field, clause),
                Key::Metric(name) | Key::Param(name) | Key::Tag(name) => self.push_child(query, name, clause),
            }
        }
    }

    fn push_child(&self, query: &mut QueryBuilder<Postgres>, name: &str, clause: &Clause) {
        let (table, child) = (self.children(&clause.key), self.child);
        let without_prompts = name == PROMPT_TAG && clause.comparison == Comparison::NotEqual;
        if without_prompts || clause.comparison == Comparison::IsNull {
            query.push("NOT ");
        }
        query.push(format!("EXISTS (SELECT 1 FROM {table} x WHERE {child} AND x.key = "));
        query.push_bind(name.to_owned());
        if !matches!(clause.comparison, Comparison::IsNull | Comparison::IsNotNull) {
            query.push(" AND ");
            let numeric = matches!(clause.key, Key::Metric(_));
            if without_prompts {
                let equal = Clause { comparison: Comparison::Equal, ..clause.clone() };
                push_comparison(query, "x.value", numeric, &equal);
            } else if let Some(escaped) = escaped_by_json(name, clause) {
                query.push("(");
                push_comparison(query, "x.value", numeric, clause);
                query.push(" OR ");
                push_comparison(query, "x.value", numeric, &escaped);
                query.push(")");
            } else {
                push_comparison(query, "x.value", numeric, clause);
            }
            if numeric {
                // Postgres holds NaN for greater than every number; a search does not.
                query.push(" AND x.value <> 'NaN'");
            }
        }
        query.push(")");
    }

    /// Adds the ORDER BY.
    pub(crate) fn push_order(&self, query: &mut QueryBuilder<Postgres>, orders: &[Order]) {
        query.push(" ORDER BY ");
        if orders.is_empty() {
            query.push(self.default);
            return;
        }
        for (index, order) in orders.iter().enumerate() {
            let direction = if order.ascending { "ASC" } else { "DESC" };
            match &order.key {
                Key::Attribute(name) => {
                    let (column, _) = self.attribute(name);
                    query.push(format!("({column} IS NULL), {column} {direction}, "));
                }
                Key::Metric(_) => {
                    // Numbers first, then NaN, then runs without the metric, whichever the direction.
                    query.push(format!(
                        "CASE WHEN o{index}.value IS NULL THEN 2 WHEN o{index}.value = 'NaN' THEN 1 ELSE 0 \
                         END, o{index}.value {direction}, "
                    ));
                }
                _ => {
                    query.push(format!("(o{index}.value IS NULL), o{index}.value {direction}, "));
                }
            }
        }
        query.push(self.ties);
    }
}

/// Adds ` AND …` for what the caller may see, by a column of experiments or of models' names.
pub(crate) fn push_visible<T>(query: &mut QueryBuilder<Postgres>, column: &str, visible: &Visible<T>)
where
    T: Clone + Send + Sync + 'static,
    Vec<T>: for<'q> sqlx::Encode<'q, Postgres> + sqlx::Type<Postgres>,
{
    if let Visible::These(these) = visible {
        query.push(format!(" AND {column} = ANY(")).push_bind(these.clone()).push(")");
    }
}

/// Adds ` AND …` for each clause on a metric whose value is in that column.
pub(crate) fn push_values(query: &mut QueryBuilder<Postgres>, column: &str, clauses: &[Clause]) {
    for clause in clauses {
        query.push(" AND ");
        push_comparison(query, column, true, clause);
    }
}

fn push_dataset(query: &mut QueryBuilder<Postgres>, field: &str, clause: &Clause) {
    let column = match field {
        "name" => "d.name",
        "digest" => "d.digest",
        _ => "x.tags->>'mlflow.data.context'",
    };
    query.push(
        "EXISTS (SELECT 1 FROM run_datasets x JOIN datasets d USING (dataset_key) \
         WHERE x.run_key = r.run_key AND ",
    );
    push_comparison(query, column, false, clause);
    query.push(")");
}

/// A clause on the tag of logged tables as its JSON writes the text: `é` is `\u00e9`. `mlflow.load_table`
/// asks for the plain name, and would find no table whose name is not ASCII.
fn escaped_by_json(name: &str, clause: &Clause) -> Option<Clause> {
    let patterned = matches!(clause.comparison, Comparison::Like | Comparison::ILike);
    let Operand::Text(text) = &clause.operand else { return None };
    if name != LOGGED_ARTIFACTS_TAG || !patterned || text.is_ascii() {
        return None;
    }
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            escaped.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
    }
    Some(Clause { operand: Operand::Text(escaped), ..clause.clone() })
}

fn push_comparison(query: &mut QueryBuilder<Postgres>, column: &str, numeric: bool, clause: &Clause) {
    let operator = match clause.comparison {
        Comparison::Equal => " = ",
        Comparison::NotEqual => " <> ",
        Comparison::Less => " < ",
        Comparison::LessOrEqual => " <= ",
        Comparison::Greater => " > ",
        Comparison::GreaterOrEqual => " >= ",
        Comparison::Like => " LIKE ",
        Comparison::ILike => " ILIKE ",
        Comparison::In => " = ANY(",
        Comparison::NotIn => " <> ALL(",
        Comparison::IsNull => " IS NULL",
        Comparison::IsNotNull => " IS NOT NULL",
    };
    query.push(column).push(operator);
    match &clause.operand {
        Operand::Nothing => {}
        Operand::Number(number) if numeric && !column.ends_with(".value") => push_integer(query, *number),
        Operand::Number(number) => {
            query.push_bind(*number);
        }
        Operand::Text(text) => {
            query.push_bind(text.clone());
            if matches!(clause.comparison, Comparison::Like | Comparison::ILike) {
                // As in MLflow on SQLite, its default: no escape character, a backslash is a character like
                // any other.
                query.push(" ESCAPE ''");
            }
        }
        Operand::List(values) => {
            query.push_bind(values.clone()).push(")");
        }
    }
}

/// A whole number is bound as one, so that the column's index can be used.
fn push_integer(query: &mut QueryBuilder<Postgres>, number: f64) {
    if number.fract() == 0.0 && number.abs() <= MAX_EXACT_INTEGER {
        query.push_bind(number as i64);
    } else {
        query.push_bind(number);
    }
}
