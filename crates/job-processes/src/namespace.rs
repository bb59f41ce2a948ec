//! The name of the process table that this process sees.

use std::path::Path;

use nix::unistd::Pid;
use sha2::{Digest as _, Sha256};

use crate::Error;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const NAMESPACE: &str = "/proc/self/ns/pid";
const SELF: &str = "/proc/self";
const DIGEST_CHARS: usize = 12;

/// Name of the process table of this process: host name, start of the machine, and process namespace, e.g.
/// `worker-3/5f0c7a91b2d4/4026531836`. Two processes see each other's processes only if their names are
/// equal. A machine that starts again, and a container that does, has another name; all processes of the
/// earlier one have ended.
///
/// # Errors
/// The kernel does not say, or `/proc` shows the processes of another namespace, e.g. in a namespace made
/// without mounting it: process ids that are read there are those of other processes here.
pub fn namespace() -> Result<String, Error> {
    let shown = std::fs::read_link(SELF).map_err(Error::ProcessTable)?;
    if shown != Path::new(&Pid::this().to_string()) {
        return Err(Error::ForeignTable { shown: shown.display().to_string() });
    }
    let boot = std::fs::read_to_string(BOOT_ID).map_err(Error::ProcessTable)?;
    let namespace = std::fs::read_link(NAMESPACE).map_err(Error::ProcessTable)?;
    let number: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok()).unwrap_or_default();
    let boot = hex::encode(Sha256::digest(boot.trim()));
    Ok(format!("{host}/{}/{number}", &boot[..DIGEST_CHARS]))
}

/// Whether two names are of the same machine, though perhaps of different process namespaces.
pub fn is_same_machine(one: &str, other: &str) -> bool {
    fn machine(name: &str) -> Option<&str> {
        name.rsplit('/').nth(1)
    }
    machine(one).is_some() && machine(one) == machine(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_table_has_a_name_of_its_own() {
        let name = namespace().unwrap();
        assert_eq!(name, namespace().unwrap());
        assert_eq!(name.split('/').count(), 3, "{name}");
        assert!(is_same_machine(&name, "elsewhere/000000000000/1") == name.contains("/000000000000/"));
        let other = format!("{}/1", name.rsplit_once('/').unwrap().0);
        assert!(is_same_machine(&name, &other) && name != other);
        assert!(!is_same_machine("", ""));
    }
}
