//! docs/metrics.md: every metric, its labels, and how many values each of them can have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::declared::{self, Declared};

const PAGE: &str = "docs/metrics.md";
const WRITE: &str = "SLIPWAY_TEST_WRITE";

/// Labels, and what bounds their values.
const LABELS: [(&str, &str); 25] = [
    ("action", "2: `pause-rollout`, `submit-job`"),
    ("column", "the first 100 columns of a monitor; removed with the monitor"),
    ("deployment", "deployments; a replica of serving has those that it serves"),
    ("device", "GPUs of the machine"),
    ("fault", "6 kinds of fault drills"),
    ("kind", "2: `feature`, `prediction`"),
    ("method", "10: the methods of HTTP, and `OTHER`"),
    ("model", "as `deployment`, under Triton's name for it"),
    ("monitor", "monitors; removed with the monitor"),
    ("noticed", "2: `true`, `false`"),
    ("outcome", "at most 8, fixed in the code"),
    ("phase", "4: `promoted`, `rolled_back`, `failed`, `aborted`"),
    ("reason", "at most 5, fixed in the code"),
    ("resource", "3: `cpus`, `memory_bytes`, `gpus`"),
    ("route", "patterns of the routes of a service, names in place of ids; `unmatched` for others"),
    ("state", "3: `waiting_for_baseline`, `watching`, `drifted`"),
    ("status", "statuses of HTTP that a service returns; 10 statuses of jobs"),
    ("target", "2: `copies`, `answers`"),
    ("token", "tokens of the token file"),
    ("variant", "4: `stable`, `candidate`, `shadow`, `pinned`"),
    ("verdict", "3"),
    ("version", "versions that a replica has served since its start; 1 for `slipway_build_info`"),
    ("what", "2: `detected`, `cleared`"),
    ("le", "buckets of a histogram: 17 for requests, 24 for times of predictions, 12 for rows"),
    ("instance", "added by Prometheus: replicas"),
];

const TITLES: [(&str, &str); 6] = [
    ("several", "Several services"),
    ("registry", "Registry"),
    ("launcher", "Launcher"),
    ("serving", "Serving"),
    ("rollout-controller", "Rollout controller"),
    ("drift-monitor", "Drift monitor"),
];

const HEAD: &str = "# Metrics

Every service has these metrics at `/metrics` (serving on port 8002): as OpenMetrics text, and as Prometheus'
protobuf messages with native histograms for scrapers that request them. This page is written from the code:
`SLIPWAY_TEST_WRITE=1 cargo test -p slipway --test observability document`.

Counters end in `_total`, times are in seconds and sizes in bytes. Histograms have `_bucket`, `_sum` and
`_count`. A series with labels exists from its first value on; those that alerts count exist from the start.
[observability.md](observability.md) has rules, dashboards, logs and traces;
[serving/metrics.md](serving/metrics.md) explains those of serving.
";

const LABELS_HEAD: &str = "
## Labels

A request cannot invent a value of a label. The number of series is bounded by:

| label | values |
|---|---|
";

fn page(metrics: &BTreeMap<String, Declared>) -> String {
    let mut page = HEAD.to_owned();
    for (service, title) in TITLES {
        let own: Vec<&Declared> = metrics.values().filter(|metric| metric.service == service).collect();
        if own.is_empty() {
            continue;
        }
        let _ = write!(page, "\n## {title}\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n");
        for Declared { name, kind, labels, help, .. } in own {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(page, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
        }
    }
    page += LABELS_HEAD;
    for (label, bound) in LABELS {
        let _ = writeln!(page, "| `{label}` | {bound} |");
    }
    page
}

#[test]
fn the_document_lists_the_metrics_of_the_code() {
    let written = page(&declared::ALL);
    let path = declared::root().join(PAGE);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == written, "{PAGE} is not up to date: run this test with {WRITE}=1");
}

#[test]
fn the_document_bounds_every_label() {
    let bounded: BTreeSet<&str> = LABELS.iter().map(|(label, _)| *label).collect();
    let metrics = &declared::ALL;
    let used: BTreeSet<&str> = metrics
        .values()
        .flat_map(|metric| &metric.labels)
        .map(String::as_str)
        .chain(["le", "instance"])
        .collect();
    assert_eq!(used, bounded);
}

#[test]
fn names_of_metrics_say_their_units() {
    for Declared { name, kind, .. } in declared::ALL.values() {
        assert_eq!(name.ends_with("_total"), *kind == "counter", "{name} is a {kind}");
        let has_old_unit = ["_ms", "_millis", "_mib", "_percentage"].iter().any(|unit| name.ends_with(unit));
        assert!(
            !has_old_unit,
            "{name}: times are in seconds, sizes in bytes, shares from 0 to 1 or in percent"
        );
    }
}
