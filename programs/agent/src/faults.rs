//! GPUs that do not work, as the output of a command shows it.
//!
//! NVIDIA's driver numbers its errors (Xid). Some are those of a program, such as an access to memory that it
//! does not have; others say that the device is at fault, and that another program would fare no better.
//! Source: <https://docs.nvidia.com/deploy/xid-errors/index.html>.

/// Numbers of errors of the device: memory that cannot be corrected, its remapping, NVLink, the
/// microcontroller, a device that no longer answers.
const XIDS: [u32; 15] = [48, 61, 62, 63, 64, 74, 79, 92, 94, 95, 110, 119, 120, 121, 140];
/// What libraries print of such errors.
const MESSAGES: [&str; 3] =
    ["uncorrectable ECC error encountered", "GPU has fallen off the bus", "GPU is lost"];
/// Longer lines are cut.
const MAX_LINE_BYTES: usize = 4 * 1024;
const MAX_MESSAGE_CHARS: usize = 300;

/// Looks for errors of GPUs in what a command writes.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// The line that is not complete yet.
    line: Vec<u8>,
    found: Option<String>,
}

impl Faults {
    /// Takes a part of the output.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        if self.found.is_some() {
            return;
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE_BYTES.saturating_sub(self.line.len()).min(part.len());
            self.line.extend_from_slice(&part[..room]);
            if part.ends_with(b"\n") {
                self.found = self.found.take().or_else(|| fault(&String::from_utf8_lossy(&self.line)));
                self.line.clear();
            }
        }
    }

    /// The first error that was found.
    pub(crate) fn found(&self) -> Option<String> {
        self.found.clone().or_else(|| fault(&String::from_utf8_lossy(&self.line)))
    }
}

/// What a line says about a GPU that does not work.
fn fault(line: &str) -> Option<String> {
    let says = MESSAGES.iter().any(|message| line.contains(message))
        || line.split("Xid").skip(1).any(|rest| xid(rest).is_some_and(|xid| XIDS.contains(&xid)));
    says.then(|| line.trim().chars().take(MAX_MESSAGE_CHARS).collect())
}

/// The number in what follows `Xid`, such as ` (PCI:0000:3b:00): 79, pid=1` or ` 79`.
fn xid(rest: &str) -> Option<u32> {
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix('(') {
        Some(device) => device.split_once(')')?.1,
        None => rest,
    };
    let digits = rest.trim_start_matches([':', ' ', '=']);
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(parts: &[&str]) -> Option<String> {
        let mut faults = Faults::default();
        for part in parts {
            faults.read(part.as_bytes());
        }
        faults.found()
    }

    #[test]
    fn errors_of_the_device_are_told_from_those_of_the_program() {
        let lost = "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', GPU has fallen off the bus.";
        assert_eq!(found(&["step 1\n", lost, "\nstep 2\n"]).as_deref(), Some(lost));
        for line in [
            "Xid 48",
            "[12.5] NVRM: Xid (PCI:0000:01:00): 95, pid=7",
            "NVML: Xid: 74",
            "RuntimeError: CUDA error: uncorrectable ECC error encountered",
        ] {
            assert_eq!(found(&[line]).as_deref(), Some(line), "{line}");
        }
        for line in [
            "NVRM: Xid (PCI:0000:3b:00): 31, pid=9, MMU Fault",
            "Xid 13",
            "CUDA out of memory",
            "Xid",
            "Xid (79",
            "proXid 79x9 of 100",
        ] {
            let expected = line.starts_with("proXid").then(|| line.to_owned());
            assert_eq!(found(&[line]), expected, "{line}");
        }
    }

    #[test]
    fn a_line_may_come_in_pieces_and_only_the_first_error_counts() {
        assert_eq!(
            found(&["NVRM: X", "id (PCI:0): 7", "9\nXid 48\n"]).as_deref(),
            Some("NVRM: Xid (PCI:0): 79")
        );
        let long = "x".repeat(2 * MAX_LINE_BYTES);
        assert_eq!(found(&[&long, " Xid 79\n", "Xid 48\n"]).as_deref(), Some("Xid 48"), "a long line is cut");
    }
}
