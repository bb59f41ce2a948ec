//! The schema of the values, and the page that is made of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::chart::{check_generated, text};

const PAGE: &str = "docs/helm-values.md";
const HEAD: &str = "# Values of the Helm chart

Written from `helm/slipway/values.schema.json` and the defaults of the charts by
`SLIPWAY_WRITE_DOCS=1 cargo test -p slipway --test helm`. [install.md](install.md) says which of them an
installation needs. Helm refuses values that are not listed here.
";
/// Values under these names, with the folder of the subchart and the title of their section.
const SECTIONS: [(&str, &str, &str); 8] = [
    ("registry", "registry", "Registry"),
    ("launcher", "launcher", "Launcher"),
    ("serving", "serving", "Serving pool"),
    ("rolloutController", "rollout-controller", "Rollout controller"),
    ("driftMonitor", "drift-monitor", "Drift monitor"),
    ("postgres", "postgres", "Postgres for evaluation"),
    ("nats", "nats", "NATS for evaluation"),
    ("s3", "s3", "S3 for evaluation"),
];

fn schema() -> Value {
    serde_json::from_str(&text("helm/slipway/values.schema.json")).unwrap()
}

/// A schema with what it refers to.
fn resolved(all: &Value, schema: &Value) -> Value {
    let Some(reference) = schema["$ref"].as_str() else { return schema.clone() };
    let mut found =
        all.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference}")).clone();
    if let (Some(description), Some(found)) = (schema.get("description"), found.as_object_mut()) {
        found.insert("description".to_owned(), description.clone());
    }
    found
}

/// Calls `each` for every value of the schema that has no values of its own.
fn walk(all: &Value, path: &str, schema: &Value, each: &mut impl FnMut(&str, &Value)) {
    let schema = resolved(all, schema);
    // Helm adds these to the values of each subchart.
    if path == "global" {
        return;
    }
    assert!(schema["description"].is_string(), "{path} has no description");
    if schema["type"] == "object" {
        assert!(
            schema.get("additionalProperties").is_some() || schema.get("properties").is_none(),
            "{path} accepts unknown keys"
        );
    }
    if let Some(properties) = schema["properties"].as_object() {
        assert_eq!(schema["additionalProperties"], false, "{path} accepts unknown keys");
        for (name, property) in properties {
            let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            walk(all, &inner, property, each);
        }
        return;
    }
    each(path, &schema);
    if schema["items"]["properties"].is_object() && schema["items"].get("description").is_some() {
        walk(all, &format!("{path}[]"), &schema["items"], each);
    }
}

fn default_of(defaults: &Value, path: &str) -> String {
    let pointer = format!("/{}", path.replace('.', "/"));
    match defaults.pointer(&pointer) {
        None => String::new(),
        Some(Value::String(text)) if text.is_empty() => String::new(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(Value::Array(list)) if list.is_empty() => String::new(),
        Some(Value::Object(map)) if map.is_empty() => String::new(),
        Some(value) => format!("`{value}`"),
    }
}

fn rows(all: &Value, name: &str, defaults: &Value) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    walk(all, "", &resolved(all, &all["properties"][name]), &mut |path, schema| {
        let meaning = schema["description"].as_str().unwrap().trim_end_matches('.').replace('|', "\\|");
        rows.push((path.to_owned(), format!("{meaning} | {}", default_of(defaults, path))));
    });
    rows
}

fn table(page: &mut String, title: &str, prefix: &str, rows: &[(String, String)]) {
    write!(page, "\n## {title}\n\n| value | meaning | default |\n|---|---|---|\n").unwrap();
    for (path, rest) in rows {
        writeln!(page, "| `{prefix}{path}` | {} |", rest.trim_end()).unwrap();
    }
}

#[test]
fn every_value_is_described_and_nothing_else_is_accepted() {
    let all = schema();
    let globals: Value = serde_saphyr::from_str(&text("helm/slipway/values.yaml")).unwrap();
    let mut page = HEAD.to_owned();
    table(&mut page, "Shared by all services", "global.", &rows(&all, "global", &globals["global"]));
    let defaults: BTreeMap<&str, Value> = SECTIONS
        .into_iter()
        .map(|(name, folder, _)| {
            let path = format!("helm/slipway/charts/{folder}/values.yaml");
            (name, serde_saphyr::from_str(&text(&path)).unwrap())
        })
        .collect();
    // The drift monitor has nothing that the others do not have.
    let common = rows(&all, "driftMonitor", &defaults["driftMonitor"]);
    let own =
        |(path, _): &&(String, String)| !path.starts_with("image.repo") && !path.starts_with("resources");
    let shown: Vec<_> = common.iter().filter(own).cloned().collect();
    table(&mut page, "Each service", "SERVICE.", &shown);
    for (name, _, title) in SECTIONS {
        let own: Vec<_> =
            rows(&all, name, &defaults[name]).into_iter().filter(|row| !shown.contains(row)).collect();
        table(&mut page, title, &format!("{name}."), &own);
    }
    check_generated(PAGE, &page);
}

#[test]
fn every_default_is_in_the_schema() {
    let all = schema();
    fn check(all: &Value, path: &str, schema: &Value, value: &Value) {
        let schema = resolved(all, schema);
        let Some(properties) = schema["properties"].as_object() else { return };
        for (name, value) in value.as_object().into_iter().flatten() {
            let property =
                properties.get(name).unwrap_or_else(|| panic!("{path}.{name} is not in the schema"));
            check(all, &format!("{path}.{name}"), property, value);
        }
    }
    let globals: Value = serde_saphyr::from_str(&text("helm/slipway/values.yaml")).unwrap();
    check(&all, "", &all, &globals);
    for (name, folder, _) in SECTIONS {
        let path = format!("helm/slipway/charts/{folder}/values.yaml");
        check(&all, name, &all["properties"][name], &serde_saphyr::from_str(&text(&path)).unwrap());
    }
}
