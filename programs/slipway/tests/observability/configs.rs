//! Configurations of programs that no test can run: what they refer to is there, and they agree with each
//! other.

use serde_json::Value;

use crate::declared::root;
use crate::rules::yaml;

fn names(value: &Value) -> Vec<&str> {
    value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn pipelines_of_the_collector_have_their_parts_and_no_part_is_without_a_pipeline() {
    let collector = yaml(&root().join("deploy/otel/collector.yaml"));
    let pipelines = collector["service"]["pipelines"].as_object().unwrap();
    for (kind, part) in [("receivers", "receivers"), ("processors", "processors"), ("exporters", "exporters")]
    {
        let defined = names(&collector[kind]);
        let used: Vec<&str> = pipelines
            .values()
            .flat_map(|pipeline| pipeline[part].as_array().into_iter().flatten())
            .filter_map(Value::as_str)
            .collect();
        for name in &used {
            assert!(defined.contains(name), "a pipeline has {name}, which is not among the {kind}");
        }
        for name in &defined {
            assert!(used.contains(name), "no pipeline has {name} of the {kind}");
        }
    }
    for signal in ["traces", "metrics", "logs/received", "logs/files"] {
        assert!(pipelines.contains_key(signal), "no pipeline for {signal}");
    }
    let extensions = collector["service"]["extensions"].as_array().unwrap();
    for extension in extensions {
        assert!(names(&collector["extensions"]).contains(&extension.as_str().unwrap()), "{extension}");
    }
}

#[test]
fn loki_takes_otlp_and_few_labels() {
    let loki = yaml(&root().join("deploy/loki/loki.yaml"));
    let limits = &loki["limits_config"];
    assert_eq!(limits["allow_structured_metadata"], true, "OTLP requires it");
    let labels = limits["otlp_config"]["resource_attributes"]["attributes_config"][0]["attributes"].clone();
    assert_eq!(labels, serde_json::json!(["service.name", "k8s.namespace.name"]));
    let schema = &loki["schema_config"]["configs"][0];
    assert_eq!(
        (&schema["store"], &schema["schema"]),
        (&"tsdb".into(), &"v13".into()),
        "metadata requires both"
    );
}

#[test]
fn jobs_of_prometheus_and_of_the_operator_are_those_that_rules_name() {
    let prometheus = yaml(&root().join("deploy/prometheus/prometheus.yml"));
    let jobs: Vec<&str> = prometheus["scrape_configs"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|job| job["job_name"].as_str())
        .collect();
    let services = ["registry", "launcher", "serving", "rollout-controller", "drift-monitor"];
    assert_eq!(jobs, services.map(|service| format!("slipway-{service}")));
    let rules = std::fs::read_to_string(root().join("deploy/prometheus/rules/platform.yml")).unwrap();
    for job in jobs {
        assert!(rules.contains(&format!("absent(up{{job=\"{job}\"}})")), "no alert for a missing {job}");
    }
    let monitors = std::fs::read_to_string(root().join("deploy/prometheus/operator/monitors.yaml")).unwrap();
    for service in services {
        assert!(monitors.contains(service), "the operator does not scrape {service}");
    }
    assert_eq!(monitors.matches("targetLabel: job").count(), 3, "each monitor names the job");
}
