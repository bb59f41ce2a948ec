//! Rules: valid, each alert tested by promtool, on metrics that exist, with a runbook page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::declared::{self, root};
use crate::promql::{self, FOREIGN};

const RUNBOOKS: &str = "https://slipway.example.com/docs/runbooks/";

pub(crate) struct Rule {
    /// Of an alert, or the series that is recorded.
    pub(crate) name: String,
    pub(crate) is_alert: bool,
    pub(crate) expression: String,
    labels: Value,
    annotations: Value,
}

fn folder(name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("deploy/prometheus").join(name)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

pub(crate) fn yaml(path: &std::path::Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for file in folder("rules") {
        for group in yaml(&file)["groups"].as_array().unwrap() {
            for rule in group["rules"].as_array().unwrap() {
                let name = rule["alert"].as_str().or_else(|| rule["record"].as_str()).unwrap();
                rules.push(Rule {
                    name: name.to_owned(),
                    is_alert: rule["alert"].is_string(),
                    expression: rule["expr"].as_str().unwrap().to_owned(),
                    labels: rule["labels"].clone(),
                    annotations: rule["annotations"].clone(),
                });
            }
        }
    }
    rules
}

/// A program of Debian's package `prometheus`; `None`, with a line that says so, where it is not installed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("left out: {name} is not installed (.ci/observability installs it)");
    }
    found
}

fn promtool(arguments: &[&str], files: &[PathBuf]) {
    let Some(promtool) = program("promtool") else { return };
    let output = Command::new(promtool).args(arguments).args(files).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}:\n{out}\n{error}");
}

#[test]
fn promtool_accepts_the_configuration_and_the_rules() {
    promtool(&["check", "config"], &[root().join("deploy/prometheus/prometheus.yml")]);
    promtool(&["check", "rules"], &folder("rules"));
}

#[test]
fn alerts_fire_and_do_not_fire_as_their_tests_say() {
    promtool(&["test", "rules"], &folder("tests"));
}

#[test]
fn every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() {
    let mut tested: BTreeMap<(String, bool), u32> = BTreeMap::new();
    for file in folder("tests") {
        for test in yaml(&file)["tests"].as_array().unwrap() {
            for check in test["promql_expr_test"].as_array().unwrap() {
                let expression = check["expr"].as_str().unwrap();
                let Some((_, rest)) = expression.split_once("ALERTS{alertname=\"") else { continue };
                let name = rest.split('"').next().unwrap().to_owned();
                let fires = check["exp_samples"].as_array().is_some_and(|samples| !samples.is_empty());
                *tested.entry((name, fires)).or_default() += 1;
            }
        }
    }
    for Rule { name, .. } in rules().iter().filter(|rule| rule.is_alert) {
        for fires in [true, false] {
            assert!(tested.contains_key(&(name.clone(), fires)), "{name} has no test, fires: {fires}");
        }
    }
    let alerts: BTreeSet<String> =
        rules().into_iter().filter(|rule| rule.is_alert).map(|rule| rule.name).collect();
    for (name, _) in tested.keys() {
        assert!(alerts.contains(name), "a test names {name}, which is no alert");
    }
}

#[test]
fn every_alert_says_what_happens_and_has_a_page() {
    let mut alerts = BTreeSet::new();
    for Rule { name, labels, annotations, .. } in rules().into_iter().filter(|rule| rule.is_alert) {
        for annotation in ["summary", "description"] {
            let text = annotations[annotation].as_str().unwrap_or_default();
            assert!(text.len() > 15, "{name} has no {annotation}");
        }
        assert!(matches!(labels["severity"].as_str(), Some("page" | "ticket")), "{name}: {labels}");
        assert_eq!(annotations["runbook_url"], format!("{RUNBOOKS}{name}.md"));
        let page = root().join(format!("docs/runbooks/{name}.md"));
        let text =
            std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        for part in [
            &format!("# {name}\n"),
            "\n## Meaning\n",
            "\n## Impact\n",
            "\n## What to look at\n",
            "\n## What to do\n",
        ] {
            assert!(text.contains(part), "{} has no {part:?}", page.display());
        }
        alerts.insert(format!("{name}.md"));
    }
    alerts.insert("README.md".to_owned());
    let pages = std::fs::read_dir(root().join("docs/runbooks")).unwrap();
    let pages: BTreeSet<String> =
        pages.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(pages, alerts, "one page for each alert");
}

/// Names of an expression that neither the code nor another rule makes.
pub(crate) fn unknown(expression: &str) -> Vec<String> {
    let (declared, recorded) = (&*declared::ALL, rules());
    promql::metrics(expression)
        .into_iter()
        .filter(|name| {
            let is_recorded = recorded.iter().any(|rule| !rule.is_alert && rule.name == *name);
            let is_foreign = FOREIGN.iter().any(|(foreign, _)| foreign == name);
            let is_declared = declared.contains_key(name) || {
                let family = promql::family(name);
                family != name && declared.get(family).is_some_and(|found| found.kind == "histogram")
            };
            !is_declared && !is_recorded && !is_foreign
        })
        .collect()
}

#[test]
fn rules_and_runbooks_name_metrics_that_exist() {
    for rule in rules() {
        assert_eq!(unknown(&rule.expression), [""; 0], "{}", rule.name);
    }
    for page in std::fs::read_dir(root().join("docs/runbooks")).unwrap() {
        let path = page.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let queries = text.split("```promql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        for query in queries {
            assert_eq!(unknown(query), [""; 0], "{}", path.display());
        }
    }
}

#[test]
fn names_of_metrics_are_in_the_code() {
    let literals = declared::literals();
    for name in crate::collected::COLLECTED.map(|(name, ..)| name) {
        let is_named = |literal: &String| {
            let literal = literal.replace("{service}", "serving");
            !literal.is_empty() && name.contains(literal.as_str()) && literal.len() > 12
        };
        assert!(literals.iter().any(is_named), "{name} is not in the code");
    }
}
