//! Rules that every document keeps. For tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use slipway_http_server::health;
use utoipa::openapi::OpenApi;

use crate::page::{escape, page};
use crate::router::DocumentedRouter;
use crate::serve::mount;

const WRITE_VARIABLE: &str = "SLIPWAY_WRITE_DOCS";

/// What is wrong with the document of a router; empty where nothing is. Handlers that are mounted without a
/// description are defects, as are operations without a summary or tag, and references that lead nowhere.
pub fn defects<S: Clone + Send + Sync + 'static>(described: impl Fn() -> DocumentedRouter<S>) -> Vec<String> {
    let document = serde_json::to_value(crate::document(described())).unwrap_or_default();
    let mut defects = Vec::new();
    // The HTTP server adds these.
    let described_paths: BTreeMap<String, BTreeSet<String>> = items(&document)
        .filter(|(path, _)| !health::PATHS.contains(&path.as_str()))
        .map(|(path, item)| {
            (path.clone(), item.as_object().into_iter().flatten().map(|(method, _)| method.clone()).collect())
        })
        .collect();
    let mounted = mounted(&mount(described()));
    if described_paths != mounted {
        defects.push(format!("described: {described_paths:?}, but mounted: {mounted:?}"));
    }
    if document["openapi"] != "3.1.0" {
        defects.push(format!("version {}", document["openapi"]));
    }
    let mut names = BTreeSet::new();
    for (path, item) in items(&document) {
        for (method, operation) in item.as_object().into_iter().flatten() {
            check_operation(operation, &format!("{method} {path}"), &mut names, &mut defects);
        }
    }
    let page = page(&document);
    defects.extend(
        items(&document)
            .filter(|(path, _)| !page.contains(&escape(path)))
            .map(|(path, _)| format!("the page lacks {path}")),
    );
    if page.contains("<script") {
        defects.push("the page has a script".to_owned());
    }
    for rest in document.to_string().split("\"$ref\":\"#").skip(1) {
        let pointer = rest.split('"').next().unwrap_or_default();
        if document.pointer(pointer).is_none() {
            defects.push(format!("{pointer} leads nowhere"));
        }
    }
    defects
}

/// Schemas of components, request bodies and responses that describe nothing; empty where all are typed.
///
/// `free` lists what holds any JSON by intent: schemas, and fields as `Schema.field`.
pub fn untyped(document: &OpenApi, free: &[&str]) -> Vec<String> {
    let document = serde_json::to_value(document).unwrap_or_default();
    Untyped { document: &document, free }.find()
}

/// Compares the document with `docs/openapi/<name>.json`, or writes it there when `SLIPWAY_WRITE_DOCS` is
/// set.
///
/// # Errors
/// The committed document is another one, or cannot be written.
pub fn committed(document: &OpenApi, name: &str) -> Result<(), String> {
    let value = serde_json::to_value(document).map_err(|error| error.to_string())?;
    let text = format!("{value:#}\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi").join(format!("{name}.json"));
    if std::env::var_os(WRITE_VARIABLE).is_some() {
        return std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()));
    }
    if std::fs::read_to_string(&path).unwrap_or_default() == text {
        Ok(())
    } else {
        Err(format!("docs/openapi/{name}.json is out of date; `cargo xtask codegen` writes it"))
    }
}

fn items(document: &Value) -> impl Iterator<Item = (&String, &Value)> {
    document["paths"].as_object().into_iter().flatten()
}

fn check_operation(operation: &Value, name: &str, names: &mut BTreeSet<String>, defects: &mut Vec<String>) {
    if !operation["summary"].is_string() {
        defects.push(format!("{name} has no doc comment"));
    }
    if operation["tags"][0].as_str().unwrap_or_default().is_empty() {
        defects.push(format!("{name} has no tag"));
    }
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    if !names.insert(id.clone()) {
        defects.push(format!("{name}: another operation is called {id}"));
    }
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        if status.starts_with(['4', '5'])
            && response["content"].as_object().is_none_or(serde_json::Map::is_empty)
        {
            defects.push(format!("{name}: {status} has no content"));
        }
        for (kind, content) in response["content"].as_object().into_iter().flatten() {
            if content["schema"].is_null() {
                defects.push(format!("{name}: {status} {kind} has no schema"));
            }
        }
    }
}

