//! What this machine has for jobs, and which part of it an attempt gets.

use std::collections::BTreeMap;

use slipway_domain::training::{BackendKind, Capacity, Resources};

use crate::config::JobsConfig;
use crate::store::attempts::Assigned;

/// A machine with one core still runs two jobs: one of them mostly waits.
const MIN_DEFAULT_CPUS: f64 = 2.0;
/// Files in which the kernel says how much memory a container may use: control groups of both versions.
const MEMORY_LIMIT_FILES: [&str; 2] =
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// More than any cluster has.
const CLUSTER_CPUS: f64 = 1e9;
const CLUSTER_BYTES: u64 = 1 << 62;
const CLUSTER_GPUS: u32 = 1 << 30;
const GPU_DEVICE_PREFIX: &str = "nvidia";

/// The machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Machine {
    /// What jobs may take together.
    pub(crate) capacity: Capacity,
    /// Numbers of the CPU cores that this process may use.
    pub(crate) cores: Vec<u32>,
    /// Numbers of the GPUs.
    pub(crate) gpus: Vec<u32>,
}

impl Machine {
    /// What this launcher has for jobs. Of a cluster, its scheduler decides.
    pub(crate) fn of(backend: BackendKind, config: &JobsConfig) -> Self {
        match backend {
            BackendKind::Local => Self::detect(config),
            BackendKind::Kubernetes => {
                let capacity =
                    Capacity { cpus: CLUSTER_CPUS, memory_bytes: CLUSTER_BYTES, gpus: CLUSTER_GPUS };
                Self { capacity, cores: Vec::new(), gpus: Vec::new() }
            }
        }
    }

    /// The machine that this process runs on, within its settings.
    fn detect(config: &JobsConfig) -> Self {
        let cores = allowed_cores();
        let gpus = config.job_gpus.clone().unwrap_or_else(gpu_devices);
        let machine_cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        #[expect(clippy::cast_precision_loss, reason = "a machine's cores are few")]
        let cpus = config.max_job_cpus.unwrap_or_else(|| (machine_cpus as f64).max(MIN_DEFAULT_CPUS));
        let memory_bytes = config.max_job_memory_bytes.unwrap_or_else(machine_memory_bytes);
        let capacity = Capacity { cpus, memory_bytes, gpus: u32::try_from(gpus.len()).unwrap_or(u32::MAX) };
        Self { capacity, cores, gpus }
    }

    /// The cores and GPUs of an attempt that starts next to others: the GPUs that no other has, and the cores
    /// that the fewest others are bound to. An attempt that may use as many cores as there are is bound to
    /// none.
    pub(crate) fn assign(&self, asked: &Resources, others: &[Assigned]) -> Assigned {
        let taken = |gpu: &u32| others.iter().any(|other| other.gpus.contains(gpu));
        let wanted = usize::try_from(asked.gpus).unwrap_or(usize::MAX);
        let gpus = self.gpus.iter().copied().filter(|gpu| !taken(gpu)).take(wanted).collect();
        let threads = usize::try_from(asked.threads()).unwrap_or(usize::MAX);
        if threads >= self.cores.len() {
            return Assigned { cores: Vec::new(), gpus };
        }
        let mut load: BTreeMap<u32, usize> = self.cores.iter().map(|core| (*core, 0)).collect();
        for core in others.iter().flat_map(|other| &other.cores) {
            if let Some(count) = load.get_mut(core) {
                *count += 1;
            }
        }
        let mut cores: Vec<(usize, u32)> = load.into_iter().map(|(core, count)| (count, core)).collect();
        cores.sort_unstable();
        let mut cores: Vec<u32> = cores.into_iter().take(threads).map(|(_, core)| core).collect();
        cores.sort_unstable();
        Assigned { cores, gpus }
    }
}

/// Numbers of the cores that the kernel lets this process run on; none where it does not say.
fn allowed_cores() -> Vec<u32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map(|list| numbers(list.trim())).unwrap_or_default()
}

/// The numbers in a list such as `0-3,8`.
fn numbers(list: &str) -> Vec<u32> {
    let ranges = list.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.trim().parse::<u32>().ok()?..=last.trim().parse().ok()?)
    });
    ranges.flatten().collect()
}

/// NVIDIA GPUs whose devices this machine shows.
fn gpu_devices() -> Vec<u32> {
    let Ok(devices) = std::fs::read_dir("/dev") else { return Vec::new() };
    let names = devices.flatten().filter_map(|device| device.file_name().into_string().ok());
    let mut gpus: Vec<u32> =
        names.filter_map(|name| name.strip_prefix(GPU_DEVICE_PREFIX)?.parse().ok()).collect();
    gpus.sort_unstable();
    gpus
}

/// The machine's memory, or that of the container, whichever is less.
fn machine_memory_bytes() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| {
        let kilobytes: u64 =
            line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kilobytes.checked_mul(1024)
    });
    let limits = MEMORY_LIMIT_FILES
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    limits.chain(total).min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        let capacity = Capacity { cpus: 4.0, memory_bytes: 1, gpus: 2 };
        Machine { capacity, cores: vec![0, 1, 2, 3], gpus: vec![0, 1] }
    }

    fn asked(cpus: f64, gpus: u32) -> Resources {
        Resources { cpus, gpus, ..Resources::default() }
    }

    #[test]
    fn attempts_share_cores_evenly_and_gpus_not_at_all() {
        let mut others = Vec::new();
        for (cpus, gpus) in [(1.0, 1), (1.5, 1), (0.5, 0), (1.0, 0)] {
            let assigned = machine().assign(&asked(cpus, gpus), &others);
            others.push(assigned);
        }
        let cores: Vec<_> = others.iter().map(|assigned| assigned.cores.clone()).collect();
        assert_eq!(cores, [vec![0], vec![1, 2], vec![3], vec![0]]);
        let gpus: Vec<_> = others.iter().map(|assigned| assigned.gpus.clone()).collect();
        assert_eq!(gpus, [vec![0], vec![1], vec![], vec![]]);
        assert_eq!(machine().assign(&asked(4.0, 0), &others).cores, [0; 0], "all of the machine");
    }

    #[test]
    fn lists_of_cores_are_read_as_the_kernel_writes_them() {
        assert_eq!(numbers("0-3,8,10-11"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(numbers(""), [0; 0]);
        assert!(!allowed_cores().is_empty());
        assert!(machine_memory_bytes() > 1 << 20);
    }
}
