//! Containers of an attempt's pod: the one that brings the agent, and the command's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapEnvSource, ConfigMapKeySelector, Container, EnvFromSource, EnvVar, EnvVarSource, ResourceClaim,
    ResourceRequirements, SecretEnvSource, SecretKeySelector, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use slipway_domain::Invalid;
use slipway_domain::training::attempt::{
    CONTAINER_VARIABLE, GROUP_HOST_VARIABLE, NODE_VARIABLE, PROCESS_PLACEHOLDER, PROCESS_VARIABLE,
    TERMINATION_VARIABLE, WORK_DIR_VARIABLE,
};
use slipway_domain::training::{EnvRef, EnvSource, KubernetesSpec, Resources};
use slipway_kubernetes_pods::{
    bytes, from_field, from_source, millicores, parsed, plain, restricted_container,
};

use crate::attempt::Attempt;
use crate::facts::Facts;
use crate::volumes::{self, AGENT_FOLDER, COMMAND_FOLDER};

/// Name of the command's container.
pub(crate) const COMMAND: &str = "command";
/// Name of the init container that brings the agent.
const AGENT: &str = "agent";
/// Name of the claim for GPUs within the pod.
pub(crate) const GPU_CLAIM: &str = "gpus";
/// Argument with which the agent copies itself to a path.
const INSTALL: &str = "install";
const AGENT_FILE: &str = "slipway-agent";
/// Number of a pod of an Indexed Job.
///
/// Source: <https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode>.
pub(crate) const INDEX_ANNOTATION: &str = "batch.kubernetes.io/job-completion-index";
/// What the agent needs while it copies itself.
const INSTALL_CPU: &str = "10m";
const INSTALL_MEMORY: &str = "32Mi";
/// Devices that NVIDIA's container runtime shows: an image that asks for all of them would get GPUs that the
/// scheduler has given to others.
const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
const NO_DEVICES: &str = "void";

/// The init container: it copies the agent to where the command's container finds it.
pub(crate) fn agent(facts: &Facts) -> Container {
    let amount = |name: &str, amount: &str| (name.to_owned(), Quantity(amount.to_owned()));
    let (cpu, memory) = (amount("cpu", INSTALL_CPU), amount("memory", INSTALL_MEMORY));
    Container {
        name: AGENT.to_owned(),
        image: Some(facts.agent_image.clone()),
        command: Some(vec![facts.agent_path.clone(), INSTALL.to_owned(), agent_file()]),
        resources: Some(ResourceRequirements {
            requests: Some([cpu, memory.clone()].into()),
            limits: Some([memory].into()),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            read_only_root_filesystem: Some(true),
            ..restricted_container()
        }),
        volume_mounts: Some(vec![volumes::agent_mount(false)]),
        ..Container::default()
    }
}

