//! Holds the command to the memory that its job asks for.

use std::time::Duration;

use slipway_job_processes::memory_of;
use tokio::time::MissedTickBehavior;

/// The memory in use is looked at this often.
const INTERVAL_MS: u64 = 250;

/// Returns once the processes of an attempt use more than `limit_bytes` together: how much. Never where the
/// limit is 0. The attempt's agent does not count.
pub(crate) async fn exceeded(job_id: &str, attempt: u32, limit_bytes: u64) -> u64 {
    if limit_bytes == 0 {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(INTERVAL_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complained = false;
    loop {
        ticks.tick().await;
        match memory_of(job_id, attempt, limit_bytes).await {
            Ok(used_bytes) if used_bytes > limit_bytes => return used_bytes,
            Ok(_) => {}
            Err(error) if !complained => {
                complained = true;
                tracing::warn!(%error, "memory of the command cannot be measured");
            }
            Err(_) => {}
        }
    }
}
