//! Records per CPU-second, with one monitor and with many. Run with
//! `cargo test --release -p slipway-drift-monitor --test it throughput -- --ignored --nocapture`.

use std::time::Instant;

use serde_json::json;

use crate::data::{self, Rows};
use crate::world::World;

const MESSAGES: usize = 200;
const RECORDS_PER_MESSAGE: usize = 1_000;

/// CPU time of this process so far, in seconds: the service runs in it, as does the test.
fn cpu_s() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// Records per CPU-second of `monitors` monitors of as many deployments, all of whose records are on the
/// stream.
async fn measure(monitors: usize) -> f64 {
    let mut world = World::begin().await;
    world.peers.known().profiles.insert("1".into(), data::trained());
    let names: Vec<String> = (0..monitors).map(|at| format!("d{at}")).collect();
    for name in &names {
        world.peers.deploy_as(name, "1");
        let window = json!({"rows": 10_000, "max_s": 3_600});
        world.monitor(json!({"name": name, "deployment": name, "window": window})).await;
    }
    world.kill();
    let row = Rows::new(1).take(1);
    for message in 0..MESSAGES {
        let mut record = data::record(&row);
        record.deployment.clone_from(&names[message % monitors]);
        world.publish(vec![record; RECORDS_PER_MESSAGE]).await;
    }
    let (began, before) = (Instant::now(), cpu_s());
    world.start().await;
    let expected = MESSAGES * RECORDS_PER_MESSAGE;
    world
        .until("all records", async || {
            let mut read = 0;
            for name in &names {
                let monitor = world.get(&format!("monitors/{name}")).await;
                let open = monitor["open_window"]["rows"].as_u64().unwrap_or(0);
                read += open + monitor["windows_closed"].as_u64().unwrap_or(0) * 10_000;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            (read as usize >= expected).then_some(())
        })
        .await;
    let rate = expected as f64 / (cpu_s() - before);
    println!("{monitors} monitors: {rate:.0} records per CPU-second, {:.1} s", began.elapsed().as_secs_f64());
    rate
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a check of behaviour"]
async fn records_per_cpu_second() {
    measure(1).await;
    measure(21).await;
}
