//! Memory that a further process may take.

/// Memory that is available, in bytes: of the machine, and of the control group where it has a limit. `None`
/// where the system does not say.
pub(super) fn available_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| machine(&text));
    let group = read("/sys/fs/cgroup/memory.max").zip(read("/sys/fs/cgroup/memory.current"));
    let statistics = read("/sys/fs/cgroup/memory.stat").unwrap_or_default();
    let group = group.and_then(|(limit, taken)| group_bytes(&limit, &taken, &statistics));
    machine.into_iter().chain(group).min()
}

/// proc_meminfo(5): `MemAvailable:   12345 kB`.
fn machine(text: &str) -> Option<u64> {
    let figure = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    figure.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Control group v2: the limit less what is taken, without files that can be read again.
fn group_bytes(limit: &str, taken: &str, statistics: &str) -> Option<u64> {
    // `max` is no limit.
    let (limit, taken) = (limit.trim().parse::<u64>().ok()?, taken.trim().parse::<u64>().ok()?);
    let files = statistics.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok());
    Some(limit.saturating_sub(taken.saturating_sub(files.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_machine_and_group_counts() {
        assert_eq!(machine("MemTotal: 9 kB\nMemAvailable:    2 kB\n"), Some(2048));
        assert_eq!(group_bytes("1000\n", "700\n", "anon 1\ninactive_file 200\n"), Some(500));
        assert_eq!(group_bytes("max\n", "700\n", ""), None);
        assert_eq!(group_bytes("100\n", "700\n", ""), Some(0));
        assert!(available_bytes().unwrap() > 0);
    }
}
