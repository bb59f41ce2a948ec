//! Scaling to zero: who answers for a ModelDeployment that has had no request for some time.
//!
//! A deployment without pods is answered for by the serving pool of its namespace, to which its Service leads
//! then. Where it stands is in its traffic table ([`Pool`]), so another leader goes on from there.

use std::time::Duration;

use slipway_api::traffic::Pool;

/// Requests that have come for so long bring the pods back. A single one is answered by the pool alone.
const WAKE_AFTER: Duration = Duration::from_secs(3);
/// Clients that still had connections to the pool have left it when it heard nothing for so long.
const LEFT_AFTER: Duration = Duration::from_secs(10);

/// What is seen of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// Time without a request after which no pod is to be left; `None`: never.
    pub zero_after: Option<Duration>,
    /// What the pool does for the deployment now.
    pub pool: Option<Pool>,
    /// Whether the Service leads to the pool now.
    pub is_pooled: bool,
    /// Time since the last request to the pods or the pool.
    pub quiet_for: Duration,
    /// Time for which requests have come without a long pause.
    pub asked_for: Duration,
    /// Time since the last request to the pool.
    pub pool_quiet_for: Duration,
    /// Replicas of the pool.
    pub pool_replicas: usize,
    /// Those of them that can answer.
    pub pool_ready: usize,
    /// Pods that answer.
    pub ready_pods: i32,
    /// Pods that there are to be at least.
    pub min_pods: i32,
    /// Whether a version is stable and no rollout is in progress.
    pub is_settled: bool,
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Whether the Service leads to the pool.
    pub is_pooled: bool,
    /// Whether there are to be pods.
    pub has_pods: bool,
}

impl Default for Placement {
    /// The pods.
    fn default() -> Self {
        Self { is_pooled: false, has_pods: true }
    }
}

/// What the pool is to do next.
pub fn pool(seen: &Activity) -> Option<Pool> {
    let is_idle = seen.zero_after.is_some_and(|after| seen.quiet_for >= after);
    match seen.pool {
        None => (is_idle && seen.is_settled).then_some(Pool::Answering),
        Some(Pool::Answering) => {
            let is_busy = seen.zero_after.is_none() || seen.asked_for >= WAKE_AFTER;
            Some(if is_busy { Pool::Waking } else { Pool::Answering })
        }
        Some(Pool::Waking) if seen.ready_pods >= seen.min_pods => Some(Pool::Leaving),
        Some(Pool::Waking) => Some(if is_idle { Pool::Answering } else { Pool::Waking }),
        Some(Pool::Leaving) => (seen.pool_quiet_for < LEFT_AFTER).then_some(Pool::Leaving),
    }
}

