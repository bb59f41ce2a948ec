//! Artifact URIs: which lie behind the old server's proxy, and where the same place is in the registry.

use std::collections::BTreeMap;

const PROXY_SCHEME: &str = "mlflow-artifacts:";
const PROXY_ROUTE: &str = "/mlflow-artifacts/artifacts/";

/// The path within the artifact proxy that a URI names; `None` for a URI of something else.
pub(crate) fn proxy_path(uri: &str) -> Option<&str> {
    let path = if let Some(rest) = uri.strip_prefix(PROXY_SCHEME) {
        match rest.strip_prefix("//") {
            // The authority is the old server, by whatever name.
            Some(with_authority) => with_authority.split_once('/').map_or("", |(_, path)| path),
            None => rest,
        }
    } else if uri.starts_with("http://") || uri.starts_with("https://") {
        uri.split_once(PROXY_ROUTE)?.1
    } else {
        return None;
    };
    Some(path.trim_matches('/'))
}

/// Where each experiment's artifacts lay, and where they lie in the registry's proxy.
#[derive(Debug, Default)]
pub(crate) struct Roots(BTreeMap<String, String>);

impl Roots {
    /// Adds an experiment by its two artifact locations.
    pub(crate) fn add(&mut self, source_location: &str, target_location: &str) {
        if let Some(target) = proxy_path(target_location) {
            self.0.insert(place(source_location), target.to_owned());
        }
    }

    /// The registry's URI for one of the old server; `None` outside of every experiment that was copied.
    fn moved(&self, uri: &str) -> Option<String> {
        let place = place(uri);
        let rest_in = |root: &str| {
            place
                .strip_prefix(root)
                .filter(|rest| rest.is_empty() || rest.starts_with('/') || root.ends_with('/'))
        };
        // The longest root wins: an experiment may lie within another one's location.
        let (rest, target) = self
            .0
            .iter()
            .filter_map(|(root, target)| Some((rest_in(root)?, target)))
            .min_by_key(|(rest, _)| rest.len())?;
        let rest = rest.trim_start_matches('/');
        let path = if rest.is_empty() { target.clone() } else { format!("{target}/{rest}") };
        Some(format!("{PROXY_SCHEME}/{path}"))
    }
}

/// One way to write each place.
fn place(uri: &str) -> String {
    match proxy_path(uri) {
        Some(path) => format!("{PROXY_SCHEME}/{path}"),
        None => uri.trim_end_matches('/').to_owned(),
    }
}

/// Where a version's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A name that holds in the registry as well: `runs:/…`, `models:/m-…`, and everything the proxy has,
    /// moved.
    Here(String),
    /// Files of an experiment that lay on S3 or a disk, and were copied if the old server could read them.
    Copied { here: String, old: String },
    /// Another version, which has to be there before: `models:/name/3`.
    Version(String),
    /// Somewhere else: S3, a disk.
    Elsewhere(String),
    /// Behind the old proxy, but in no experiment that was copied.
    Unknown,
}

impl Source {
    /// Reads a version's source, and moves it.
    pub(crate) fn read(uri: &str, roots: &Roots) -> Self {
        if let Some(model) = uri.strip_prefix("models:/") {
            let by_id = model.starts_with("m-") && !model.contains(['/', '@']);
            return if by_id { Self::Here(uri.to_owned()) } else { Self::Version(uri.to_owned()) };
        }
        if uri.starts_with("runs:/") {
            return Self::Here(uri.to_owned());
        }
        match (roots.moved(uri), proxy_path(uri)) {
            (Some(here), Some(_)) => Self::Here(here),
            (Some(here), None) => Self::Copied { here, old: uri.to_owned() },
            (None, Some(_)) => Self::Unknown,
            (None, None) => Self::Elsewhere(uri.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_place_of_the_proxy_is_understood() {
        for uri in [
            "mlflow-artifacts:/1/abc/artifacts",
            "mlflow-artifacts://old:5000/1/abc/artifacts",
            "https://old/api/2.0/mlflow-artifacts/artifacts/1/abc/artifacts/",
        ] {
            assert_eq!(proxy_path(uri), Some("1/abc/artifacts"), "{uri}");
        }
        for uri in ["s3://bucket/1/abc", "file:///mlruns/1", "/mlruns/1", "http://elsewhere/1"] {
            assert_eq!(proxy_path(uri), None, "{uri}");
        }
    }

    #[test]
    fn sources_move_to_the_new_experiment() {
        let mut roots = Roots::default();
        roots.add("mlflow-artifacts:/1", "mlflow-artifacts:/7");
        roots.add("mlflow-artifacts:/shared/team", "mlflow-artifacts:/8");
        roots.add("s3://bucket/2/", "mlflow-artifacts:/9");
        let read = |uri: &str| Source::read(uri, &roots);
        assert_eq!(
            read("mlflow-artifacts:/1/abc/artifacts/model"),
            Source::Here("mlflow-artifacts:/7/abc/artifacts/model".into())
        );
        assert_eq!(
            read("mlflow-artifacts:/shared/team/abc/artifacts/m"),
            Source::Here("mlflow-artifacts:/8/abc/artifacts/m".into())
        );
        assert_eq!(read("mlflow-artifacts:/12/abc/artifacts/model"), Source::Unknown);
        assert_eq!(read("runs:/abc/model"), Source::Here("runs:/abc/model".into()));
        assert_eq!(read("models:/m-0a"), Source::Here("models:/m-0a".into()));
        assert_eq!(read("models:/churn/3"), Source::Version("models:/churn/3".into()));
        assert_eq!(read("s3://bucket/22/x"), Source::Elsewhere("s3://bucket/22/x".into()));
        let old = "s3://bucket/2/abc/artifacts/m".to_owned();
        assert_eq!(read(&old), Source::Copied { here: "mlflow-artifacts:/9/abc/artifacts/m".into(), old });
    }
}
