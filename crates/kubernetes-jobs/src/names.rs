//! Names and labels of an attempt's objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use slipway_domain::training::OWN_LABEL_PREFIX;

/// Value of the label `app.kubernetes.io/managed-by`, and the field manager of server-side apply.
pub const MANAGED_BY: &str = "slipway-launcher";
/// Label with the id of the installation that an object belongs to.
const INSTALLATION_LABEL: &str = "slipway.dev/installation";
/// Label with the id of a job.
const JOB_ID_LABEL: &str = "slipway.dev/job-id";
/// Label with the number of an attempt.
const ATTEMPT_LABEL: &str = "slipway.dev/attempt";
const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Characters of a job's own name that are part of the objects' names. With the id and the number, a pod's
/// name, which has another six characters, is no longer than the 63 of a host name.
const MAX_OWN_CHARS: usize = 18;

/// Name of the Job, and of the Secret, of an attempt: the job's own name as far as Kubernetes allows it, its
/// id, and the attempt.
pub(crate) fn name(job_name: &str, job_id: &str, attempt: u32) -> String {
    let id: String = job_id.chars().filter(char::is_ascii_alphanumeric).collect();
    let own = own_part(job_name);
    let id = id.to_ascii_lowercase();
    if own.is_empty() { format!("job-{id}-{attempt}") } else { format!("{own}-{id}-{attempt}") }
}

fn own_part(job_name: &str) -> String {
    let mut own = String::new();
    for character in job_name.chars() {
        let character = character.to_ascii_lowercase();
        if character.is_ascii_lowercase() || character.is_ascii_digit() {
            own.push(character);
        } else if !own.is_empty() && !own.ends_with('-') {
            own.push('-');
        }
        if own.len() == MAX_OWN_CHARS {
            break;
        }
    }
    // A host name begins with a letter where it is to be one everywhere.
    own.trim_start_matches(|first: char| first.is_ascii_digit() || first == '-')
        .trim_end_matches('-')
        .to_owned()
}

/// Labels of an attempt's objects: the job's own, and those by which they are found.
pub(crate) fn labels(
    own: &BTreeMap<String, String>,
    installation: &str,
    job_id: &str,
    attempt: u32,
) -> BTreeMap<String, String> {
    let mut labels = own.clone();
    labels.retain(|name, _| !name.starts_with(OWN_LABEL_PREFIX));
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels.insert(INSTALLATION_LABEL.to_owned(), installation.to_owned());
    labels.insert(JOB_ID_LABEL.to_owned(), job_id.to_owned());
    labels.insert(ATTEMPT_LABEL.to_owned(), attempt.to_string());
    labels
}

/// Selects all objects of an installation.
pub fn selector(installation: &str) -> String {
    format!("{MANAGED_BY_LABEL}={MANAGED_BY},{INSTALLATION_LABEL}={installation}")
}

/// Selects the objects of an attempt.
pub fn of_attempt(installation: &str, job_id: &str, attempt: u32) -> String {
    format!("{},{JOB_ID_LABEL}={job_id},{ATTEMPT_LABEL}={attempt}", selector(installation))
}

/// Id of the job and number of the attempt that an object belongs to.
pub fn attempt_of(metadata: &ObjectMeta) -> Option<(String, u32)> {
    let labels = metadata.labels.as_ref()?;
    Some((labels.get(JOB_ID_LABEL)?.clone(), labels.get(ATTEMPT_LABEL)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0198c5a2-7b1e-7c44-9f0a-0123456789ab";

    #[test]
    fn a_name_shows_the_jobs_own() {
        let id = ID.replace('-', "");
        for (own, shown) in [
            ("train", format!("train-{id}-2")),
            ("ResNet 50 (ImageNet, 8 GPUs)", format!("resnet-50-imagenet-{id}-2")),
            ("2026-11 run", format!("run-{id}-2")),
            ("模型", format!("job-{id}-2")),
            ("--", format!("job-{id}-2")),
        ] {
            assert_eq!(name(own, ID, 2), shown, "{own}");
        }
    }

    #[test]
    fn an_object_says_to_which_attempt_it_belongs() {
        let of = |labels| attempt_of(&ObjectMeta { labels: Some(labels), ..ObjectMeta::default() });
        let own = BTreeMap::from([("team".to_owned(), "vision".to_owned())]);
        assert_eq!(of(labels(&own, "i", ID, 12)), Some((ID.to_owned(), 12)));
        assert_eq!(of(own), None);
    }

    proptest! {
        #[test]
        fn any_job_gets_names_that_kubernetes_accepts(own in ".*", attempt in 1_u32..1_000) {
            let name = name(&own, ID, attempt);
            // Pods get a `-` and five characters more.
            prop_assert!(name.len() + 6 <= 63, "{}", name);
            prop_assert!(name.starts_with(|first: char| first.is_ascii_lowercase()), "{}", name);
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            prop_assert!(name.bytes().all(is_plain), "{}", name);
            prop_assert!(!name.contains("--"), "{}", name);
        }
    }
}
