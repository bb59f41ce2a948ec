//! A container of a pod template as the command of a job.

use std::collections::BTreeMap;

use serde_json::Value;
use slipway_domain::Invalid;
use slipway_domain::training::{EnvRef, EnvSource, ImagePullPolicy};

use crate::fields::Fields;
use crate::{Converted, quantity};

/// Resource that counts GPUs where a job names none.
const DEFAULT_GPU_RESOURCE: &str = "nvidia.com/gpu";
const CPU: &str = "cpu";
const MEMORY: &str = "memory";
const STORAGE: &str = "ephemeral-storage";

/// Takes what a job has of a container; its mounts are taken with the pod's volumes.
pub(crate) fn take(container: &mut Fields, into: &mut Converted) -> Result<(), Invalid> {
    container.ignore(&["name", "terminationMessagePath", "terminationMessagePolicy"]);
    into.kubernetes.image = container
        .take("image")?
        .ok_or_else(|| container.invalid("image", "expected the container image of the command"))?;
    take_command(container, into)?;
    into.kubernetes.working_dir = container.take("workingDir")?;
    into.kubernetes.image_pull_policy = match container.take::<String>("imagePullPolicy")?.as_deref() {
        None => None,
        Some("Always") => Some(ImagePullPolicy::Always),
        Some("IfNotPresent") => Some(ImagePullPolicy::IfNotPresent),
        Some("Never") => Some(ImagePullPolicy::Never),
        Some(other) => {
            let message = format!("expected Always, IfNotPresent or Never, got `{other}`");
            return Err(container.invalid("imagePullPolicy", message));
        }
    };
    into.kubernetes.security_context = container.take("securityContext")?;
    take_env(container, into)?;
    let mut resources = container.object("resources")?;
    take_resources(&mut resources, into)?;
    resources.drop_into(&mut into.dropped);
    Ok(())
}

/// The agent runs the command itself and does not know the image's entry point.
pub(crate) fn take_command(container: &mut Fields, into: &mut Converted) -> Result<(), Invalid> {
    let command: Vec<String> = container.take("command")?.unwrap_or_default();
    let arguments: Vec<String> = container.take("args")?.unwrap_or_default();
    if command.is_empty() {
        let message = "expected the program: the entry point of the image is not known here";
        return Err(container.invalid("command", message));
    }
    let all: Vec<String> = command.into_iter().chain(arguments).collect();
    if let Some(argument) = all.iter().find(|argument| argument.contains("$(")) {
        let message = format!("`$(NAME)` is not replaced, in `{argument}`; use a shell and `$NAME`");
        return Err(container.invalid("command", message));
    }
    into.job.command = all;
    Ok(())
}

/// Takes variables: plain ones, those from an entry of an object, and those from all entries.
pub(crate) fn take_env(container: &mut Fields, into: &mut Converted) -> Result<(), Invalid> {
    for mut variable in container.objects("env")? {
        let name: String =
            variable.take("name")?.ok_or_else(|| variable.invalid("name", "expected a name"))?;
        let mut from = variable.object("valueFrom")?;
        if let Some(value) = variable.take::<String>("value")? {
            into.job.env.insert(name, value);
        } else if let Some(entry) = take_entry(&mut from)? {
            into.kubernetes.env_refs.insert(name, entry);
        } else if from.names().is_empty() {
            into.job.env.insert(name, String::new());
        }
        from.drop_into(&mut into.dropped);
        variable.drop_into(&mut into.dropped);
    }
    for mut source in container.objects("envFrom")? {
        let (mut secret, mut config_map) = (source.object("secretRef")?, source.object("configMapRef")?);
        into.kubernetes.env_from.push(EnvSource {
            secret: secret.take("name")?,
            config_map: config_map.take("name")?,
            prefix: source.take("prefix")?.unwrap_or_default(),
        });
        for rest in [secret, config_map, source] {
            rest.drop_into(&mut into.dropped);
        }
    }
    Ok(())
}

fn take_entry(from: &mut Fields) -> Result<Option<EnvRef>, Invalid> {
    for (field, is_secret) in [("secretKeyRef", true), ("configMapKeyRef", false)] {
        let mut entry = from.object(field)?;
        let Some(name) = entry.take::<String>("name")? else { continue };
        let key = entry.take("key")?.ok_or_else(|| entry.invalid("key", "expected a key"))?;
        // Without it, the pod does not start: nothing else can be meant by an optional one that is absent.
        entry.ignore(&["optional"]);
        let (secret, config_map) = if is_secret { (Some(name), None) } else { (None, Some(name)) };
        return Ok(Some(EnvRef { secret, config_map, key }));
    }
    Ok(None)
}

/// Limits count for memory, storage and devices, requests for CPU cores; each stands for the other where it
/// is absent.
pub(crate) fn take_resources(resources: &mut Fields, into: &mut Converted) -> Result<(), Invalid> {
    let limits: BTreeMap<String, Value> = resources.take("limits")?.unwrap_or_default();
    let requests: BTreeMap<String, Value> = resources.take("requests")?.unwrap_or_default();
    let wrong = |name: &str, value: &Value| {
        resources.invalid(&format!("limits.{name}"), format!("expected a quantity, got {value}"))
    };
    if let Some(value) = requests.get(CPU).or_else(|| limits.get(CPU)) {
        into.job.resources.cpus = quantity::number(value).ok_or_else(|| wrong(CPU, value))?;
    }
    let whole = |name: &str| {
        let value = limits.get(name).or_else(|| requests.get(name));
        value.map(|value| quantity::whole(value).ok_or_else(|| wrong(name, value))).transpose()
    };
    into.job.resources.memory_bytes = whole(MEMORY)?.unwrap_or_default();
    into.kubernetes.ephemeral_storage_bytes = whole(STORAGE)?;
    let devices: Vec<&String> =
        limits.keys().chain(requests.keys()).filter(|name| name.contains('/')).collect();
    let Some(&gpu) = devices.first() else { return Ok(()) };
    if let Some(other) = devices.iter().find(|&&name| name != gpu) {
        let message = format!("a job has devices of one kind, got `{gpu}` and `{other}`");
        return Err(resources.invalid("limits", message));
    }
    let count = whole(gpu)?.unwrap_or_default();
    into.job.resources.gpus = u32::try_from(count).unwrap_or(u32::MAX);
    into.kubernetes.gpu_resource = Some(gpu.clone()).filter(|name| name != DEFAULT_GPU_RESOURCE);
    Ok(())
}
