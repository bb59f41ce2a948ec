//! What the restricted Pod Security Standard forbids.
//!
//! Source: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.

use k8s_openapi::api::core::v1::{Container, PodSpec, SeccompProfile, SecurityContext, Volume};
use slipway_domain::Invalid;

/// Refuses a pod that asks for more than the restricted standard allows; `field` is where its spec is.
///
/// # Errors
/// Names the first field that does, and what is expected of it.
pub fn refuse_privileges(field: &str, pod: &PodSpec) -> Result<(), Invalid> {
    let hosts = [("hostNetwork", pod.host_network), ("hostPID", pod.host_pid), ("hostIPC", pod.host_ipc)];
    for (name, asked) in hosts {
        expect(asked != Some(true), field, name, "false")?;
    }
    if let Some(context) = &pod.security_context {
        let at = format!("{field}.securityContext");
        expect(context.run_as_non_root != Some(false), &at, "runAsNonRoot", "true")?;
        expect(context.run_as_user != Some(0), &at, "runAsUser", "an account other than root (0)")?;
        expect(context.sysctls.as_ref().is_none_or(Vec::is_empty), &at, "sysctls", "none")?;
        expect(is_confined(context.seccomp_profile.as_ref()), &at, "seccompProfile", "RuntimeDefault")?;
        expect(context.se_linux_options.is_none(), &at, "seLinuxOptions", "none")?;
        expect(context.windows_options.is_none(), &at, "windowsOptions", "none")?;
    }
    for volume in pod.volumes.iter().flatten() {
        let why = "a volume that is no part of the node, such as emptyDir, secret or persistentVolumeClaim";
        expect(is_allowed(volume), field, &format!("volumes[{}]", volume.name), why)?;
    }
    let lists =
        [("initContainers", pod.init_containers.as_deref()), ("containers", Some(&pod.containers[..]))];
    for (list, containers) in lists {
        for container in containers.unwrap_or_default() {
            refuse_container(&format!("{field}.{list}[{}]", container.name), container)?;
        }
    }
    let ephemeral = pod.ephemeral_containers.as_ref().is_none_or(Vec::is_empty);
    expect(ephemeral, field, "ephemeralContainers", "none")
}

fn refuse_container(field: &str, container: &Container) -> Result<(), Invalid> {
    let host_port = container.ports.iter().flatten().any(|port| port.host_port.is_some_and(|port| port != 0));
    expect(!host_port, field, "ports", "no hostPort")?;
    let at = format!("{field}.securityContext");
    let none = SecurityContext::default();
    let context = container.security_context.as_ref().unwrap_or(&none);
    expect(context.privileged != Some(true), &at, "privileged", "false")?;
    let escalates = context.allow_privilege_escalation != Some(false);
    expect(!escalates, &at, "allowPrivilegeEscalation", "false")?;
    expect(context.run_as_non_root != Some(false), &at, "runAsNonRoot", "true")?;
    expect(context.run_as_user != Some(0), &at, "runAsUser", "an account other than root (0)")?;
    expect(is_confined(context.seccomp_profile.as_ref()), &at, "seccompProfile", "RuntimeDefault")?;
    expect(context.se_linux_options.is_none(), &at, "seLinuxOptions", "none")?;
    expect(context.windows_options.is_none(), &at, "windowsOptions", "none")?;
    let proc_mount = context.proc_mount.as_deref().is_none_or(|mount| mount == "Default");
    expect(proc_mount, &at, "procMount", "Default")?;
    let capabilities = context.capabilities.clone().unwrap_or_default();
    let drops_all = capabilities.drop.iter().flatten().any(|capability| capability == "ALL");
    expect(drops_all, &at, "capabilities.drop", "ALL")?;
    let mut added = capabilities.add.iter().flatten();
    expect(
        added.all(|capability| capability == "NET_BIND_SERVICE"),
        &at,
        "capabilities.add",
        "NET_BIND_SERVICE",
    )
}

fn is_confined(profile: Option<&SeccompProfile>) -> bool {
    profile.is_none_or(|profile| profile.type_ != "Unconfined")
}

fn is_allowed(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.csi.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.ephemeral.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.projected.is_some()
        || volume.secret.is_some()
}

fn expect(holds: bool, field: &str, name: &str, expected: &str) -> Result<(), Invalid> {
    if holds {
        return Ok(());
    }
    let why = format!(
        "expected {expected}: the restricted Pod Security Standard forbids anything else, and the operator \
         does not allow it (SLIPWAY_OPERATOR_ALLOW_PRIVILEGED_PODS)"
    );
    Err(Invalid::new(format!("{field}.{name}"), why))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{restricted_container, restricted_pod};

    fn refused(change: impl FnOnce(&mut Value)) -> Option<String> {
        let pod = PodSpec {
            containers: vec![Container {
                name: "c".to_owned(),
                security_context: Some(restricted_container()),
                ..Container::default()
            }],
            security_context: Some(restricted_pod()),
            ..PodSpec::default()
        };
        let mut pod = json!(pod);
        change(&mut pod);
        refuse_privileges("spec", &serde_json::from_value(pod).unwrap()).err().map(|invalid| invalid.field)
    }

    #[test]
    fn what_the_restricted_standard_forbids_is_refused_with_its_field() {
        assert_eq!(refused(|_| {}), None);
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 14] = [
            (|pod| pod["hostNetwork"] = json!(true), "spec.hostNetwork"),
            (|pod| pod["hostPID"] = json!(true), "spec.hostPID"),
            (|pod| pod["securityContext"]["runAsUser"] = json!(0), "spec.securityContext.runAsUser"),
            (
                |pod| pod["securityContext"]["runAsNonRoot"] = json!(false),
                "spec.securityContext.runAsNonRoot",
            ),
            (
                |pod| pod["securityContext"]["seccompProfile"] = json!({"type": "Unconfined"}),
                "spec.securityContext.seccompProfile",
            ),
            (
                |pod| pod["securityContext"]["sysctls"] = json!([{"name": "kernel.msgmax", "value": "1"}]),
                "spec.securityContext.sysctls",
            ),
            (|pod| pod["volumes"] = json!([{"name": "v", "hostPath": {"path": "/"}}]), "spec.volumes[v]"),
            (
                |pod| pod["containers"][0]["securityContext"]["privileged"] = json!(true),
                "spec.containers[c].securityContext.privileged",
            ),
            (
                |pod| pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true),
                "spec.containers[c].securityContext.allowPrivilegeEscalation",
            ),
            (
                |pod| pod["containers"][0]["securityContext"]["capabilities"]["add"] = json!(["SYS_ADMIN"]),
                "spec.containers[c].securityContext.capabilities.add",
            ),
            (
                |pod| pod["containers"][0]["securityContext"]["capabilities"] = json!({}),
                "spec.containers[c].securityContext.capabilities.drop",
            ),
            (
                |pod| pod["containers"][0]["securityContext"]["procMount"] = json!("Unmasked"),
                "spec.containers[c].securityContext.procMount",
            ),
            (
                |pod| pod["containers"][0]["ports"] = json!([{"containerPort": 1, "hostPort": 1}]),
                "spec.containers[c].ports",
            ),
            (
                |pod| pod["initContainers"] = json!([{"name": "i", "securityContext": {"privileged": true}}]),
                "spec.initContainers[i].securityContext.privileged",
            ),
        ];
        for (change, field) in cases {
            assert_eq!(refused(change).as_deref(), Some(field));
        }
    }
}
