//! Files that the chart has of elsewhere.

use slipway_kubernetes_testkit::Helm;

use crate::chart::{check_generated, folder, text, values};

/// Roles and definitions, which the code determines, by subchart.
const COPIES: [(&str, &[&str]); 2] = [
    ("launcher", &["launcher-role", "trainingjobs"]),
    (
        "rollout-controller",
        &[
            "inferenceservices",
            "kserve-role",
            "modeldeployments",
            "operator-delivery-role",
            "operator-edge-role",
            "operator-role",
        ],
    ),
];

#[test]
fn roles_and_definitions_are_those_of_the_code() {
    for (chart, files) in COPIES {
        let mut found: Vec<String> = std::fs::read_dir(format!("{}/charts/{chart}/files", folder()))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(found, files.iter().map(|file| format!("{file}.yaml")).collect::<Vec<_>>());
        for file in files {
            let path = format!("helm/slipway/charts/{chart}/files/{file}.yaml");
            check_generated(&path, &text(&format!("deploy/kubernetes/{file}.yaml")));
        }
    }
}

#[test]
fn every_chart_has_the_version_of_the_platform() {
    let version = env!("CARGO_PKG_VERSION");
    let charts = std::fs::read_dir(format!("{}/charts", folder())).unwrap();
    let charts = charts.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let charts = charts.map(|name| format!("helm/slipway/charts/{name}/Chart.yaml"));
    for path in charts.chain(["helm/slipway/Chart.yaml".to_owned()]) {
        let chart: serde_json::Value = serde_saphyr::from_str(&text(&path)).unwrap();
        assert_eq!((&chart["version"], &chart["appVersion"]), (&version.into(), &version.into()), "{path}");
        for dependency in chart["dependencies"].as_array().into_iter().flatten() {
            assert_eq!(dependency["version"], version, "{path}");
        }
    }
}

#[test]
fn helm_has_nothing_to_complain_about() {
    let Some(helm) = Helm::own() else { return };
    for name in crate::chart::VALUES {
        let report = helm.run(&["lint", "--strict", "--values", &values(name), &folder()]).unwrap();
        assert!(report.contains("1 chart(s) linted, 0 chart(s) failed"), "{name}: {report}");
        assert!(!report.contains("[WARNING]"), "{name}: {report}");
    }
}

/// The rights of a Role, as rows of the page about rights without their reasons.
fn rights(role: &serde_json::Value) -> Vec<String> {
    let texts = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let of_rule = |rule: &serde_json::Value| -> Vec<String> {
        let verbs = texts(&rule["verbs"]).join(", ");
        let group = texts(&rule["apiGroups"]).concat();
        let called = |resource: String| match (group.as_str(), resource.split_once('/')) {
            ("", _) => resource,
            (group, None) => format!("{resource}.{group}"),
            (group, Some((resource, part))) => format!("{resource}.{group}/{part}"),
        };
        texts(&rule["resources"])
            .into_iter()
            .map(|name| format!("| `{}` | {verbs} | ", called(name)))
            .collect()
    };
    let mut rows: Vec<String> = role["rules"].as_array().unwrap().iter().flat_map(of_rule).collect();
    rows.sort();
    rows
}

#[test]
fn the_page_about_rights_has_every_verb_with_its_reason() {
    let page = text("docs/kubernetes-rights.md");
    for file in COPIES.iter().flat_map(|(_, files)| *files).filter(|file| file.ends_with("-role")) {
        let role = serde_saphyr::from_str(&text(&format!("deploy/kubernetes/{file}.yaml"))).unwrap();
        let rights = rights(&role);
        let title = format!("## {}\n", role["metadata"]["name"].as_str().unwrap());
        let section = page.split_once(&title).unwrap_or_else(|| panic!("no section {title}")).1;
        let section = section.split("\n## ").next().unwrap();
        let mut described: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
        described.sort_unstable();
        assert_eq!(described.len(), rights.len(), "{file}: {described:?}");
        for (row, right) in described.iter().zip(&rights) {
            assert!(row.starts_with(right), "{file}: {row} instead of {right}");
            assert!(row.len() > right.len() + 5, "{row} has no reason");
        }
    }
}
