//! A pod template as a job.

use slipway_domain::Invalid;

use crate::fields::Fields;
use crate::{Converted, container, volumes};

/// Fields that an API server adds, or that mean what is so anyway.
const WITHOUT_MEANING: [&str; 5] =
    ["restartPolicy", "dnsPolicy", "schedulerName", "serviceAccount", "enableServiceLinks"];

/// Takes what a job has of a pod template. `named` is the name of the command's container, if the kind of the
/// manifest gives it one.
pub(crate) fn take(template: &mut Fields, named: Option<&str>, into: &mut Converted) -> Result<(), Invalid> {
    let mut metadata = template.object("metadata")?;
    metadata.ignore(&["creationTimestamp", "name"]);
    into.kubernetes.labels.extend(metadata.take_map("labels")?);
    into.kubernetes.annotations.extend(metadata.take_map("annotations")?);
    metadata.drop_into(&mut into.dropped);
    let mut pod = template.object("spec")?;
    let mut containers = pod.objects("containers")?;
    let name_of = |container: &Fields| container.text("name").map(str::to_owned);
    let place = match named {
        Some(named) => containers.iter().position(|container| name_of(container).as_deref() == Some(named)),
        None => None,
    };
    if containers.is_empty() {
        return Err(pod.invalid("containers", "expected the container of the command"));
    }
    let mut command = containers.remove(place.unwrap_or(0));
    container::take(&mut command, into)?;
    volumes::take(&mut pod, &mut command, into)?;
    command.drop_into(&mut into.dropped);
    let before = pod.objects("initContainers")?.into_iter().map(|container| (container, "an init container"));
    let others = containers.into_iter().map(|container| (container, "not the container of the command"));
    for (container, what) in others.chain(before) {
        into.dropped.push(format!("{} ({what})", container.path()));
    }
    take_settings(&mut pod, into)?;
    pod.ignore(&WITHOUT_MEANING);
    pod.drop_into(&mut into.dropped);
    Ok(())
}

fn take_settings(pod: &mut Fields, into: &mut Converted) -> Result<(), Invalid> {
    for mut secret in pod.objects("imagePullSecrets")? {
        into.kubernetes.image_pull_secrets.extend(secret.take::<String>("name")?);
    }
    if let Some(seconds) = pod.take::<f64>("terminationGracePeriodSeconds")? {
        into.job.grace_period_s = seconds;
    }
    if let Some(seconds) = pod.take::<f64>("activeDeadlineSeconds")? {
        into.job.timeout_s = Some(seconds);
    }
    let kubernetes = &mut into.kubernetes;
    kubernetes.service_account = pod.take("serviceAccountName")?;
    kubernetes.node_selector = pod.take_map("nodeSelector")?;
    kubernetes.tolerations = pod.take("tolerations")?.unwrap_or_default();
    kubernetes.affinity = pod.take("affinity")?;
    kubernetes.topology_spread_constraints = pod.take("topologySpreadConstraints")?.unwrap_or_default();
    kubernetes.priority_class = pod.take("priorityClassName")?;
    kubernetes.pod_security_context = pod.take("securityContext")?;
    Ok(())
}
