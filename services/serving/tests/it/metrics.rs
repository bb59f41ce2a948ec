//! Metrics as Prometheus scrapes them: text, and messages with native histograms.

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::MetricFamily;
use prost::Message as _;

use crate::serving::{Serving, cache};
use crate::world::{DEPLOYMENT, World, table};

const ACCEPT: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5";

#[tokio::test(flavor = "multi_thread")]
async fn latencies_are_native_histograms_for_who_asks_for_them() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    for _ in 0..20 {
        serving.predict([0.0, 0.0]).await;
    }
    let url = format!("{}/metrics", serving.metrics);
    let answer = serving.http.get(&url).header("accept", ACCEPT).send().await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/vnd.google.protobuf"), "{kind}");
    let body = answer.bytes().await.unwrap();
    let (mut bytes, mut families) = (&body[..], Vec::new());
    while !bytes.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut bytes).unwrap());
    }
    let family = |name: &str| families.iter().find(|family| family.name == name).expect(name);
    for name in
        ["slipway_serving_seconds", "slipway_serving_queue_seconds", "slipway_serving_compute_seconds"]
    {
        let metric = &family(name).metric[0];
        let labels: Vec<_> =
            metric.label.iter().map(|pair| (pair.name.as_str(), pair.value.as_str())).collect();
        assert_eq!(labels, [("deployment", DEPLOYMENT), ("version", "1"), ("variant", "stable")]);
        let histogram = metric.histogram.as_ref().unwrap();
        // A factor of 2^(1/8), which is 1.09.
        assert_eq!((histogram.schema, histogram.sample_count), (3, 20));
        let observed: i64 = histogram
            .positive_delta
            .iter()
            .scan(0, |count, delta| {
                *count += delta;
                Some(*count)
            })
            .sum();
        assert_eq!(observed + i64::try_from(histogram.zero_count).unwrap(), 20);
    }
    let total = &family("slipway_serving_requests_total").metric[0];
    assert_eq!(total.counter.as_ref().unwrap().value, 20.0);
    let triton = &family("nv_inference_request_success").metric[0];
    assert_eq!((triton.untyped.as_ref().unwrap().value, triton.label[0].value.as_str()), (20.0, DEPLOYMENT));

    let text = serving.http.get(&url).send().await.unwrap().text().await.unwrap();
    let finest = format!("slipway_serving_seconds_bucket{{le=\"0.00002\",deployment=\"{DEPLOYMENT}\"");
    assert!(text.contains("nv_inference_request_success") && text.contains(&finest), "{text}");
    assert!(text.ends_with("# EOF\n"));
}
