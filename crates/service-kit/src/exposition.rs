//! Metrics as Prometheus' protobuf messages, which have what its text lacks: native histograms, whose buckets
//! are a tenth apart.
//!
//! Source: <https://prometheus.io/docs/specs/native_histograms/>,
//! <https://prometheus.io/docs/instrumenting/content_negotiation/>.

use prometheus_client::encoding::prometheus_protobuf;
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::{Metric, MetricType, Untyped};
use prometheus_client::registry::Registry;
use prost::Message as _;

/// Appends the metrics of a registry as delimited messages.
pub(crate) fn put_messages(registry: &Registry, into: &mut Vec<u8>) {
    // Every metric is one that the messages have.
    for mut family in prometheus_protobuf::encode(registry).unwrap_or_default() {
        if family.r#type() == MetricType::Untyped {
            family.metric.iter_mut().for_each(without_type);
        }
        // A vector takes everything.
        let _ = family.encode_length_delimited(into);
    }
}

/// Values without a type are encoded as those of gauges, which a scraper does not look for in an untyped
/// family.
fn without_type(metric: &mut Metric) {
    metric.untyped = metric.gauge.take().map(|gauge| Untyped { value: gauge.value });
}

#[cfg(test)]
mod tests {
    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::MetricFamily;
    use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
    use prometheus_client::metrics::MetricType::Unknown;
    use prometheus_client::metrics::gauge::ConstGauge;

    use super::*;
    use crate::metrics::Metrics;

    #[derive(Debug)]
    struct Collected;

    impl Collector for Collected {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
            let mut untyped = encoder.encode_descriptor("plain_count", "P", None, Unknown)?;
            ConstGauge::new(3_u64).encode(untyped.encode_family(&[("model", "a\"b")])?)
        }
    }

    #[test]
    fn what_has_no_type_has_its_own_name_and_a_value_in_both_forms() {
        let metrics = Metrics::new();
        metrics.collect(Collected);
        let text = metrics.render();
        let shown = "# TYPE plain_count unknown\nplain_count{model=\"a\\\"b\"} 3\n# EOF\n";
        assert!(text.ends_with(shown), "{text}");
        let encoded = metrics.render_protobuf();
        let mut bytes = encoded.as_slice();
        let mut last = MetricFamily::default();
        while !bytes.is_empty() {
            last = MetricFamily::decode_length_delimited(&mut bytes).unwrap();
        }
        assert_eq!((last.name.as_str(), last.r#type()), ("plain_count", MetricType::Untyped));
        let metric = &last.metric[0];
        assert_eq!((metric.untyped, metric.gauge), (Some(Untyped { value: 3.0 }), None));
        assert_eq!((metric.label[0].name.as_str(), metric.label[0].value.as_str()), ("model", "a\"b"));
    }
}
