//! How old the oldest unpublished event is: a metric, and part of the readiness.
//!
//! A replica is not ready while events are stuck: it is connected to NATS, there are events older than
//! [`STUCK_AFTER_S`], and none of them was published for as long. While NATS is unreachable a replica stays
//! ready: it answers, and events wait for NATS in Postgres. A long queue that shrinks is not stuck either.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use slipway_event_bus::EventBus;
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// How often each replica looks.
const INTERVAL_MS: u64 = 15_000;
/// A replica is not ready when no event was published for this long although there are events that old.
pub const STUCK_AFTER_S: u64 = 60;
/// The part of the readiness.
const READINESS_PART: &str = "outbox";

/// The oldest unpublished event.
#[derive(Debug, Clone, Copy, PartialEq, sqlx::FromRow)]
struct Oldest {
    seq: i64,
    age_s: f64,
}

/// The metric.
#[derive(Debug, Clone, Default)]
pub struct Age(Gauge<f64, AtomicU64>);

impl Age {
    /// Registered with the service's metrics.
    pub fn register(metrics: &Metrics) -> Self {
        let age = Self::default();
        let help = "Age of the oldest event that was committed and not yet published; 0 without one";
        metrics.register("outbox_oldest_unpublished_seconds", help, age.0.clone());
        age
    }
}

/// Looks at the outbox until `shutdown`.
pub async fn watch(pool: PgPool, bus: EventBus, age: Age, readiness: Readiness, shutdown: CancellationToken) {
    let mut progress = Progress::default();
    loop {
        match oldest(&pool).await {
            Ok(oldest) => {
                age.0.set(oldest.map_or(0.0, |oldest| oldest.age_s));
                match progress.stuck(oldest, bus.is_connected(), Instant::now()) {
                    Some(reason) => readiness.waiting(READINESS_PART, with_cause(reason, bus.trouble())),
                    None => readiness.ready(READINESS_PART),
                }
            }
            Err(error) => tracing::debug!(%error, "age of the oldest unpublished event not read; retrying"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(INTERVAL_MS)) => {}
        }
    }
}

/// The reason with what JetStream says, if that is why.
fn with_cause(reason: String, trouble: Option<String>) -> String {
    match trouble {
        Some(trouble) => format!("{reason}: JetStream does not answer ({trouble})"),
        None => reason,
    }
}

async fn oldest(pool: &PgPool) -> Result<Option<Oldest>, sqlx::Error> {
    sqlx::query_as(
        "SELECT seq, greatest(extract(EPOCH FROM now() - occurred_at), 0)::FLOAT8 AS age_s FROM outbox \
         WHERE published_at IS NULL ORDER BY seq LIMIT 1",
    )
    .fetch_optional(pool)
    .await
}

/// Since when the same event is the oldest while NATS is reachable.
#[derive(Debug, Default)]
struct Progress(Option<(i64, Instant)>);

impl Progress {
    /// Why events are stuck, if they are.
    fn stuck(&mut self, oldest: Option<Oldest>, connected: bool, now: Instant) -> Option<String> {
        let oldest = oldest.filter(|_| connected);
        self.0 = match (self.0, oldest) {
            (Some((seq, since)), Some(oldest)) if oldest.seq == seq => Some((seq, since)),
            (_, oldest) => oldest.map(|oldest| (oldest.seq, now)),
        };
        let ((_, since), oldest) = (self.0?, oldest?);
        let limit = Duration::from_secs(STUCK_AFTER_S);
        let without_progress = now.saturating_duration_since(since);
        (without_progress >= limit && oldest.age_s >= limit.as_secs_f64()).then(|| {
            format!(
                "the oldest unpublished event is {:.0} s old, and none was published for {} s",
                oldest.age_s,
                without_progress.as_secs()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: i64, age_s: f64) -> Option<Oldest> {
        Some(Oldest { seq, age_s })
    }

    #[test]
    fn events_are_stuck_where_none_is_published_although_nats_is_reachable() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut progress = Progress::default();
        assert_eq!(progress.stuck(event(7, 500.0), true, at(0)), None, "this replica has just looked");
        assert_eq!(progress.stuck(event(7, 559.0), true, at(59)), None);
        let reason = progress.stuck(event(7, 560.0), true, at(60)).unwrap();
        assert!(reason.contains("560 s old") && reason.contains("for 60 s"), "{reason}");
        // One was published: a long queue that shrinks is not stuck.
        assert_eq!(progress.stuck(event(8, 570.0), true, at(70)), None);
        assert!(progress.stuck(event(8, 640.0), true, at(140)).is_some());
        assert_eq!(progress.stuck(None, true, at(150)), None);
        // The same number cannot come back; if it did it would count from here.
        assert_eq!(progress.stuck(event(8, 700.0), true, at(160)), None);
    }

    #[test]
    fn time_without_nats_does_not_count() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut progress = Progress::default();
        for seconds in [0, 60, 120] {
            assert_eq!(progress.stuck(event(7, 1_000.0), false, at(seconds)), None);
        }
        assert_eq!(progress.stuck(event(7, 1_000.0), true, at(180)), None);
        assert_eq!(progress.stuck(event(7, 1_000.0), true, at(239)), None);
        assert!(progress.stuck(event(7, 1_000.0), true, at(240)).is_some());
    }
}
