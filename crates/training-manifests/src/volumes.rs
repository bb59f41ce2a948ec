//! Volumes of a pod template, with the mounts of the command's container.

use std::collections::BTreeMap;

use slipway_domain::Invalid;
use slipway_domain::training::{EmptyDir, Volume};

use crate::fields::Fields;
use crate::{Converted, quantity};

const SHARED_MEMORY: &str = "/dev/shm";

/// A volume of the pod.
#[derive(Debug, Clone, Default)]
struct Source {
    claim: Option<String>,
    secret: Option<String>,
    config_map: Option<String>,
    empty_dir: Option<EmptyDir>,
    read_only: bool,
}

/// Takes the volumes that the container mounts. One of another kind is refused: the command would miss what
/// is in it.
pub(crate) fn take(pod: &mut Fields, container: &mut Fields, into: &mut Converted) -> Result<(), Invalid> {
    let mut sources = BTreeMap::new();
    for mut volume in pod.objects("volumes")? {
        let name: String = volume.take("name")?.ok_or_else(|| volume.invalid("name", "expected a name"))?;
        let source = source(&mut volume, into)?;
        let other = volume.names().first().cloned();
        sources.insert(name, (source, other.map(|kind| volume.path_of(&kind))));
    }
    for mut mount in container.objects("volumeMounts")? {
        let name: String = mount.take("name")?.ok_or_else(|| mount.invalid("name", "expected a name"))?;
        let Some((source, other)) = sources.get(&name) else {
            return Err(mount.invalid("name", format!("there is no volume `{name}`")));
        };
        if let Some(path) = other {
            let message = "expected a persistentVolumeClaim, a secret, a configMap or an emptyDir";
            return Err(Invalid::new(path.clone(), message));
        }
        let read_only = mount.take("readOnly")?.unwrap_or_default() || source.read_only;
        let Source { claim, secret, config_map, empty_dir, .. } = source.clone();
        let volume = Volume {
            mount_path: mount.take("mountPath")?.unwrap_or_default(),
            sub_path: mount.take("subPath")?.unwrap_or_default(),
            read_only,
            claim,
            secret,
            config_map,
            empty_dir,
        };
        mount.drop_into(&mut into.dropped);
        let memory = volume.empty_dir.as_ref().filter(|empty| empty.memory);
        match memory.and_then(|empty| empty.limit_bytes) {
            Some(limit_bytes) if volume.mount_path == SHARED_MEMORY => {
                into.kubernetes.shm_bytes = Some(limit_bytes);
            }
            _ => into.kubernetes.volumes.push(volume),
        }
    }
    Ok(())
}

fn source(volume: &mut Fields, into: &mut Converted) -> Result<Source, Invalid> {
    let mut source = Source::default();
    let kinds = volume.names();
    let has = |kind: &str| kinds.iter().any(|name| name == kind);
    let mut claim = volume.object("persistentVolumeClaim")?;
    source.claim = claim.take("claimName")?;
    source.read_only = claim.take("readOnly")?.unwrap_or_default();
    let mut secret = volume.object("secret")?;
    source.secret = secret.take("secretName")?;
    let mut config_map = volume.object("configMap")?;
    source.config_map = config_map.take("name")?;
    let mut empty = volume.object("emptyDir")?;
    if has("emptyDir") {
        let limit = empty.take::<serde_json::Value>("sizeLimit")?;
        let bytes = |limit: &serde_json::Value| {
            let wrong = || empty.invalid("sizeLimit", format!("expected a quantity, got {limit}"));
            quantity::whole(limit).ok_or_else(wrong)
        };
        let limit_bytes = limit.as_ref().map(bytes).transpose()?;
        let memory = empty.take::<String>("medium")?.is_some_and(|medium| medium == "Memory");
        source.empty_dir = Some(EmptyDir { memory, limit_bytes });
    }
    for rest in [claim, secret, config_map, empty] {
        rest.drop_into(&mut into.dropped);
    }
    Ok(source)
}
