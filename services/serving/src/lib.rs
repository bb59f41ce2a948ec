//! Serving: ONNX versions behind the Open Inference Protocol, with traffic splitting, shadows and prediction
//! records.
//!
//! It owns nothing durable. The traffic table (NATS KV) says which versions a deployment answers with; their
//! bytes come from the registry by digest into a disk cache. Requests never wait for NATS, the registry or
//! S3, and continue when all of them are unreachable.

mod api;
mod background;
mod codec;
mod config;
mod deliver;
mod drills;
mod failure;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod listeners;
mod metrics;
mod models;
mod predict;
mod prefetch;
mod records;
mod source;
mod state;
mod stats;
mod traffic;

use std::sync::Arc;

use anyhow::Context as _;
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_artifact_store::ArtifactStore;
use slipway_event_bus::EventBus;
use slipway_inference::Environment;
use slipway_runtime::task;
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use slipway_service_kit::registry::registry_channel;
use slipway_service_kit::{Drain, Tasks};
use tokio_util::sync::CancellationToken;

use crate::api::access::Access;
pub use crate::api::access::policy::RULES as ACCESS_RULES;
pub use crate::api::access::{ALL_MODELS, AccessConfig, TokenEntry, TokenFile};
use crate::api::drain::announce;
use crate::background::{Watched, follow_models, watch_files};
pub use crate::config::{Config, DEFAULT_GRPC_PORT, DEFAULT_METRICS_PORT, DEFAULT_PORT, OptionalNats};
pub use crate::deliver::DeliverConfig;
use crate::listeners::Listeners;
use crate::metrics::ServingMetrics;
use crate::models::collector::Versions;
pub use crate::models::engine_config::{EngineConfig, LoadProbeConfig};
use crate::models::routing::Routing;
pub use crate::models::run_if_asked as load_model_if_asked;
use crate::models::{Cache, LoadMeters, LoadSettings, Loader, Manager, Origins};
use crate::predict::Predictor;
pub use crate::records::cloudevents::{CloudEventsConfig, EventsMode};
use crate::state::ServingState;
use crate::traffic::pulse::CurrencyMetrics;

/// Runs serving until `shutdown`.
///
/// # Errors
/// A port is taken, a setting cannot be used, ONNX Runtime does not load, or a background task ended.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    if let Some(import) = &config.deliver.deliver_import {
        return Box::pin(deliver::run(&config.deliver, import, &config.registry_url, &shutdown)).await;
    }
    if config.prefetch {
        return Box::pin(prefetch::run(&config, &shutdown)).await;
    }
    let drain = Drain::new(shutdown.clone());
    let replica_id = config.replica_id()?;
    let settings = Arc::new(config.settings()?);
    let tls = config.tls.load()?;
    let listeners = Listeners::bind(&config).await?;
    let metrics = Metrics::new();
    let load_meters = LoadMeters::register(&metrics);
    let loader = loader(&config, load_meters.clone())?;
    let bus = connect(&config).await?;
    let selection = config.selection()?;
    let (readiness, routing) = (Readiness::default(), Arc::new(Routing::new(config.currency(), selection)));
    let counted = ServingMetrics::register(&metrics);
    let access = Access::load(&config.access, &config.cache_dir, &metrics, &routing)?;
    metrics.collect(Versions(Arc::clone(&routing)));
    metrics.collect(CurrencyMetrics(Arc::clone(&routing.currency)));
    if let Some(tls) = &tls {
        tls.register(&metrics, "serving");
    }
    let strict = config.strict_readiness;
    let manager =
        Manager::new(loader, Arc::clone(&routing), readiness.clone(), counted.clone(), load_meters, strict);
    let optional = config.model_dir.is_some();
    let (recorder, publisher) = records::channel(bus.clone(), replica_id.clone(), counted.clone(), optional);
    let (events, event_sender) =
        records::cloudevents::channel(&config.cloudevents, bus.as_ref(), &replica_id, &metrics)?.unzip();
    let predictor = Predictor::new(Arc::clone(&routing), recorder.with_events(events), counted.clone());
    let max_body_bytes = config.max_body_bytes;
    let state =
        ServingState { routing, predictor, bus, settings, access, readiness, counted, max_body_bytes };

    let mut tasks = Tasks::new(shutdown.clone());
    let watched = Watched { tls: tls.as_ref(), access: &state.access, events: event_sender.as_ref() };
    watch_files(&mut tasks, &watched, drain.over());
    state.access.follow(state.bus.as_ref(), &mut tasks, &state.readiness, drain.over())?;
    tasks.spawn("farewell", announce(state.readiness.clone(), shutdown.clone()));
    // While it still answers, it follows the traffic tables.
    follow_models(&mut tasks, &config, &state, &replica_id, manager, drain.over())?;
    // Records of requests in flight still come while the listeners drain; the publisher ends after them.
    let drained = CancellationToken::new();
    let leaving = task::detached("records", records::send_off(publisher, event_sender, drained.clone()));
    tracing::info!(replica_id, rest = %listeners.rest.local_addr()?, grpc = %listeners.grpc.local_addr()?,
        "serving");

    let predictor = state.predictor.clone();
    let listeners = listeners.secured(tls, &state.access, config.drain_delay());
    let served = listeners.serve(state, &metrics, &drain).await;
    shutdown.cancel();
    drain.over().cancel();
    predictor.drain().await;
    drained.cancel();
    leaving.await.context("the publisher of prediction records panicked")?;
    tasks.wait().await?;
    served
}

/// The connection to NATS, where there is one.
async fn connect(config: &Config) -> anyhow::Result<Option<EventBus>> {
    let Some(nats) = config.nats() else { return Ok(None) };
    let bus = EventBus::connect(&nats, "slipway-serving").await?;
    Ok(Some(bus.with_streams(config.streams.clone())))
}

/// What loads versions, from the registry or a folder.
fn loader(config: &Config, meters: LoadMeters) -> anyhow::Result<Loader> {
    let options = config.engine.options()?;
    let environment = load_environment(config)?;
    let cache = Cache::open(&config.cache_dir)
        .with_context(|| format!("the cache directory {} (--cache-dir)", config.cache_dir.display()))?;
    if let Some(folder) = &config.model_dir {
        std::fs::read_dir(folder)
            .with_context(|| format!("the models' folder {} (--model-dir)", folder.display()))?;
    }
    let origins = Origins {
        registry: RegistryClient::new(registry_channel(
            &config.registry_url,
            &config.registry_token.resolve()?,
        )?),
        artifacts: ArtifactStore::new(&config.s3),
        folder: config.model_dir.clone(),
    };
    let probe = config.load_probe.options(config.onnxruntime_untested);
    let settings = LoadSettings { options, records: config.records()?, limits: config.limits(), probe };
    Ok(Loader::new(cache, environment, origins, settings, meters))
}

fn load_environment(config: &Config) -> anyhow::Result<Environment> {
    let library = &config.onnxruntime_lib;
    if config.onnxruntime_untested { Environment::load_untested(library) } else { Environment::load(library) }
        .map_err(|error| {
            let advice = match error {
                slipway_inference::Error::Untested { .. } => {
                    "name a tested version (--onnxruntime-lib, SLIPWAY_ONNXRUNTIME_LIB), or set \
                 --onnxruntime-untested (SLIPWAY_ONNXRUNTIME_UNTESTED=true) to use this one"
                }
                _ => "set --onnxruntime-lib or SLIPWAY_ONNXRUNTIME_LIB",
            };
            anyhow::Error::from(error).context(advice)
        })
}
