//! The kinds of this release with their schemas.

use std::collections::BTreeMap;

use serde_json::Value;

/// The CustomResourceDefinitions, as `deploy/kubernetes` has them.
const FILES: [&str; 3] = [
    include_str!("../../../deploy/kubernetes/modeldeployments.yaml"),
    include_str!("../../../deploy/kubernetes/trainingjobs.yaml"),
    include_str!("../../../deploy/kubernetes/inferenceservices.yaml"),
];

/// Schemas by group, kind and version.
#[derive(Debug, Clone)]
pub struct Definitions {
    kinds: BTreeMap<(String, String), Versions>,
}

type Versions = BTreeMap<String, Value>;

/// What is known of a kind and version.
pub(crate) enum Found<'known> {
    Schema(&'known Value),
    /// The kind has other versions.
    OtherVersions(Vec<&'known str>),
    /// The group has other kinds.
    OtherKinds(Vec<&'known str>),
    /// Not a group of Slipway.
    Foreign,
}

impl Definitions {
    /// The CustomResourceDefinitions themselves.
    ///
    /// # Errors
    /// As [`Self::of_this_release`].
    pub fn documents() -> Result<Vec<Value>, String> {
        FILES.iter().map(|file| serde_saphyr::from_str(file).map_err(|error| error.to_string())).collect()
    }

    /// Those of this release.
    ///
    /// # Errors
    /// The files of this release are damaged, which its tests exclude.
    pub fn of_this_release() -> Result<Self, String> {
        let mut kinds = BTreeMap::new();
        for definition in Self::documents()? {
            let spec = &definition["spec"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
            let served = versions.iter().filter(|version| version["served"] != Value::Bool(false));
            let schemas =
                served.map(|version| (text(&version["name"]), version["schema"]["openAPIV3Schema"].clone()));
            kinds.insert((text(&spec["group"]), text(&spec["names"]["kind"])), schemas.collect());
        }
        Ok(Self { kinds })
    }

    pub(crate) fn find(&self, api_version: &str, kind: &str) -> Found<'_> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        match self.kinds.get(&(group.to_owned(), kind.to_owned())) {
            Some(versions) => match versions.get(version) {
                Some(schema) => Found::Schema(schema),
                None => Found::OtherVersions(versions.keys().map(String::as_str).collect()),
            },
            None => {
                let of_group = self.kinds.keys().filter(|(known, _)| known == group);
                let kinds: Vec<&str> = of_group.map(|(_, kind)| kind.as_str()).collect();
                // KServe has other kinds, which are not ours.
                if kinds.is_empty() || group != "slipway.dev" {
                    Found::Foreign
                } else {
                    Found::OtherKinds(kinds)
                }
            }
        }
    }
}
