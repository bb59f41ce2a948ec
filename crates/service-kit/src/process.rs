//! What this process uses of the machine, under the names that Prometheus' own libraries give it.
//!
//! Source: <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>,
//! <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use slipway_runtime::clock::now_unix_ms;

/// Time of a clock tick of `/proc`, in milliseconds: `USER_HZ` is 100 on every architecture that Slipway runs
/// on.
const TICK_MS: u64 = 10;
/// Places of `utime` and `stime` behind the name of the program, which may have spaces and parentheses.
const USER_TIME: usize = 11;
const SYSTEM_TIME: usize = 12;

/// The process, collected at each scrape.
#[derive(Debug)]
pub(crate) struct Process {
    started: Duration,
}

impl Process {
    /// A process that starts now.
    pub(crate) fn starting() -> Self {
        // The registry of metrics is made right after the start.
        Self { started: Duration::from_millis(now_unix_ms()) }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, value: f64| -> fmt::Result {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(encoder)
        };
        let started = self.started.as_secs_f64();
        gauge("process_start_time_seconds", "Start time of the process, in seconds since 1970", started)?;
        // Where /proc is not there, these are left out.
        if let Some(bytes) = resident_bytes() {
            let help = "Resident memory of the process";
            gauge("process_resident_memory_bytes", help, bytes)?;
        }
        if let Some(count) = open_files() {
            gauge("process_open_fds", "Open file descriptors", count)?;
        }
        if let Some(seconds) = cpu_seconds() {
            let (name, help) = ("process_cpu_seconds", "CPU time of the process, in user and system mode");
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(encoder)?;
        }
        Ok(())
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    Some(Duration::from_millis(cpu_ticks(&stat)?.saturating_mul(TICK_MS)).as_secs_f64())
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some(ticks(USER_TIME)? + ticks(SYSTEM_TIME)?)
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(f64::from(kib.trim().strip_suffix("kB")?.trim().parse::<u32>().ok()?) * 1024.0)
}

fn open_files() -> Option<f64> {
    // The folder itself is open while it is read.
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u32::try_from(count).ok().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn the_time_is_read_behind_any_name() {
        let stat = "7 (a) b (c) R 1 1 1 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 4 0 100 0 0";
        assert_eq!(cpu_ticks(stat), Some(200));
        assert_eq!(cpu_ticks("7 (a) R 1"), None);
    }

    #[test]
    fn every_service_shows_its_process() {
        let (metrics, file) = (Metrics::new(), std::fs::File::open("/proc/self/stat"));
        let text = metrics.render();
        drop(file);
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name}: {text}")).split(' ').next_back().unwrap().parse().unwrap()
        };
        let now = Duration::from_millis(now_unix_ms()).as_secs_f64();
        assert!((now - value("process_start_time_seconds")).abs() < 60.0);
        assert!(value("process_resident_memory_bytes") > 1_000_000.0);
        assert!(value("process_open_fds") >= 4.0, "standard streams, and the file of this test");
        assert!(value("process_cpu_seconds_total") >= 0.0);
        let version = env!("CARGO_PKG_VERSION");
        assert!(text.contains(&format!("slipway_build_info{{version=\"{version}\"}} 1\n")), "{text}");
    }
}
