//! Metrics as Prometheus' protobuf messages, which have what its text lacks: native histograms, whose buckets are a tenth apart.
//!
//! Source: <https://prometheus.io/docs/specs/native_histograms/>, <https://prometheus.io/docs/instrumenting/content_negotiation/>.

use http::{HeaderMap, header};
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::{
    Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType, Untyped,
};
use prost::Message as _;

/// Content type of the messages.
pub const PROTOBUF_CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
const MEDIA_TYPE: &str = "application/vnd.google.protobuf";
const MESSAGE: &str = "io.prometheus.client.metricfamily";

/// Whether a scraper asks for the messages: only one that collects native histograms names them first.
pub fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = accepted.split(',').next().unwrap_or_default().to_ascii_lowercase();
    first.trim_start().starts_with(MEDIA_TYPE) && first.contains(MESSAGE) && first.contains("delimited")
}

/// OpenMetrics text of counters, gauges and metrics of no type, without timestamps, as delimited messages.
pub(crate) fn encode_text(text: &str) -> Vec<u8> {
    let mut families: Vec<MetricFamily> = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (Some(kind), Some(name)) = (words.next(), words.next()) else { continue };
            let rest = words.next().unwrap_or_default();
            match (kind, families.last_mut().filter(|family| family.name == name)) {
                ("HELP", _) => families.push(MetricFamily {
                    name: name.to_owned(),
                    help: rest.to_owned(),
                    r#type: MetricType::Untyped.into(),
                    ..MetricFamily::default()
                }),
                ("TYPE", Some(family)) => {
                    let kind = match rest {
                        "counter" => MetricType::Counter,
                        "gauge" => MetricType::Gauge,
                        _ => MetricType::Untyped,
                    };
                    family.r#type = kind.into();
                    if kind == MetricType::Counter {
                        // In text the samples of a counter have the suffix, here its name has it.
                        family.name = format!("{name}_total");
                    }
                }
                _ => {}
            }
            continue;
        }
        let Some(family) = families.last_mut() else { continue };
        let kind = family.r#type();
        family.metric.extend(sample(line, kind));
    }
    let mut encoded = Vec::new();
    for family in families {
        // A vector takes everything.
        let _ = family.encode_length_delimited(&mut encoded);
    }
    encoded
}

/// `name{label="value",…} 1`.
fn sample(line: &str, kind: MetricType) -> Option<Metric> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse::<f64>().ok()?;
    let labels = series.split_once('{').and_then(|(_, labels)| labels.strip_suffix('}')).unwrap_or_default();
    let mut metric = Metric { label: pairs(labels), ..Metric::default() };
    match kind {
        MetricType::Counter => metric.counter = Some(Counter { value, ..Counter::default() }),
        MetricType::Gauge => metric.gauge = Some(Gauge { value }),
        _ => metric.untyped = Some(Untyped { value }),
    }
    Some(metric)
}

fn pairs(mut labels: &str) -> Vec<LabelPair> {
    let mut pairs = Vec::new();
    while let Some((name, rest)) = labels.split_once("=\"") {
        let mut value = String::new();
        let mut escaped = false;
        let mut end = rest.len();
        for (at, letter) in rest.char_indices() {
            match (escaped, letter) {
                (true, 'n') => value.push('\n'),
                (true, other) => value.push(other),
                (false, '\\') => {}
                (false, '"') => {
                    end = at + 1;
                    break;
                }
                (false, other) => value.push(other),
            }
            escaped = !escaped && letter == '\\';
        }
        let name = name.trim_start_matches(',').to_owned();
        pairs.push(LabelPair { name, value });
        labels = rest.get(end..).unwrap_or_default();
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_for_messages_first_gets_them() {
        let wants = |accept: &str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            wants_protobuf(&headers)
        };
        // As Prometheus 3 sends it with and without native histograms.
        assert!(wants(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"
        ));
        assert!(!wants(
            "application/openmetrics-text;version=1.0.0;q=0.5,application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.2"
        ));
        assert!(!wants("*/*") && !wants_protobuf(&HeaderMap::new()));
    }

    #[test]
    fn text_becomes_messages_of_the_same_samples() {
        let text = "# HELP a Of \"a\"\n# TYPE a counter\na_total{x=\"1,\\\"2\\\"\",y=\"z\\\\\"} 3\n\
                    # HELP b B\n# TYPE b unknown\nb 1.5\n# HELP c C\n# TYPE c gauge\nc{x=\"\"} 2\n";
        let encoded = encode_text(text);
        let mut bytes = encoded.as_slice();
        let mut families = Vec::new();
        while !bytes.is_empty() {
            families.push(MetricFamily::decode_length_delimited(&mut bytes).unwrap());
        }
        let names: Vec<&str> = families.iter().map(|family| family.name.as_str()).collect();
        assert_eq!(names, ["a_total", "b", "c"]);
        let counter = &families[0].metric[0];
        let labels: Vec<_> =
            counter.label.iter().map(|pair| (pair.name.as_str(), pair.value.as_str())).collect();
        assert_eq!(labels, [("x", "1,\"2\""), ("y", "z\\")]);
        assert_eq!(counter.counter.as_ref().unwrap().value, 3.0);
        assert_eq!(families[1].metric[0].untyped.as_ref().unwrap().value, 1.5);
        assert_eq!(
            (families[2].metric[0].gauge.as_ref().unwrap().value, families[2].help.as_str()),
            (2.0, "C")
        );
    }
}
