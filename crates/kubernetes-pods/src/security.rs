//! What the restricted Pod Security Standard asks.
//!
//! Source: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.

use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};

/// Account of pods that name none.
const ACCOUNT: i64 = 65_532;

/// What is asked of a pod. Volumes belong to the account's group.
pub fn pod() -> PodSecurityContext {
    PodSecurityContext {
        fs_group: Some(ACCOUNT),
        run_as_group: Some(ACCOUNT),
        run_as_non_root: Some(true),
        run_as_user: Some(ACCOUNT),
        seccomp_profile: Some(runtime_default()),
        ..PodSecurityContext::default()
    }
}

/// What is asked of a container.
pub fn container() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        seccomp_profile: Some(runtime_default()),
        ..SecurityContext::default()
    }
}

/// The container runtime's own list of system calls.
fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }
}