/// The command's container: the user's image, with the agent in front of the command. The agent learns what
/// to run from the launcher.
pub(crate) fn command(attempt: &Attempt<'_>, facts: &Facts) -> Result<Container, Invalid> {
    let kubernetes = attempt.kubernetes;
    let own_context = parsed("security_context", kubernetes.security_context.as_ref())?;
    Ok(Container {
        name: COMMAND.to_owned(),
        image: Some(kubernetes.image.clone()),
        image_pull_policy: kubernetes.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        command: Some(vec![agent_file()]),
        env: Some(variables(attempt, facts)?),
        env_from: Some(kubernetes.env_from.iter().map(env_from).collect::<Vec<_>>())
            .filter(|sources| !sources.is_empty()),
        resources: Some(resources(&attempt.spec.resources, kubernetes, facts)),
        security_context: Some(own_context.unwrap_or_else(restricted_container)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(volumes::mounts(kubernetes)),
        ..Container::default()
    })
}

fn agent_file() -> String {
    format!("{AGENT_FOLDER}/{AGENT_FILE}")
}

/// The agent's variables come last: of two with one name, the last one counts.
fn variables(attempt: &Attempt<'_>, facts: &Facts) -> Result<Vec<EnvVar>, Invalid> {
    let hidden = (!attempt.has_gpus()).then(|| plain(VISIBLE_DEVICES, NO_DEVICES));
    let referred = attempt.kubernetes.env_refs.iter().map(|(name, entry)| from_source(name, env_ref(entry)));
    let own = attempt.variables.iter().map(|(name, value)| plain(name, value));
    let secret = attempt.secret_variables.iter().map(|&name| {
        let key = SecretKeySelector { name: attempt.name(), key: name.to_owned(), optional: None };
        from_source(name, EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() })
    });
    let container = [
        plain(CONTAINER_VARIABLE, "true"),
        plain(WORK_DIR_VARIABLE, COMMAND_FOLDER),
        from_field(NODE_VARIABLE, "spec.nodeName"),
        plain(TERMINATION_VARIABLE, attempt.termination_s().to_string()),
    ];
    let group = attempt.group()?.map(|_| group(attempt, facts)).into_iter().flatten();
    Ok(hidden.into_iter().chain(referred).chain(own).chain(secret).chain(container).chain(group).collect())
}

/// Which process of a distributed job it is, and where the others are.
fn group(attempt: &Attempt<'_>, facts: &Facts) -> [EnvVar; 2] {
    let (name, namespace) = (attempt.name(), attempt.namespace(facts));
    let host = format!("{name}-{PROCESS_PLACEHOLDER}.{name}.{namespace}.svc");
    let index = format!("metadata.annotations['{INDEX_ANNOTATION}']");
    [from_field(PROCESS_VARIABLE, &index), plain(GROUP_HOST_VARIABLE, host)]
}

fn env_ref(EnvRef { secret, config_map, key }: &EnvRef) -> EnvVarSource {
    EnvVarSource {
        secret_key_ref: secret.clone().map(|name| SecretKeySelector {
            name,
            key: key.clone(),
            optional: None,
        }),
        config_map_key_ref: config_map.clone().map(|name| ConfigMapKeySelector {
            name,
            key: key.clone(),
            optional: None,
        }),
        ..EnvVarSource::default()
    }
}

fn env_from(EnvSource { secret, config_map, prefix }: &EnvSource) -> EnvFromSource {
    EnvFromSource {
        prefix: Some(prefix.clone()).filter(|prefix| !prefix.is_empty()),
        secret_ref: secret.clone().map(|name| SecretEnvSource { name, optional: None }),
        config_map_ref: config_map.clone().map(|name| ConfigMapEnvSource { name, optional: None }),
    }
}

/// Memory, storage and GPUs are limits, CPU cores are requested: a limit would slow the command down while
/// cores of the node are idle.
fn resources(asked: &Resources, kubernetes: &KubernetesSpec, facts: &Facts) -> ResourceRequirements {
    let mut limits = BTreeMap::new();
    if asked.memory_bytes > 0 {
        limits.insert("memory".to_owned(), bytes(asked.memory_bytes));
    }
    if let Some(limit) = kubernetes.ephemeral_storage_bytes {
        limits.insert("ephemeral-storage".to_owned(), bytes(limit));
    }
    if asked.gpus > 0 && kubernetes.gpu_claim_template.is_none() {
        let resource = kubernetes.gpu_resource.as_ref().unwrap_or(&facts.gpu_resource);
        limits.insert(resource.clone(), Quantity(asked.gpus.to_string()));
    }
    let mut requests = limits.clone();
    requests.insert("cpu".to_owned(), millicores(asked.cpus));
    let claim = |_: &String| vec![ResourceClaim { name: GPU_CLAIM.to_owned(), request: None }];
    ResourceRequirements {
        claims: kubernetes.gpu_claim_template.as_ref().map(claim),
        limits: Some(limits).filter(|limits| !limits.is_empty()),
        requests: Some(requests),
    }
}