/// Finds schemas that describe nothing.
struct Untyped<'document> {
    document: &'document Value,
    free: &'document [&'document str],
}

impl Untyped<'_> {
    fn find(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, schema) in self.document["components"]["schemas"].as_object().into_iter().flatten() {
            self.walk(schema, name, &mut found);
        }
        for (path, item) in items(self.document) {
            // The document describes itself.
            if path.ends_with("/openapi.json") {
                continue;
            }
            for (method, operation) in item.as_object().into_iter().flatten() {
                let responses = operation["responses"].as_object().into_iter().flatten();
                let holders = responses.map(|(status, response)| (status.as_str(), response));
                for (holder, described) in holders.chain([("body", &operation["requestBody"])]) {
                    for (kind, content) in described["content"].as_object().into_iter().flatten() {
                        if kind.contains("json") {
                            self.walk(&content["schema"], &format!("{method} {path} {holder}"), &mut found);
                        }
                    }
                }
            }
        }
        found
    }

    fn walk(&self, schema: &Value, name: &str, found: &mut Vec<String>) {
        if self.free.contains(&name) {
            return;
        }
        let has = |key: &str| schema.get(key).is_some();
        let kind = schema["type"].as_str().or_else(|| {
            let kinds = schema["type"].as_array()?;
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null")
        });
        let is_typed = match kind {
            // Without fields by intent, where no others are allowed.
            Some("object") => {
                let more = &schema["additionalProperties"];
                has("properties") || more.is_object() || *more == false
            }
            Some("array") => has("items") || has("prefixItems"),
            Some(_) => true,
            None => ["$ref", "oneOf", "anyOf", "allOf", "enum", "const"].iter().any(|key| has(key)),
        };
        if !is_typed {
            found.push(format!("{name} is not typed"));
        }
        for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
            self.walk(inner, &format!("{name}.{field}"), found);
        }
        for inner in [&schema["items"], &schema["additionalProperties"]] {
            if inner.is_object() {
                self.walk(inner, name, found);
            }
        }
        for key in ["oneOf", "anyOf", "allOf"] {
            for inner in schema[key].as_array().into_iter().flatten().filter(|inner| inner["type"] != "null")
            {
                self.walk(inner, name, found);
            }
        }
    }
}

/// Paths and methods of a router, as its debug form shows them: axum has no other way to walk it.
fn mounted<S>(router: &axum::Router<S>) -> BTreeMap<String, BTreeSet<String>> {
    let text = format!("{router:?}");
    let own = text.split("fallback_router").next().unwrap_or_default();
    let Some((routes, rest)) = own.split_once("node: Node") else { return BTreeMap::new() };
    let methods = entries(routes).into_values().map(|route| -> BTreeSet<String> {
        let allowed = route.split("allow_header: Bytes(b\"").nth(1).and_then(|rest| rest.split('"').next());
        let allowed = allowed.unwrap_or_default().split(',');
        allowed.filter(|method| *method != "HEAD").map(str::to_lowercase).collect()
    });
    let paths = entries(rest)
        .into_values()
        .filter_map(|entry| Some(entry.strip_prefix('"')?.split('"').next()?.to_owned()));
    // A wildcard is a fallback of a protocol, not an operation.
    paths.zip(methods).filter(|(path, _)| !path.contains("{*")).collect()
}

fn entries(text: &str) -> BTreeMap<usize, String> {
    let entries = text.split("RouteId(").skip(1);
    entries
        .filter_map(|entry| {
            let (id, rest) = entry.split_once("): ")?;
            Some((id.parse().ok()?, rest.to_owned()))
        })
        .collect()
}
