//! What this process uses of the machine.

use slipway_inference::{Device, device_use_percent};

use crate::models::routing::Routing;

/// Time of a clock tick of `/proc`, in microseconds: USER_HZ is 100 on every architecture that serving runs
/// on.
///
/// Source: <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>.
const TICK_US: u64 = 10_000;
/// Places of `utime` and `stime` behind the name of the program, which may have spaces and parentheses.
const USER_TIME: usize = 11;
const SYSTEM_TIME: usize = 12;

/// CPU time of this process, in microseconds; 0 where `/proc` is not there.
pub(super) fn cpu_us() -> u64 {
    std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_ticks(&stat)).unwrap_or(0) * TICK_US
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some(ticks(USER_TIME)? + ticks(SYSTEM_TIME)?)
}

/// Share of the time in which the GPUs compute, in percent; `None` where no version runs on one.
pub(crate) fn gpu_percent(routing: &Routing) -> Option<u8> {
    let on_gpu = routing.all().values().any(|route| {
        let mut described = route.versions.values().filter_map(|version| version.described.as_ref());
        described.any(|described| described.device != Device::Cpu)
    });
    on_gpu.then(device_use_percent).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_read_behind_any_name() {
        let stat = "7 (a) b (c) R 1 1 1 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 4 0 100 0 0";
        assert_eq!(cpu_ticks(stat), Some(200));
        assert_eq!(cpu_ticks("7 (a) R 1"), None);
        assert!(cpu_us() < 1_000_000_000_000);
    }
}
