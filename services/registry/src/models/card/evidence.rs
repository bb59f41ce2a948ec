//! The sections of a card that tell what others found: reports, approvals, deployments.

use std::fmt::Write as _;

use slipway_domain::registry::report::{MIN_SEGMENT_ROWS, Report};

use super::{table, text};
use crate::models::lineage::Lineage;

/// Writes the sections that have something to tell.
pub(super) fn markdown(card: &mut String, facts: &Lineage) {
    for stored in &facts.known.reports {
        report(card, &stored.body.0);
    }
    if !facts.known.approvals.is_empty() {
        card.push_str("\n## Approvals\n");
        let approvals = facts.known.approvals.iter();
        let rows = approvals.map(|one| (one.approver.as_str(), one.comment.as_deref().unwrap_or_default()));
        table(card, &["by", "comment"], rows);
    }
    let places = facts.places();
    if !places.is_empty() {
        card.push_str("\n## Deployments\n");
        let rows = places.iter().map(|place| (place.deployment.as_str(), place.role));
        table(card, &["deployment", "role"], rows);
    }
}

fn report(card: &mut String, report: &Report) {
    let _ = write!(card, "\n## Report {}\n\n", text(&report.name));
    let (data, digest) = (text(&report.dataset.name), text(&report.dataset.digest));
    let _ = writeln!(card, "{} rows of {data} (`{digest}`).", report.rows);
    let latency = ["latency.p50_ms", "latency.p95_ms", "latency.p99_ms"];
    let latency = latency.into_iter().filter_map(|name| Some((name, report.metric(name)?)));
    let metrics = report.metrics.iter().map(|(name, value)| (name.as_str(), *value));
    let rows = metrics.chain(latency).map(|(name, value)| (name, value.to_string()));
    table(card, &["metric", "value"], rows);
    let gaps = report.gaps(MIN_SEGMENT_ROWS);
    if gaps.is_empty() {
        return;
    }
    card.push_str("\n| gap of, by | greatest − least | greatest at | least at |\n|---|---|---|---|\n");
    for gap in gaps {
        let _ = writeln!(
            card,
            "| {}, {} | {} | {}: {} | {}: {} |",
            text(&gap.metric),
            text(&gap.attribute),
            gap.gap,
            text(&gap.greatest_at),
            gap.greatest,
            text(&gap.least_at),
            gap.least
        );
    }
}
