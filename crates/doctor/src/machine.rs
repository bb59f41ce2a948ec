//! The machine that `slipway up` runs on.

use crate::{Finding, Level, Version};

const GIB: u64 = 1 << 30;
const FAIL_DISK_BYTES: u64 = GIB;
const WARN_DISK_BYTES: u64 = 10 * GIB;
const FAIL_MEMORY_BYTES: u64 = GIB / 2;
const WARN_MEMORY_BYTES: u64 = 2 * GIB;
const PYTHON: Version = Version(3, 9);

/// What a machine is like.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// The folder of the platform's data, and the free bytes of its file system.
    pub disk: Option<(String, u64)>,
    /// Memory that new programs can use, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processors.
    pub processors: usize,
    /// Whether a platform runs on the data directory, which explains ports in use.
    pub running: bool,
    /// Standard ports in use, by what the platform uses them for.
    pub ports_in_use: Vec<(String, u16)>,
    /// What `python3 --version` prints, if there is one.
    pub python: Option<String>,
    /// Names of GPUs whose devices exist.
    pub gpu_devices: usize,
    /// Whether the driver's library can be loaded; `None` if there are no devices.
    pub gpu_driver: Option<bool>,
}

/// The findings.
pub fn check(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![disk(machine), memory(machine), processors(machine), ports(machine)];
    findings.extend([python(machine), gpus(machine)]);
    findings
}

fn shown(bytes: u64) -> String {
    let tenths = bytes / (GIB / 10);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

fn disk(machine: &Machine) -> Finding {
    let Some((folder, free)) = &machine.disk else {
        return Finding::warn("disk", "free space is unknown", "check the file system of --data-dir");
    };
    let found = format!("{} free in {folder}", shown(*free));
    let advice = "free disk space, or use --data-dir on another file system; 10 GiB or more are recommended";
    match *free {
        free if free < FAIL_DISK_BYTES => Finding::fail("disk", found, advice),
        free => Finding::of(free >= WARN_DISK_BYTES, Level::Warn, "disk", found, advice),
    }
}

fn memory(machine: &Machine) -> Finding {
    let Some(free) = machine.memory_bytes else {
        return Finding::warn("memory", "available memory is unknown", "check /proc/meminfo");
    };
    let found = format!("{} available", shown(free));
    let advice = "stop other programs or add memory; 2 GiB or more are recommended";
    match free {
        free if free < FAIL_MEMORY_BYTES => Finding::fail("memory", found, advice),
        free => Finding::of(free >= WARN_MEMORY_BYTES, Level::Warn, "memory", found, advice),
    }
}

fn processors(machine: &Machine) -> Finding {
    let found = format!("{} processors", machine.processors);
    let advice = "add processors: training jobs and services share them";
    Finding::of(machine.processors >= 2, Level::Warn, "processors", found, advice)
}

fn ports(machine: &Machine) -> Finding {
    if machine.running {
        return Finding::ok("ports", "a platform runs on the data directory");
    }
    let used: Vec<String> =
        machine.ports_in_use.iter().map(|(part, port)| format!("{port} ({part})")).collect();
    if used.is_empty() {
        return Finding::ok("ports", "all standard ports are free");
    }
    let advice = "stop the programs that use them, or start with `slipway up --ports auto`";
    Finding::warn("ports", format!("in use: {}", used.join(", ")), advice)
}

fn python(machine: &Machine) -> Finding {
    let advice = "install Python 3.9 or newer for training jobs that are Python scripts, e.g. apt-get \
                  install python3";
    let Some(text) = &machine.python else {
        return Finding::warn("python", "python3 is not on the PATH", advice);
    };
    let version = Version::parse(text.trim_start_matches(|sign: char| !sign.is_ascii_digit()));
    Finding::of(version.is_some_and(|version| version >= PYTHON), Level::Warn, "python", text, advice)
}

fn gpus(machine: &Machine) -> Finding {
    match (machine.gpu_devices, machine.gpu_driver) {
        (0, _) => Finding::ok("gpu", "no NVIDIA GPUs: models and jobs run on the CPU"),
        (count, Some(true)) => Finding::ok("gpu", format!("{count} NVIDIA GPUs with a driver")),
        (count, _) => Finding::warn(
            "gpu",
            format!("{count} NVIDIA GPUs, and libnvidia-ml.so.1 of the driver cannot be loaded"),
            "install the NVIDIA driver with its libraries, e.g. the packages nvidia-driver and libnvidia-ml1",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Machine {
        Machine {
            disk: Some(("/data".to_owned(), 100 * GIB)),
            memory_bytes: Some(16 * GIB),
            processors: 8,
            running: false,
            ports_in_use: Vec::new(),
            python: Some("Python 3.11.7".to_owned()),
            gpu_devices: 0,
            gpu_driver: None,
        }
    }

    #[test]
    fn a_good_machine_has_no_findings_but_ok() {
        let findings = check(&good());
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
        assert!(findings.iter().all(|finding| finding.advice.is_none()));
    }

    #[test]
    fn each_lack_is_found_with_advice() {
        type Change = fn(&mut Machine);
        let table: [(&str, Level, Change); 13] = [
            ("disk", Level::Fail, |machine| machine.disk = Some(("/d".to_owned(), GIB - 1))),
            ("disk", Level::Warn, |machine| machine.disk = Some(("/d".to_owned(), 9 * GIB))),
            ("disk", Level::Warn, |machine| machine.disk = None),
            ("memory", Level::Fail, |machine| machine.memory_bytes = Some(GIB / 4)),
            ("memory", Level::Warn, |machine| machine.memory_bytes = Some(GIB)),
            ("memory", Level::Warn, |machine| machine.memory_bytes = None),
            ("processors", Level::Warn, |machine| machine.processors = 1),
            ("ports", Level::Warn, |machine| machine.ports_in_use = vec![("registry".to_owned(), 5000)]),
            ("python", Level::Warn, |machine| machine.python = None),
            ("python", Level::Warn, |machine| machine.python = Some("Python 3.8.1".to_owned())),
            ("python", Level::Warn, |machine| machine.python = Some("what".to_owned())),
            ("gpu", Level::Warn, |machine| machine.gpu_devices = 1),
            ("gpu", Level::Warn, |machine| (machine.gpu_devices, machine.gpu_driver) = (2, Some(false))),
        ];
        for (check_name, level, change) in table {
            let mut machine = good();
            change(&mut machine);
            let bad: Vec<Finding> =
                check(&machine).into_iter().filter(|finding| finding.level != Level::Ok).collect();
            let [finding] = &bad[..] else { panic!("{check_name}: {bad:?}") };
            assert_eq!((finding.check.as_str(), finding.level), (check_name, level), "{finding:?}");
            assert!(finding.advice.is_some(), "{finding:?}");
        }
        let busy = Machine { running: true, ports_in_use: vec![("nats".to_owned(), 4222)], ..good() };
        assert!(check(&busy).iter().all(|finding| finding.level == Level::Ok));
    }
}
