//! An API server that is busy, slow, forgetful, and drops watches.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use slipway_kubernetes_testkit::Request;

use crate::account::ACCOUNT;
use crate::world::{Setup, World, with};

const JOBS: usize = 8;

/// How many Jobs were created for a job, whether they are still there or not.
fn created(world: &World, job: &str) -> usize {
    let id = job.replace('-', "");
    let requests = world.namespace.requests(ACCOUNT).unwrap();
    let is_creation =
        |request: &&Request| request.resource == "jobs" && request.code == 201 && request.name.contains(&id);
    requests.iter().filter(is_creation).count()
}

#[test]
fn jobs_run_once_while_the_api_server_is_slow_and_drops_watches() {
    with(&Setup { proxied: true, ..Setup::default() }, async |world| {
        let proxy = world.proxy.as_ref().unwrap();
        proxy.set_failing(true);
        let mut jobs = Vec::new();
        for number in 0..JOBS {
            let script = format!("echo job {number} attempt $SLIPWAY_ATTEMPT; sleep 2");
            jobs.push(world.submit(&script, json!({}), json!({})).await);
        }
        let waiting = world.submit("true", json!({"resources": {"gpus": 4}}), json!({})).await;
        for (number, job) in jobs.iter().enumerate() {
            let ended = world.launcher.ended(job, "succeeded").await;
            let lost = (&ended["attempt"], &ended["disruptions"], &ended["system_failures"]);
            assert_eq!(lost, (&json!(1), &json!(0), &json!(0)), "{ended:#}");
            assert_eq!(created(&world, job), 1, "one attempt is one Job");
            let log = world.launcher.log(job, "").await;
            assert_eq!(log, format!("job {number} attempt 1\n"));
        }
        // What the watches tell arrives although they end all the time.
        world.pending(&waiting, "Insufficient nvidia.com/gpu").await;
        world.launcher.cancel(&waiting).await;
        world.launcher.ended(&waiting, "cancelled").await;
        let gone = async || world.objects(&waiting, "jobs,pods,secrets").is_empty().then_some(());
        world.launcher.eventually("nothing is left", gone).await;
        let counts = proxy.counts();
        let seen = |count: &AtomicU64| count.load(Ordering::SeqCst) > 0;
        let all = [&counts.busy, &counts.slow, &counts.lost, &counts.gone, &counts.dropped];
        assert!(all.into_iter().all(seen), "{counts:?}");
        proxy.set_failing(false);
    });
}
