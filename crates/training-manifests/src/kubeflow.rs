//! Kubeflow's kinds.
//!
//! Sources: <https://www.kubeflow.org/docs/components/trainer/legacy-v1/user-guides/> and
//! <https://www.kubeflow.org/docs/components/trainer/reference/>.

use slipway_domain::Invalid;

use crate::fields::Fields;
use crate::policy::{take_limits, take_suspend};
use crate::{Converted, container, pod};

/// Processes of each machine that torchrun starts.
const PROCESSES_VARIABLE: &str = "PET_NPROC_PER_NODE";

/// Roles of a kind, by the names of Slipway.
type Roles = [(&'static str, &'static str)];

const PYTORCH_ROLES: [(&str, &str); 2] = [("Master", "master"), ("Worker", "worker")];
const TENSORFLOW_ROLES: [(&str, &str); 5] = [
    ("Chief", "chief"),
    ("Master", "master"),
    ("Worker", "worker"),
    ("PS", "ps"),
    ("Evaluator", "evaluator"),
];

pub(crate) fn take_pytorch(spec: &mut Fields, into: &mut Converted) -> Result<(), Invalid> {
    take_processes(spec, "nprocPerNode", into)?;
    take_roles(spec, "pytorchReplicaSpecs", &PYTORCH_ROLES, "pytorch", into)
}

pub(crate) fn take_tensorflow(spec: &mut Fields, into: &mut Converted) -> Result<(), Invalid> {
    take_roles(spec, "tfReplicaSpecs", &TENSORFLOW_ROLES, "tensorflow", into)
}

/// A `TrainJob`, as far as it does not leave things to its runtime.
pub(crate) fn take_train_job(spec: &mut Fields, into: &mut Converted) -> Result<(), Invalid> {
    take_suspend(spec, into)?;
    spec.ignore(&["managedBy"]);
    into.kubernetes.labels.extend(spec.take_map("labels")?);
    into.kubernetes.annotations.extend(spec.take_map("annotations")?);
    let mut runtime = spec.object("runtimeRef")?;
    if let Some(name) = runtime.take::<String>("name")? {
        into.dropped.push(format!("{} (what the runtime `{name}` sets is not known here)", runtime.path()));
    }
    let mut trainer = spec.object("trainer")?;
    into.kubernetes.image = trainer.take("image")?.ok_or_else(|| {
        trainer.invalid("image", "expected the container image: that of the runtime is not known here")
    })?;
    container::take_command(&mut trainer, into)?;
    container::take_env(&mut trainer, into)?;
    let mut resources = trainer.object("resourcesPerNode")?;
    container::take_resources(&mut resources, into)?;
    resources.drop_into(&mut into.dropped);
    take_processes(&mut trainer, "numProcPerNode", into)?;
    let nodes: u32 = trainer.take("numNodes")?.unwrap_or(1);
    if nodes > 1 {
        into.kubernetes.replicas.insert("worker".to_owned(), nodes);
    }
    trainer.drop_into(&mut into.dropped);
    Ok(())
}

/// Tells torchrun how many processes to start on each machine.
fn take_processes(fields: &mut Fields, name: &str, into: &mut Converted) -> Result<(), Invalid> {
    let processes: Option<serde_json::Value> = fields.take(name)?;
    if let Some(processes) = processes {
        let text = processes.as_str().map_or_else(|| processes.to_string(), str::to_owned);
        into.job.env.insert(PROCESSES_VARIABLE.to_owned(), text);
    }
    Ok(())
}

/// Takes the roles of a distributed job. All of them run one command of one image.
fn take_roles(
    spec: &mut Fields,
    field: &str,
    roles: &Roles,
    named: &str,
    into: &mut Converted,
) -> Result<(), Invalid> {
    let mut policy = spec.object("runPolicy")?;
    take_suspend(&mut policy, into)?;
    let limit_s = take_limits(&mut policy, into)?;
    // Pods of an attempt that has ended are always removed.
    policy.ignore(&["cleanPodPolicy"]);
    policy.drop_into(&mut into.dropped);
    let mut specs = spec.object(field)?;
    let base = into.clone();
    let mut first: Option<(&str, Converted)> = None;
    let mut replicas = base.kubernetes.replicas.clone();
    for (name, role) in roles {
        if !specs.names().iter().any(|given| given == name) {
            continue;
        }
        let mut one = specs.object(name)?;
        replicas.insert((*role).to_owned(), one.take("replicas")?.unwrap_or(1));
        one.ignore(&["restartPolicy"]);
        let mut converted = base.clone();
        let mut template = one.object("template")?;
        pod::take(&mut template, Some(named), &mut converted)?;
        template.drop_into(&mut converted.dropped);
        one.drop_into(&mut converted.dropped);
        match &mut first {
            None => first = Some((name, converted)),
            Some((leader, known)) => agree(known, converted, &specs.path_of(name), leader)?,
        }
    }
    let (_, converted) = first.ok_or_else(|| {
        let names: Vec<&str> = roles.iter().map(|(name, _)| *name).collect();
        spec.invalid(field, format!("expected some of {}", names.join(", ")))
    })?;
    *into = converted;
    specs.drop_into(&mut into.dropped);
    into.job.timeout_s = limit_s.or(into.job.timeout_s);
    // One process is no group, whatever its role.
    if replicas.values().sum::<u32>() > 1 {
        into.kubernetes.replicas = replicas;
    }
    Ok(())
}

/// A further role has the pods of the first one.
fn agree(first: &mut Converted, other: Converted, path: &str, leader: &str) -> Result<(), Invalid> {
    let same = first.job.command == other.job.command && first.kubernetes.image == other.kubernetes.image;
    if !same {
        let message = format!("expected the image and the command of {leader}: a job has one command");
        return Err(Invalid::new(format!("{path}.template"), message));
    }
    if (&first.job, &first.kubernetes) != (&other.job, &other.kubernetes) {
        first.dropped.push(format!("{path}.template (its pods are like those of {leader})"));
    }
    for dropped in other.dropped {
        if !first.dropped.contains(&dropped) {
            first.dropped.push(dropped);
        }
    }
    Ok(())
}
