//! What the caller may do: what an installation of the chart needs.

use crate::{Finding, Level};

/// Where a right is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In the namespace of the platform.
    Namespace,
    /// In the whole cluster; the chart's scope `namespace` works without it.
    Cluster,
}

/// A right that the API server is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// API group; empty for the core.
    pub group: &'static str,
    /// Resource.
    pub resource: &'static str,
    /// Verb.
    pub verb: &'static str,
    /// Where.
    pub scope: Scope,
}

const fn create(group: &'static str, resource: &'static str, scope: Scope) -> Right {
    Right { group, resource, verb: "create", scope }
}

/// What `helm install` needs.
pub const RIGHTS: [Right; 11] = [
    create("apps", "deployments", Scope::Namespace),
    create("apps", "statefulsets", Scope::Namespace),
    create("", "services", Scope::Namespace),
    create("", "secrets", Scope::Namespace),
    create("", "serviceaccounts", Scope::Namespace),
    create("", "configmaps", Scope::Namespace),
    create("networking.k8s.io", "networkpolicies", Scope::Namespace),
    create("policy", "poddisruptionbudgets", Scope::Namespace),
    create("rbac.authorization.k8s.io", "rolebindings", Scope::Namespace),
    create("apiextensions.k8s.io", "customresourcedefinitions", Scope::Cluster),
    create("rbac.authorization.k8s.io", "clusterroles", Scope::Cluster),
];

/// Findings about the answers, in the order of [`RIGHTS`].
pub fn rights(namespace: &str, allowed: &[bool]) -> Vec<Finding> {
    let refused = |scope: Scope| -> Vec<String> {
        let asked = RIGHTS.iter().zip(allowed);
        let refused = asked.filter(|(right, allowed)| right.scope == scope && !**allowed);
        refused.map(|(right, _)| format!("{} {}", right.verb, right.resource)).collect()
    };
    let found = |refused: &[String]| {
        if refused.is_empty() {
            "as an installation requires".to_owned()
        } else {
            format!("refused: {}", refused.join(", "))
        }
    };
    let (inside, outside) = (refused(Scope::Namespace), refused(Scope::Cluster));
    vec![
        Finding::of(
            inside.is_empty(),
            Level::Fail,
            "rights in the namespace",
            found(&inside),
            format!("let an administrator bind the ClusterRole admin to you in the namespace {namespace}"),
        ),
        Finding::of(
            outside.is_empty(),
            Level::Warn,
            "rights in the cluster",
            found(&outside),
            "let an administrator apply the CustomResourceDefinitions and ClusterRoles, or install with \
             --set global.scope=namespace",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_rights_are_named_by_where_they_are_needed() {
        let levels = |allowed: &[bool]| -> Vec<Level> {
            rights("ml", allowed).iter().map(|finding| finding.level).collect()
        };
        let mut allowed = [true; RIGHTS.len()];
        assert_eq!(levels(&allowed), [Level::Ok, Level::Ok]);
        allowed[9] = false;
        assert_eq!(levels(&allowed), [Level::Ok, Level::Warn]);
        allowed[3] = false;
        assert_eq!(levels(&allowed), [Level::Fail, Level::Warn]);
        assert_eq!(rights("ml", &allowed)[0].found, "refused: create secrets");
    }
}