/// Who is to answer, by what the pool does now. The Service leads to the pool once all its replicas can
/// answer, and stays there while there are any. Pods go after it does.
pub fn placement(seen: &Activity) -> Placement {
    let all = seen.pool_ready > 0 && seen.pool_ready == seen.pool_replicas;
    // One that has just not read the newest table goes on with the one before.
    let is_pooled = all || (seen.is_pooled && seen.pool_replicas > 0);
    match seen.pool {
        None | Some(Pool::Leaving) => Placement::default(),
        Some(Pool::Answering) => Placement { is_pooled, has_pods: !(is_pooled && seen.is_pooled) },
        Some(Pool::Waking) => Placement { is_pooled: is_pooled && seen.is_pooled, has_pods: true },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AFTER: Duration = Duration::from_secs(60);

    fn awake() -> Activity {
        Activity {
            zero_after: Some(AFTER),
            pool: None,
            is_pooled: false,
            quiet_for: Duration::ZERO,
            asked_for: Duration::ZERO,
            pool_quiet_for: AFTER,
            pool_replicas: 2,
            pool_ready: 0,
            ready_pods: 1,
            min_pods: 1,
            is_settled: true,
        }
    }

    #[test]
    fn a_deployment_goes_to_the_pool_and_comes_back() {
        let mut seen = awake();
        assert_eq!((pool(&seen), placement(&seen)), (None, Placement::default()));
        seen.quiet_for = AFTER;
        assert_eq!(pool(&Activity { is_settled: false, ..seen }), None, "a rollout is in progress");
        assert_eq!(pool(&Activity { zero_after: None, ..seen }), None);
        seen.pool = pool(&seen);
        assert_eq!(seen.pool, Some(Pool::Answering));
        assert_eq!(placement(&seen), Placement::default(), "the pool has not loaded it");
        seen.pool_ready = 1;
        assert_eq!(placement(&seen), Placement::default(), "not all of the pool has loaded it");
        seen.pool_ready = 2;
        assert_eq!(placement(&seen), Placement { is_pooled: true, has_pods: true }, "pods go after that");
        seen.is_pooled = true;
        let asleep = Placement { is_pooled: true, has_pods: false };
        assert_eq!(placement(&seen), asleep);
        seen.ready_pods = 0;
        seen.pool_ready = 1;
        assert_eq!(placement(&seen), asleep, "one replica of the pool is enough to stay");
        seen.pool_ready = 0;
        assert_eq!(placement(&seen), asleep, "a new table is being read");
        seen.pool_ready = 1;

        (seen.quiet_for, seen.pool_quiet_for) = (Duration::ZERO, Duration::ZERO);
        seen.asked_for = Duration::from_secs(1);
        assert_eq!(pool(&seen), Some(Pool::Answering), "the pool alone answers a few requests");
        seen.asked_for = WAKE_AFTER;
        seen.pool = pool(&seen);
        assert_eq!(seen.pool, Some(Pool::Waking));
        assert_eq!(placement(&seen), Placement { is_pooled: true, has_pods: true });
        assert_eq!(pool(&seen), Some(Pool::Waking));
        assert_eq!(pool(&Activity { quiet_for: AFTER, ..seen }), Some(Pool::Answering));
        seen.ready_pods = 1;
        seen.pool = pool(&seen);
        assert_eq!((seen.pool, placement(&seen)), (Some(Pool::Leaving), Placement::default()));
        seen.is_pooled = false;
        assert_eq!(pool(&seen), Some(Pool::Leaving), "clients still have connections to it");
        seen.pool_quiet_for = LEFT_AFTER;
        assert_eq!(pool(&seen), None);
    }

    #[test]
    fn pods_come_back_where_the_pool_is_lost_or_is_not_to_be_used_any_more() {
        let asleep = Activity {
            pool: Some(Pool::Answering),
            is_pooled: true,
            quiet_for: AFTER,
            pool_ready: 2,
            ready_pods: 0,
            ..awake()
        };
        let lost = Activity { pool_replicas: 0, pool_ready: 0, ..asleep };
        assert_eq!(placement(&lost), Placement::default());
        assert_eq!(pool(&Activity { zero_after: None, ..asleep }), Some(Pool::Waking));
    }

    fn any_pool() -> impl Strategy<Value = Option<Pool>> {
        prop_oneof![
            Just(None),
            Just(Some(Pool::Answering)),
            Just(Some(Pool::Waking)),
            Just(Some(Pool::Leaving))
        ]
    }

    proptest! {
        /// Whatever is seen: the Service leads to somebody who can answer if anybody can, and pods are kept
        /// until it has led to the pool.
        #[test]
        fn there_is_always_somebody_who_answers(
            pool_now in any_pool(), is_pooled: bool, pool_ready in 0_usize..3, more in 0_usize..2,
            ready_pods in 0_i32..3,
        ) {
            let pool_replicas = pool_ready + more;
            let pool = Activity { pool: pool_now, is_pooled, pool_ready, pool_replicas, ..awake() };
            let seen = Activity { ready_pods, ..pool };
            let Placement { is_pooled: goes, has_pods } = placement(&seen);
            prop_assert!(!goes || pool_replicas > 0, "it leads to no pool");
            prop_assert!(!goes || is_pooled || pool_ready > 0, "it leads to a pool that cannot answer");
            prop_assert!(has_pods || (is_pooled && goes), "pods go before the pool answers");
        }
    }
}
