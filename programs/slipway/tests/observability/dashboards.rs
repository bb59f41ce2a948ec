//! Dashboards: complete JSON, on metrics that exist, with every variable defined.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::declared::root;
use crate::rules::{unknown, yaml};

pub(crate) const PROMETHEUS: &str = "slipway-prometheus";
const LOKI: &str = "slipway-loki";

/// A query of a panel or of a variable.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// Dashboard and panel.
    pub(crate) at: String,
    pub(crate) source: String,
    pub(crate) expression: String,
}

pub(crate) struct Dashboard {
    pub(crate) file: String,
    pub(crate) document: Value,
}

pub(crate) fn all() -> Vec<Dashboard> {
    let folder = root().join("deploy/grafana/dashboards");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let document = serde_json::from_slice(&std::fs::read(path).unwrap());
        Dashboard { document: document.unwrap_or_else(|error| panic!("{file}: {error}")), file }
    };
    paths.iter().map(read).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl Dashboard {
    pub(crate) fn queries(&self) -> Vec<Query> {
        let mut queries = Vec::new();
        for panel in list(&self.document["panels"]) {
            let at = format!("{}: {}", self.file, text(&panel["title"]));
            for target in list(&panel["targets"]) {
                let source = text(&target["datasource"]["uid"]).to_owned();
                queries.push(Query { at: at.clone(), source, expression: text(&target["expr"]).to_owned() });
            }
        }
        queries
    }

    /// Names of variables with what replaces them in a query that means everything.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let variables = list(&self.document["templating"]["list"]).iter();
        let variables = variables.map(|variable| {
            let value = match text(&variable["type"]) {
                "query" => text(&variable["allValue"]),
                _ => text(&variable["current"]["value"]),
            };
            (text(&variable["name"]).to_owned(), value.to_owned())
        });
        variables
            .chain([("__rate_interval".into(), "15s".into()), ("__range".into(), "10m".into())])
            .collect()
    }

    /// A query with the values of all variables.
    pub(crate) fn filled(&self, expression: &str) -> String {
        let mut variables = self.variables();
        // Longest first: one name may begin with another.
        variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        variables.iter().fold(expression.to_owned(), |expression, (name, value)| {
            expression.replace(&format!("${name}"), value)
        })
    }

    /// Labels whose values variables offer: label, and the series that have it.
    pub(crate) fn choices(&self) -> Vec<(String, String)> {
        let queries =
            list(&self.document["templating"]["list"]).iter().filter(|one| text(&one["type"]) == "query");
        queries
            .map(|variable| {
                let query = text(&variable["query"]["query"]);
                let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
                let (series, label) = inner.and_then(|inner| inner.rsplit_once(", ")).unwrap();
                (label.to_owned(), self.filled(series))
            })
            .collect()
    }
}

#[test]
fn dashboards_are_complete() {
    let mut uids = BTreeSet::new();
    for dashboard in all() {
        let (file, document) = (&dashboard.file, &dashboard.document);
        assert!(uids.insert(text(&document["uid"]).to_owned()), "{file}: its uid is that of another one");
        for field in ["uid", "title", "description"] {
            assert!(!text(&document[field]).is_empty(), "{file} has no {field}");
        }
        assert!(document["schemaVersion"].as_u64() >= Some(39), "{file}");
        let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&document["panels"]) {
            let title = text(&panel["title"]);
            assert!(!title.is_empty() && ids.insert(panel["id"].as_u64().unwrap()), "{file}: {title}");
            let place = &panel["gridPos"];
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| place[key].as_u64().unwrap());
            assert!(x + w <= 24 && h > 0, "{file}: {title} is outside of the grid");
            for cell in (y..y + h).flat_map(|row| (x..x + w).map(move |column| (row, column))) {
                assert!(places.insert(cell), "{file}: {title} is on top of another panel");
            }
            let kind = text(&panel["type"]);
            assert!(
                ["row", "timeseries", "stat", "table", "logs"].contains(&kind),
                "{file}: {title} is a {kind}"
            );
            assert_eq!(kind == "row", list(&panel["targets"]).is_empty(), "{file}: {title} has no query");
        }
    }
    assert_eq!(
        uids.iter().map(String::as_str).collect::<Vec<_>>(),
        [
            "slipway-cost",
            "slipway-drift",
            "slipway-platform",
            "slipway-rollouts",
            "slipway-serving",
            "slipway-training"
        ]
    );
}

#[test]
fn queries_name_sources_variables_and_metrics_that_exist() {
    let sources = yaml(&root().join("deploy/grafana/provisioning/datasources/slipway.yaml"));
    let sources: Vec<&str> =
        list(&sources["datasources"]).iter().map(|source| text(&source["uid"])).collect();
    for dashboard in all() {
        for Query { at, source, expression } in dashboard.queries() {
            assert!(sources.contains(&source.as_str()), "{at}: no data source {source}");
            let filled = dashboard.filled(&expression);
            assert!(!filled.contains('$'), "{at}: a variable is not defined: {filled}");
            if source == PROMETHEUS {
                assert_eq!(unknown(&filled), [""; 0], "{at}");
            } else {
                assert_eq!(source, LOKI, "{at}");
            }
        }
        for (_, series) in dashboard.choices() {
            assert_eq!(unknown(&series), [""; 0], "{}", dashboard.file);
        }
    }
}
