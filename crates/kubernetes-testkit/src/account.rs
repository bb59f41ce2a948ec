//! Service accounts of tests, and what they have asked of the API server.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{Error, TestNamespace};

/// A request to the API server.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its verb, e.g. `patch`.
    pub verb: String,
    /// Resource with its subresource, e.g. `pods/status`.
    pub resource: String,
    /// API group; empty for that of pods.
    pub group: String,
    /// Name of the object; empty for a list.
    pub name: String,
    /// HTTP status.
    pub code: u64,
}

impl TestNamespace<'_> {
    /// Makes a service account of this name, with a Role of the same name that `role` defines. Returns its
    /// kubeconfig.
    ///
    /// # Errors
    /// The API server rejects one of them.
    pub fn account(&self, name: &str, role: &str) -> Result<Value, Error> {
        self.kubectl(&["create", "serviceaccount", name])?;
        self.allow(&format!("{}:{name}", self.name()), name, role)?;
        let token = self.kubectl(&["create", "token", name])?;
        let mut config = self.cluster().credentials().kubeconfig();
        config["users"][0]["user"] = json!({"token": token.trim()});
        Ok(config)
    }

    /// Gives a service account, `namespace:name`, a Role of this name that `role` defines.
    ///
    /// # Errors
    /// The API server rejects it.
    pub fn allow(&self, account: &str, name: &str, role: &str) -> Result<(), Error> {
        self.apply(role)?;
        let subject = format!("--serviceaccount={account}");
        self.kubectl(&["create", "rolebinding", name, "--role", name, &subject]).map(drop)
    }

    /// The requests of a service account of this namespace so far, each once. The cluster needs an audit log.
    ///
    /// # Errors
    /// There is no audit log.
    pub fn requests(&self, account: &str) -> Result<Vec<Request>, Error> {
        let user = format!("system:serviceaccount:{}:{account}", self.name());
        let path = self.cluster().audit_log();
        let log = std::fs::read_to_string(&path).map_err(Error::file("cannot read", &path))?;
        let mut seen = BTreeSet::new();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let own = events.filter(|event| event["user"]["username"] == user);
        let own = own.filter(|event| seen.insert(text(&event["auditID"])));
        Ok(own.map(|event| request(&event)).collect())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn request(event: &Value) -> Request {
    let object = &event["objectRef"];
    let resource = match object["subresource"].as_str() {
        Some(subresource) => format!("{}/{subresource}", text(&object["resource"])),
        None => text(&object["resource"]),
    };
    Request {
        verb: text(&event["verb"]),
        resource,
        group: text(&object["apiGroup"]),
        name: text(&object["name"]),
        code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
    }
}

/// A Role of this name that allows everything in its namespace.
pub fn unlimited_role(name: &str) -> String {
    let rules = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name},
        "rules": rules})
    .to_string()
}

/// `verb resource.group` of each permission that a Role grants.
///
/// # Panics
/// It is not a Role.
#[expect(clippy::expect_used, reason = "for tests, which can only fail")]
pub fn granted(role: &Value) -> BTreeSet<String> {
    let mut granted = BTreeSet::new();
    let texts =
        |value: &Value| -> Vec<String> { value.as_array().expect("a list").iter().map(text).collect() };
    for rule in role["rules"].as_array().expect("a Role has rules") {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                granted.extend(texts(&rule["verbs"]).iter().map(|verb| format!("{verb} {resource}.{group}")));
            }
        }
    }
    granted
}

/// `verb resource.group` of each permission that these requests made use of.
///
/// # Panics
/// One was refused.
pub fn used(requests: &[Request]) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for request in requests {
        assert!(request.code < 400 || matches!(request.code, 404 | 409), "{request:?}");
        let what = format!("{}.{}", request.resource, request.group);
        used.insert(format!("{} {what}", request.verb));
        // A patch that creates an object is checked for both.
        if request.verb == "patch" && request.code == 201 {
            used.insert(format!("create {what}"));
        }
    }
    used
}
