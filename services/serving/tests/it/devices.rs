//! GPUs, where there is none: versions that want one say so, or run on the processor, and nothing asks for
//! the driver in vain.

use crate::serving::{Serving, cache};
use crate::world::{DEPLOYMENT, World, table};

const DEVICE_MEMORY: &str = "slipway_serving_model_device_memory_bytes{";

#[tokio::test(flavor = "multi_thread")]
async fn a_version_for_a_gpu_says_what_is_missing_or_runs_on_the_processor() {
    for device in ["cuda", "tensorrt"] {
        let (world, cache) = (World::start().await, cache());
        world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
        let strict = Serving::start(&world, &cache, &[("SLIPWAY_SERVING_DEVICE", device)]).await;
        let reason = world.failed("1").await;
        assert!(reason.starts_with(&format!("the device '{device}' ")), "{reason}");
        assert!(reason.contains("fallback to the CPU"), "{reason}");
        assert!(!strict.shown().await.contains(DEVICE_MEMORY));
        drop(strict);

        let more = [("SLIPWAY_SERVING_DEVICE", device), ("SLIPWAY_SERVING_DEVICE_FALLBACK", "true")];
        let serving = Serving::start(&world, &cache, &more).await;
        serving.wait_until_ready().await;
        world.routed(1).await;
        assert_eq!(serving.predict([0.0, 0.0]).await.score, -1.0);
        let (_, config) = serving.get(&format!("/v2/models/{DEPLOYMENT}/config")).await;
        assert_eq!(config["instance_group"][0]["kind"], "KIND_CPU");
        assert_eq!(config["instance_group"][0]["gpus"], serde_json::json!([]));
        let parameters = config["parameters"].as_object().expect("an object");
        assert!(parameters.contains_key("memory_bytes") && !parameters.contains_key("device_memory_bytes"));
        let shown = serving.shown().await;
        assert!(shown.contains("slipway_serving_model_memory_bytes{") && !shown.contains(DEVICE_MEMORY));
        assert!(serving.log().contains("models run on the CPU"), "{}", serving.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_runs_on_the_processor_never_asks_for_the_driver_of_a_gpu() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::start(&world, &cache, &[("SLIPWAY_LOG", "debug")]).await;
    serving.wait_until_ready().await;
    world.routed(1).await;
    assert!(!serving.maps().contains("libnvidia-ml") && !serving.log().contains("libnvidia-ml"));
    assert!(!serving.shown().await.contains(DEVICE_MEMORY));
}
