//! Hears of deployments and rollouts, so that a version's lineage ends where it is deployed.

use slipway_api::events::{DeploymentChange, EVENTS_STREAM, RolloutChange};
use slipway_domain::registry::deployed::News;
use slipway_event_bus::permissions::durable;
use slipway_event_bus::{Consumer, EventBus, Received};
use slipway_outbox::inbox;
use slipway_runtime::clock::now_unix_ms;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::store::{deployed, deployments};

/// The place in the events stream, and the name in the inbox.
const CONSUMER: &str = durable::REGISTRY_DEPLOYMENTS;
const SUBJECTS: [&str; 2] =
    ["slipway.rollout-controller.deployment.>", "slipway.rollout-controller.rollout.>"];
const OF_DEPLOYMENTS: &str = "slipway.rollout-controller.deployment.";

/// Hears until `shutdown`.
pub(crate) async fn run(pool: PgPool, bus: EventBus, shutdown: CancellationToken) {
    let subjects = SUBJECTS.map(str::to_owned).to_vec();
    Consumer::new(bus, EVENTS_STREAM, CONSUMER, subjects)
        .run(shutdown, |received| {
            let pool = pool.clone();
            async move { hear(&pool, &received).await.map_err(|error| error.to_string()) }
        })
        .await;
}

async fn hear(pool: &PgPool, received: &Received) -> anyhow::Result<()> {
    let at_ms = chrono::DateTime::parse_from_rfc3339(&received.time)
        .map_or_else(|_| i64::try_from(now_unix_ms()).unwrap_or(i64::MAX), |time| time.timestamp_millis());
    let skip = |error: slipway_event_bus::Error| {
        // It will not parse the next time either.
        tracing::warn!(%error, event = %received.id, "event skipped");
    };
    if received.subject.starts_with(OF_DEPLOYMENTS) {
        let Ok(change) = received.parse::<DeploymentChange>().map_err(skip) else { return Ok(()) };
        let news = match change.what.as_str() {
            "created" => News::Created,
            "deleted" => News::Deleted,
            "model-renamed" => News::Renamed,
            // Rules, switches and settings change nothing about which version is deployed.
            _ => return Ok(()),
        };
        return store(pool, received, (&change.deployment, &change.model), news, at_ms).await;
    }
    let Ok(change) = received.parse::<RolloutChange>().map_err(skip) else { return Ok(()) };
    let news = News::Rollout {
        what: &change.what,
        from: change.from_version.as_deref(),
        to: &change.to_version,
        weight_percent: change.weight_percent,
    };
    store(pool, received, (&change.deployment, &change.model), news, at_ms).await
}

async fn store(
    pool: &PgPool,
    received: &Received,
    (deployment, model): (&str, &str),
    news: News<'_>,
    at_ms: i64,
) -> anyhow::Result<()> {
    let mut transaction = slipway_lease::begin(pool).await?;
    if inbox::first_time(&mut transaction, CONSUMER, &received.id).await? {
        let known = deployments::deployment_hold(&mut transaction, deployment).await?;
        // The controller may not have followed a rename yet.
        let present = deployed::renamed_to(&mut transaction, model).await?;
        let model = present.as_deref().unwrap_or(model);
        deployments::deployment_put(&mut transaction, deployment, &known.hear(model, news, at_ms)).await?;
    }
    transaction.commit().await?;
    Ok(())
}
