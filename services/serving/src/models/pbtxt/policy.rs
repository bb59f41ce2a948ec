//! The version policy of a `config.pbtxt`: which versions of a folder are served.

use std::collections::BTreeSet;

use super::text::{Value, number};

/// Which versions of a model are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VersionPolicy {
    /// The highest ones.
    Latest(usize),
    /// Every one.
    All,
    /// These, where they are there.
    Specific(BTreeSet<u64>),
}

/// The policy that the fields name; `None` where they name none.
///
/// # Errors
/// A number that means nothing, or several policies at once.
pub(super) fn version_policy(fields: &[(String, Value)]) -> Result<Option<VersionPolicy>, String> {
    let mut chosen = None;
    for (name, value) in fields.iter().filter(|(name, _)| name == "version_policy") {
        let Value::Message(choices) = value else { return Err(format!("{name} expects a message")) };
        for (choice, value) in choices {
            let Value::Message(fields) = value else {
                return Err(format!("{name}.{choice} expects a message"));
            };
            if chosen.replace(policy(choice, fields)?).is_some() {
                return Err(
                    "version_policy has several policies; expected one of latest, all, specific".to_owned()
                );
            }
        }
    }
    Ok(chosen)
}

fn policy(choice: &str, fields: &[(String, Value)]) -> Result<VersionPolicy, String> {
    match choice {
        "latest" => {
            let count = fields.iter().find(|(name, _)| name == "num_versions");
            let count = count.map(|(name, value)| number::<usize>(name, value)).transpose()?;
            // Unset is Triton's default.
            match count.unwrap_or(1) {
                0 => Err("version_policy.latest.num_versions is 0; expected at least 1".to_owned()),
                count => Ok(VersionPolicy::Latest(count)),
            }
        }
        "all" => Ok(VersionPolicy::All),
        _ => {
            let versions = fields.iter().filter(|(name, _)| name == "versions");
            let versions: BTreeSet<u64> =
                versions.map(|(name, value)| number::<u64>(name, value)).collect::<Result<_, _>>()?;
            if versions.is_empty() {
                return Err(
                    "version_policy.specific.versions is empty; expected the versions to serve".to_owned()
                );
            }
            Ok(VersionPolicy::Specific(versions))
        }
    }
}
