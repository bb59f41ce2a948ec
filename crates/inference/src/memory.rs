//! Memory of this process: what it holds, and giving back what it keeps for nothing.

use crate::raw;

/// Physical memory that this process holds, in bytes; `None` where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    // proc_pid_status(5): `VmRSS:     1234 kB`.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let figure = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = figure.split_ascii_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Gives memory that the allocator keeps for later back to the system. It takes milliseconds where much was freed: call it from a
/// blocking thread.
pub fn give_back() {
    raw::trim();
}

/// Gives memory back when it is dropped: as the last field of what holds much of it.
#[derive(Debug, Default)]
pub(crate) struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_written_counts() {
        const BYTES: u64 = 64 * 1024 * 1024;
        let before = resident_bytes().unwrap();
        let held = vec![1_u8; usize::try_from(BYTES).unwrap()];
        let after = resident_bytes().unwrap();
        assert!(after >= before + BYTES / 2, "{before} {after}");
        assert_eq!(held[held.len() - 1], 1);
    }
}
