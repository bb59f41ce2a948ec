//! One self-contained page with the plots of a demo: no script, no font, nothing fetched.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::measure::{Sample, quantile};
use super::outcome::Told;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 56.0;
const BOTTOM: f64 = 26.0;
const BUCKET_MS: u64 = 500;
/// Distinct also for people who see red and green alike.
const COLOURS: [&str; 6] = ["#4477aa", "#228833", "#ee6677", "#ccbb44", "#66ccee", "#aa3377"];

/// The page.
pub(crate) fn page(told: &Told) -> String {
    let mut html = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Slipway: the \
         loop</title><style>body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#222}table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ddd;padding:.3rem .6rem;text-align:left;vertical-align:top}svg{width:100%;height:auto;background:#fafafa;border:1px solid #ddd}svg \
         text{font-size:12px;fill:#444}.n{text-align:right;font-variant-numeric:tabular-nums}</style><h1>Slipway: \
         the loop</h1>",
    );
    let _ = write!(
        html,
        "<p>{} requests, {} failed, {} answered by a version that was not to answer. The promotion reached \
         the first client after {} ms, the rollback the last one after {} ms. The shift was found after {} \
         windows.</p>",
        told.sent,
        told.failed,
        told.wrong_version,
        told.promotion_ms.map_or_else(|| "–".to_owned(), |ms| ms.to_string()),
        told.rollback_ms,
        told.drift.windows
    );
    html.push_str("<table><tr><th>Step<th class=n>Seconds<th>Outcome</tr>");
    for step in &told.steps {
        let _ = write!(
            html,
            "<tr><td>{}<td class=n>{:.1}<td>{}</tr>",
            escape(&step.name),
            step.seconds,
            escape(&step.outcome)
        );
    }
    html.push_str("</table><h2>Versions</h2><table><tr><th>Version<th>Verdict<th>Why</tr>");
    for version in &told.versions {
        let _ = write!(
            html,
            "<tr><td>{}<td>{}<td>{}</tr>",
            escape(&version.version),
            escape(&version.verdict),
            escape(&version.reason)
        );
    }
    html.push_str("</table><h2>Traffic by version</h2>");
    html.push_str(&split(&told.samples));
    html.push_str("<h2>Latency as the client sees it</h2>");
    html.push_str(&latency(&told.samples));
    html.push_str("<h2>Share of drifted features, by window</h2>");
    html.push_str(&drift(told));
    html.push_str("</html>\n");
    html
}

type Buckets<'sample> = BTreeMap<u64, Vec<&'sample Sample>>;

fn buckets(samples: &[Sample]) -> Buckets<'_> {
    let start = samples.iter().map(|sample| sample.at_unix_ms).min().unwrap_or(0);
    let mut buckets = Buckets::new();
    for sample in samples {
        buckets.entry((sample.at_unix_ms - start) / BUCKET_MS).or_default().push(sample);
    }
    buckets
}

/// Stacked bars: share of answers by each version, in buckets of half a second.
fn split(samples: &[Sample]) -> String {
    let mut versions: Vec<&str> = samples.iter().map(|sample| sample.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    let buckets = buckets(samples);
    let last = buckets.keys().max().copied().unwrap_or(0) + 1;
    let mut plot = open("answers, %", 100.0, last as f64 * BUCKET_MS as f64 / 1000.0, "s");
    for (bucket, answers) in &buckets {
        let mut below = 0.0;
        for (index, version) in versions.iter().enumerate() {
            let count = answers.iter().filter(|sample| sample.version == *version).count();
            let share = count as f64 / answers.len() as f64;
            let (x, width) = (scale_x(*bucket as f64, last as f64), (WIDTH - LEFT) / last as f64);
            let (y, height) = ((HEIGHT - BOTTOM) * (1.0 - below - share), (HEIGHT - BOTTOM) * share);
            let _ = write!(
                plot,
                "<rect x='{x:.1}' y='{y:.1}' width='{width:.2}' height='{height:.1}' fill='{}'/>",
                COLOURS[index % COLOURS.len()]
            );
            below += share;
        }
    }
    plot.push_str("</svg>");
    for (index, version) in versions.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let _ = write!(plot, "<span style='color:{colour}'>■</span> version {} &nbsp; ", escape(version));
    }
    plot
}

/// Two lines: median and 95th percentile.
fn latency(samples: &[Sample]) -> String {
    let buckets = buckets(samples);
    let last = buckets.keys().max().copied().unwrap_or(0) + 1;
    let points = |share: f64| -> Vec<(f64, f64)> {
        buckets
            .iter()
            .map(|(bucket, answers)| {
                let mut values: Vec<u64> = answers.iter().map(|sample| sample.latency_us).collect();
                (*bucket as f64, quantile(&mut values, share) as f64 / 1000.0)
            })
            .collect()
    };
    let (median, tail) = (points(0.5), points(0.95));
    let top = tail.iter().map(|(_, value)| *value).fold(1.0, f64::max) * 1.1;
    let mut plot = open("ms", top, last as f64 * BUCKET_MS as f64 / 1000.0, "s");
    for (line, colour) in [(median, COLOURS[0]), (tail, COLOURS[2])] {
        let path: Vec<String> = line
            .iter()
            .map(|(x, y)| {
                format!("{:.1},{:.1}", scale_x(*x, last as f64), (HEIGHT - BOTTOM) * (1.0 - y / top))
            })
            .collect();
        let _ = write!(
            plot,
            "<polyline fill='none' stroke='{colour}' stroke-width='1.5' points='{}'/>",
            path.join(" ")
        );
    }
    plot.push_str("</svg>");
    let _ = write!(
        plot,
        "<span style='color:{}'>■</span> median &nbsp; <span style='color:{}'>■</span> 95th percentile",
        COLOURS[0], COLOURS[2]
    );
    plot
}

/// A bar a window; those that count as drifted are red.
fn drift(told: &Told) -> String {
    let windows = &told.drift.scores;
    let count = windows.len().max(1) as f64;
    let mut plot = open("features, %", 100.0, count, " windows");
    for (index, window) in windows.iter().enumerate() {
        let share = window["scores"]["share_drifted"].as_f64().unwrap_or(0.0).clamp(0.0, 1.0);
        let colour = if window["drifted"] == true { COLOURS[2] } else { COLOURS[0] };
        let (x, width) = (scale_x(index as f64, count), ((WIDTH - LEFT) / count - 2.0).max(1.0));
        // A window without drift still shows: an absent bar would look like an absent window.
        let height = ((HEIGHT - BOTTOM) * share).max(2.0);
        let y = HEIGHT - BOTTOM - height;
        let _ = write!(
            plot,
            "<rect x='{x:.1}' y='{y:.1}' width='{width:.1}' height='{height:.1}' fill='{colour}'/>"
        );
    }
    plot.push_str("</svg>");
    plot
}

fn scale_x(value: f64, last: f64) -> f64 {
    LEFT + (WIDTH - LEFT) * value / last.max(1.0)
}

fn open(unit: &str, top: f64, end: f64, end_unit: &str) -> String {
    let floor = HEIGHT - BOTTOM;
    format!(
        "<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img><text x='4' y='14'>{top:.0} {unit}</text><text x='4' \
         y='{floor}'>0</text><text x='{LEFT}' y='{:.0}'>0</text><text x='{:.0}' y='{:.0}' \
         text-anchor='end'>{end:.0}{end_unit}</text>",
        HEIGHT - 8.0,
        WIDTH - 4.0,
        HEIGHT - 8.0
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
