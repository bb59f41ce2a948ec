//! A running platform that the real Prometheus scrapes: the metrics of its services are those of the
//! document, and every query of every dashboard returns data.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::dashboards::{self, PROMETHEUS, Query};
use crate::declared;
use crate::exposed;
use crate::platform::Platform;
use crate::prometheus::{ENDPOINTS, Prometheus};
use crate::rules::{program, rules};
use crate::story;

/// Queries that return nothing here, by a part of them, and why. An entry that is no longer needed fails the
/// test.
const WITHOUT_DATA: [(&str, &str); 5] = [
    ("DCGM_FI_", "there is no GPU, and NVIDIA's exporter does not run"),
    ("slipway_serving_gpu_use_percent", "no version runs on a GPU"),
    ("slipway_serving_model_device_memory_bytes", "no version runs on a GPU"),
    ("_tls_certificate_expires_timestamp_seconds", "`slipway up` serves plain text"),
    ("severity_text", "logs are in Loki, which has no package for tests"),
];
/// A query has data within this time after the story.
const PATIENCE: Duration = Duration::from_secs(60);
/// Alerts that the story makes active.
const FIRING: [&str; 4] = ["SlipwayDrift", "SlipwayJobFailed", "SlipwayRolloutFailed", "SlipwayRowsRepeated"];

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboards_returns_data_from_a_running_platform() {
    let Some(program) = program("prometheus") else { return };
    let _alone = crate::ONE_PLATFORM.lock().await;
    let platform = Platform::start(&[]);
    let prometheus = Prometheus::start(program, &platform).await;
    let client = Client::new(&platform);
    let told = story::tell(&client).await;

    documented(&client, &platform).await;
    let silent = silent(&prometheus).await;
    assert!(silent.is_empty(), "no data within {} s:\n{}", PATIENCE.as_secs(), silent.join("\n"));
    for dashboard in dashboards::all() {
        for (label, series) in dashboard.choices() {
            let values = prometheus.values(&label, &series).await;
            assert!(!values.is_empty(), "{}: no values of {label} of {series}", dashboard.file);
        }
    }
    recorded(&prometheus).await;
    firing(&prometheus).await;
    let failures = told.traffic.stop().await;
    assert!(failures.is_empty(), "{failures:?}");
}

/// Metrics of the services are those of the document, with its labels and texts.
async fn documented(client: &Client, platform: &Platform) {
    let mut seen = 0;
    for (job, endpoint) in ENDPOINTS {
        let url = format!("{}/metrics", platform.endpoint(endpoint));
        let text = client.http.get(url).send().await.unwrap().text().await.unwrap();
        for (name, exposed) in exposed::read(&text) {
            let declared =
                declared::ALL.get(&name).unwrap_or_else(|| panic!("{job}: {name} is not in docs/metrics.md"));
            assert_eq!(exposed.kind, declared.kind, "{job}: {name}");
            assert_eq!(exposed.help, declared.help, "{job}: {name}");
            for labels in exposed.labels {
                assert_eq!(labels, declared.labels, "{job}: {name}");
            }
            let service = job.trim_start_matches("slipway-");
            assert!(declared.service == "several" || declared.service == service, "{job} has {name}");
            seen += 1;
        }
    }
    assert!(seen > 80, "the services have {seen} metrics");
}

/// Queries that have no data in time, and exceptions that have some.
async fn silent(prometheus: &Prometheus) -> Vec<String> {
    let started = Instant::now();
    let mut silent = Vec::new();
    for dashboard in dashboards::all() {
        for Query { at, source, expression } in dashboard.queries() {
            let expression = dashboard.filled(&expression);
            let exception = WITHOUT_DATA.iter().find(|(part, _)| expression.contains(part));
            if source != PROMETHEUS {
                assert!(exception.is_some(), "{at}: {expression}");
                continue;
            }
            let mut found = prometheus.query(&expression).await;
            while found.is_empty() && exception.is_none() && started.elapsed() < PATIENCE {
                tokio::time::sleep(Duration::from_millis(500)).await;
                found = prometheus.query(&expression).await;
            }
            match exception {
                None if found.is_empty() => silent.push(format!("{at}: {expression}")),
                Some((part, _)) if !found.is_empty() => silent.push(format!("{at} has data; remove {part}")),
                _ => {}
            }
        }
    }
    silent
}

/// Every recording rule makes a series.
async fn recorded(prometheus: &Prometheus) {
    for rule in rules().iter().filter(|rule| !rule.is_alert) {
        assert!(!prometheus.query(&rule.name).await.is_empty(), "{} records nothing", rule.name);
    }
}

/// Alerts about what the story did are pending or fire, and no alert says that a part of the platform fails.
async fn firing(prometheus: &Prometheus) {
    let active = prometheus.query("count by (alertname, severity) (ALERTS{alertname=~\"Slipway.+\"})").await;
    let names: Vec<&str> = active.iter().filter_map(|one| one["metric"]["alertname"].as_str()).collect();
    for name in FIRING {
        assert!(names.contains(&name), "{name} is not active: {names:?}");
    }
    for name in
        ["SlipwayDown", "SlipwayAbsent", "SlipwayLeaderless", "SlipwayOutboxLag", "SlipwayApiErrorBudgetBurn"]
    {
        assert!(!names.contains(&name), "{name} is active: {names:?}");
    }
}
