//! Names of metrics in expressions of Prometheus.

use std::collections::BTreeSet;

/// Metrics that other programs expose, and why expressions name them.
pub(crate) const FOREIGN: [(&str, &str); 5] = [
    ("up", "Prometheus: whether a target could be scraped"),
    ("ALERTS", "Prometheus: alerts that are pending or fire"),
    ("DCGM_FI_DEV_GPU_UTIL", "NVIDIA's DCGM exporter: use of a GPU by all processes"),
    ("DCGM_FI_DEV_FB_USED", "NVIDIA's DCGM exporter: memory of a GPU in use"),
    ("DCGM_FI_DEV_POWER_USAGE", "NVIDIA's DCGM exporter: power of a GPU"),
];

/// Words of an expression that look like names of metrics.
pub(crate) fn metrics(expression: &str) -> BTreeSet<String> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':');
    let unquoted: String = expression.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    let words = unquoted.split(|letter: char| !is_letter(letter));
    let prefixes = ["slipway_", "slipway:", "process_", "nv_", "DCGM_"];
    let named = |word: &&str| {
        prefixes.iter().any(|prefix| word.starts_with(prefix)) || matches!(*word, "up" | "ALERTS")
    };
    words.filter(named).map(str::to_owned).collect()
}

/// The metric that a series belongs to: without what histograms add.
pub(crate) fn family(series: &str) -> &str {
    ["_bucket", "_sum", "_count"]
        .into_iter()
        .find_map(|suffix| {
            series.strip_suffix(suffix).filter(|name| name.ends_with("_seconds") || name.ends_with("_rows"))
        })
        .unwrap_or(series)
}

#[test]
fn names_are_found_outside_of_strings_and_labels() {
    let found = metrics("sum by (job) (rate(slipway_a_total{route=\"slipway_b\"}[5m])) / slipway:c:rate5m");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["slipway:c:rate5m", "slipway_a_total"]);
    assert_eq!(family("slipway_serving_seconds_bucket"), "slipway_serving_seconds");
    assert_eq!(family("nv_inference_count"), "nv_inference_count");
}
