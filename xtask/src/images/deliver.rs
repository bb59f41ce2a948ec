//! Images into a container engine of this machine, or into a registry.

use std::process::Command;

use anyhow::bail;

use super::{Engine, Made};
use crate::build::run;
use crate::progress::step;

/// Loads an image into a container engine.
pub(crate) fn load(engine: Engine, made: &Made) -> anyhow::Result<()> {
    let program = match engine {
        Engine::Podman => "podman",
        Engine::Docker => "docker",
        Engine::None => return Ok(()),
    };
    step(&format!("load {} into {program}", made.reference), || {
        run(Command::new(program).args(["load", "--quiet", "--input"]).arg(&made.archive))
    })
}

/// Refuses what is not the address of a registry, before anything is built for it.
pub(crate) fn check(registry: &str) -> anyhow::Result<()> {
    if registry.is_empty() || registry.contains("://") || registry.contains(char::is_whitespace) {
        bail!(
            "--push: `{registry}` is not a registry; expected HOST[:PORT][/PATH], e.g. \
             registry.example.org/team"
        );
    }
    Ok(())
}

/// Pushes an image with its digest. Skopeo knows how to log in: `skopeo login REGISTRY`.
pub(crate) fn push(registry: &str, made: &Made) -> anyhow::Result<()> {
    let registry = registry.trim_end_matches('/');
    let Some(name) = made.reference.strip_prefix("localhost/") else {
        bail!("the image {} has another name than expected", made.reference);
    };
    let target = format!("docker://{registry}/{name}");
    step(&format!("push {target}"), || {
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet", "--preserve-digests"]);
        if is_loopback(registry) {
            command.arg("--dest-tls-verify=false");
        }
        command.arg(format!("oci-archive:{}", made.archive.display())).arg(&target);
        run(&mut command)
    })
}

/// A registry on this machine need not have a certificate.
fn is_loopback(registry: &str) -> bool {
    let host = registry.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_has_neither_a_scheme_nor_spaces() {
        check("registry.example.org/team").unwrap();
        for registry in ["", "https://registry.example.org", "a b"] {
            let error = check(registry).unwrap_err().to_string();
            assert!(error.contains(&format!("`{registry}`")), "{error}");
        }
    }

    #[test]
    fn only_a_registry_on_this_machine_may_lack_a_certificate() {
        assert!(is_loopback("127.0.0.1:5001/team") && is_loopback("localhost"));
        assert!(!is_loopback("127.example.org:5000") && !is_loopback("registry.example.org/127.0.0.1"));
    }
}
