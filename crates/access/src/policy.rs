//! What each route requires, as one table per service, and the decision over it.

use std::collections::HashMap;

use http::Method;
use slipway_domain::access::{Role, Scope};

use crate::caller::Caller;

/// What a route requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing, not even a credential.
    Open,
    /// Any caller with a valid credential; the handler shows what the caller may see.
    Authenticated,
    /// A role on what the request is about.
    Role(Role, Resource),
    /// A role on anything; the handler lists what the caller may read.
    List,
    /// The role of training jobs, and editor at least, on everything: a job runs code of its submitter with
    /// that role.
    SubmitJobs,
    /// A credential that the message contains, which the handler checks: that of an attempt of a job.
    AttemptToken,
    /// One of the services that the rule names.
    Services,
}

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Everything.
    Everything,
    /// The registered model of what a parameter of the path names: the parameter, and the kind of thing.
    OfPath(&'static str, &'static str),
    /// The experiment of what a parameter of the path names: the parameter, and the kind of thing.
    ExperimentOfPath(&'static str, &'static str),
}

/// One line of a policy.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// HTTP methods, separated by spaces; `POST` for gRPC.
    pub methods: &'static str,
    /// The path as the router has it, or `/package.Service/Method`.
    pub path: &'static str,
    /// What callers need.
    pub requirement: Requirement,
    /// Services of the platform that may call it without the role.
    pub services: &'static [&'static str],
}

/// A line of a policy.
pub const fn rule(methods: &'static str, path: &'static str, requirement: Requirement) -> Rule {
    Rule { methods, path, requirement, services: &[] }
}

/// The line of a gRPC method.
pub const fn grpc(path: &'static str, requirement: Requirement) -> Rule {
    rule("POST", path, requirement)
}

impl Rule {
    /// The rule, which also lets these services in.
    #[must_use]
    pub const fn or_services(self, services: &'static [&'static str]) -> Self {
        Self { services, ..self }
    }

    /// What the rule requires, for the access table.
    pub fn describe(&self) -> String {
        let required = match self.requirement {
            Requirement::Open => "none".to_owned(),
            Requirement::Authenticated => "any token".to_owned(),
            Requirement::Role(role, Resource::Everything) => format!("{role} on everything"),
            Requirement::Role(role, Resource::OfPath(_, kind)) => {
                format!("{role} on the model of the {kind}")
            }
            Requirement::Role(role, Resource::ExperimentOfPath(_, kind)) => {
                format!("{role} on the experiment of the {kind}")
            }
            Requirement::List => "viewer on anything; lists what the caller may read".to_owned(),
            Requirement::SubmitJobs => {
                "editor or the role of jobs, whichever is greater, on everything".to_owned()
            }
            Requirement::AttemptToken => "the attempt's token, in the message".to_owned(),
            Requirement::Services => "a service's token".to_owned(),
        };
        match self.services {
            [] => required,
            services => format!("{required}; or {}", services.join(", ")),
        }
    }
}

/// The policy of a service.
#[derive(Debug)]
pub struct Policy {
    rules: &'static [Rule],
    by_path: HashMap<&'static str, Vec<&'static Rule>>,
}

impl Policy {
    /// The policy of these rules. A route that none of them lists is refused.
    pub fn new(rules: &'static [Rule]) -> Self {
        let mut by_path: HashMap<&str, Vec<&Rule>> = HashMap::new();
        for rule in rules {
            by_path.entry(rule.path).or_default().push(rule);
        }
        Self { rules, by_path }
    }

    /// All rules, in the order of the table.
    pub const fn rules(&self) -> &'static [Rule] {
        self.rules
    }

    /// The rule of a request: by the route that the router matched, or by its path, as of a gRPC method.
    pub fn find(&self, method: &Method, route: Option<&str>, path: &str) -> Option<&'static Rule> {
        let method = if method == Method::HEAD { "GET" } else { method.as_str() };
        let of = |path: &str| {
            let rules = self.by_path.get(path)?;
            rules.iter().find(|rule| rule.methods.split(' ').any(|one| one == method)).copied()
        };
        // A route with a wildcard holds many gRPC methods, each with a rule of its own.
        route.and_then(of).or_else(|| of(path))
    }
}

/// Outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The request may go on.
    Allowed,
    /// Its caller may not: what is missing.
    Denied(String),
}

/// Decides over a request of an authenticated caller.
///
/// `scope` is what the rule's resource is for this request, and `job_role` the role that training jobs have.
pub fn decide(rule: Option<&Rule>, caller: &Caller, scope: &Scope, job_role: Role) -> Decision {
    let principal = &caller.principal;
    let Some(rule) = rule else {
        return Decision::Denied(format!("'{principal}': no rule allows this method of this route"));
    };
    if rule.services.iter().any(|service| **service == **principal) {
        return Decision::Allowed;
    }
    let (role, scope) = match rule.requirement {
        Requirement::Open | Requirement::Authenticated | Requirement::AttemptToken => {
            return Decision::Allowed;
        }
        Requirement::Role(role, _) => (role, scope),
        Requirement::List if caller.grants.has_any() => return Decision::Allowed,
        Requirement::List => (Role::Viewer, &Scope::Everything),
        Requirement::SubmitJobs => (role_to_submit(job_role), &Scope::Everything),
        Requirement::Services => {
            let services = rule.services.join(", ");
            return Decision::Denied(format!("'{principal}': only the service {services} may call this"));
        }
    };
    match caller.grants.check(role, scope) {
        Ok(()) => Decision::Allowed,
        Err(denied) => Decision::Denied(format!("'{principal}': {denied}")),
    }
}

/// A job has `job_role`, so its submitter needs that role, and that of an editor at least.
fn role_to_submit(job_role: Role) -> Role {
    job_role.max(Role::Editor)
}

#[cfg(test)]
mod tests {
    use super::*;

    static RULES: [Rule; 5] = [
        rule("GET", "/a/{name}", Requirement::Role(Role::Viewer, Resource::OfPath("name", "deployment"))),
        rule("PUT DELETE", "/a/{name}", Requirement::Role(Role::Deployer, Resource::Everything)),
        grpc("/p.S/Submit", Requirement::SubmitJobs).or_services(&["slipway:drift-monitor"]),
        grpc("/p.S/Only", Requirement::Services).or_services(&["slipway:launcher"]),
        rule("GET", "/me", Requirement::Authenticated),
    ];

    fn caller(principal: &str, granted: &[(Scope, Role)]) -> Caller {
        let grants = std::sync::Arc::new(granted.iter().cloned().collect());
        Caller { principal: principal.into(), grants, ..Caller::anonymous(String::new()) }
    }

    fn find(method: Method, route: &str, path: &str) -> Option<&'static Rule> {
        Policy::new(&RULES).find(&method, Some(route), path)
    }

    #[test]
    fn a_rule_is_found_by_its_route_or_by_the_grpc_method() {
        assert_eq!(find(Method::HEAD, "/a/{name}", "/a/x").unwrap().methods, "GET");
        assert_eq!(find(Method::DELETE, "/a/{name}", "/a/x").unwrap().methods, "PUT DELETE");
        assert_eq!(find(Method::POST, "/p.S/{*method}", "/p.S/Submit").unwrap().path, "/p.S/Submit");
        assert!(find(Method::POST, "/p.S/{*method}", "/p.S/Other").is_none());
        assert!(find(Method::PATCH, "/a/{name}", "/a/x").is_none());
    }

    #[test]
    fn a_route_without_a_rule_is_refused_to_an_administrator_too() {
        let admin = caller("admin", &[(Scope::Everything, Role::Admin)]);
        let Decision::Denied(why) = decide(None, &admin, &Scope::Everything, Role::Editor) else {
            unreachable!("it was allowed")
        };
        assert_eq!(why, "'admin': no rule allows this method of this route");
    }

    #[test]
    fn a_role_counts_where_it_is_held() {
        let churn = Scope::Model("churn".into());
        let ann = caller("ann", &[(churn.clone(), Role::Viewer)]);
        let shown = find(Method::GET, "/a/{name}", "/a/x");
        assert_eq!(decide(shown, &ann, &churn, Role::Editor), Decision::Allowed);
        let Decision::Denied(why) = decide(shown, &ann, &Scope::Model("other".into()), Role::Editor) else {
            unreachable!("it was allowed")
        };
        assert!(why.starts_with("'ann': the role viewer is needed on the registered model 'other'"), "{why}");
    }

    #[test]
    fn a_job_has_no_role_that_its_submitter_lacks() {
        let submit = find(Method::POST, "/p.S/{*method}", "/p.S/Submit");
        let allowed = |principal: &str, role: Role, job_role: Role| {
            let caller = caller(principal, &[(Scope::Everything, role)]);
            decide(submit, &caller, &Scope::Everything, job_role) == Decision::Allowed
        };
        assert!(allowed("ann", Role::Editor, Role::Editor) && allowed("ann", Role::Editor, Role::Viewer));
        assert!(!allowed("ann", Role::Editor, Role::Deployer) && !allowed("ann", Role::Viewer, Role::Viewer));
        // The service that a rule names needs no role; others get nothing from their name.
        assert!(allowed("slipway:drift-monitor", Role::Viewer, Role::Deployer));
        assert!(!allowed("slipway:serving", Role::Viewer, Role::Editor));
        let only = find(Method::POST, "/p.S/{*method}", "/p.S/Only");
        let admin = caller("admin", &[(Scope::Everything, Role::Admin)]);
        assert_ne!(decide(only, &admin, &Scope::Everything, Role::Editor), Decision::Allowed);
    }

    /// Who is let in by each requirement: callers without a role, with a role on the model `m`, and with a
    /// role on everything.
    #[test]
    fn each_requirement_lets_in_whom_it_names_and_nobody_else() {
        use Requirement::{AttemptToken, Authenticated, List, Open, Services, SubmitJobs};
        let (m, n, all) = (Scope::Model("m".into()), Scope::Model("n".into()), Scope::Everything);
        let of = |role| Requirement::Role(role, Resource::OfPath("name", "deployment"));
        let on = |scope: &Scope, role| caller("ann", &[(scope.clone(), role)]);
        let callers = [
            ("none", caller("ann", &[])),
            ("m viewer", on(&m, Role::Viewer)),
            ("m editor", on(&m, Role::Editor)),
            ("m deployer", on(&m, Role::Deployer)),
            ("m admin", on(&m, Role::Admin)),
            ("viewer", on(&all, Role::Viewer)),
            ("editor", on(&all, Role::Editor)),
            ("deployer", on(&all, Role::Deployer)),
            ("admin", on(&all, Role::Admin)),
            ("service", caller("slipway:launcher", &[])),
        ];
        let everyone: Vec<&str> = callers.iter().map(|(name, _)| *name).collect();
        let table: [(Requirement, &Scope, &[&str]); 17] = [
            (Open, &all, &everyone),
            (Authenticated, &all, &everyone),
            (AttemptToken, &all, &everyone),
            (Services, &all, &["service"]),
            (of(Role::Viewer), &m, &everyone[1..]),
            (
                of(Role::Editor),
                &m,
                &["m editor", "m deployer", "m admin", "editor", "deployer", "admin", "service"],
            ),
            (of(Role::Deployer), &m, &["m deployer", "m admin", "deployer", "admin", "service"]),
            (of(Role::Admin), &m, &["m admin", "admin", "service"]),
            // What belongs to another model, or to none, takes no notice of the model m.
            (of(Role::Viewer), &n, &everyone[5..]),
            (of(Role::Deployer), &n, &["deployer", "admin", "service"]),
            (of(Role::Viewer), &all, &everyone[5..]),
            (of(Role::Editor), &all, &["editor", "deployer", "admin", "service"]),
            (of(Role::Deployer), &all, &["deployer", "admin", "service"]),
            (of(Role::Admin), &all, &["admin", "service"]),
            (List, &all, &everyone[1..]),
            (SubmitJobs, &all, &["editor", "deployer", "admin", "service"]),
            // A job's own model makes no difference.
            (SubmitJobs, &m, &["editor", "deployer", "admin", "service"]),
        ];
        for (requirement, scope, allowed) in table {
            let rule = rule("GET", "/x", requirement).or_services(&["slipway:launcher"]);
            for (name, caller) in &callers {
                let decision = decide(Some(&rule), caller, scope, Role::Viewer);
                let is_allowed = decision == Decision::Allowed;
                assert_eq!(is_allowed, allowed.contains(name), "{requirement:?} on {scope}: {name}");
                if let Decision::Denied(why) = decision {
                    assert!(why.starts_with("'ann': "), "{why}");
                }
            }
        }
        // A service gets nothing from its name where the rule does not name it, nor does one that looks
        // like it.
        let rule = rule("GET", "/x", of(Role::Viewer)).or_services(&["slipway:launcher"]);
        for name in ["slipway:serving", "slipway:launcher ", "Slipway:launcher", "launcher", "slipway:"] {
            assert_ne!(
                decide(Some(&rule), &caller(name, &[]), &m, Role::Viewer),
                Decision::Allowed,
                "{name}"
            );
        }
    }

    #[test]
    fn a_path_that_only_looks_like_one_that_is_listed_has_no_rule() {
        for (method, route, path) in [
            (Method::POST, "", "/p.S/submit"),
            (Method::POST, "", "/p.S/Submit/"),
            (Method::POST, "", "//p.S/Submit"),
            (Method::POST, "", "/p.S/Submit?x"),
            (Method::POST, "", "/p.S/%53ubmit"),
            (Method::GET, "", "/p.S/Submit"),
            (Method::OPTIONS, "/a/{name}", "/a/x"),
            (Method::CONNECT, "/me", "/me"),
            (Method::TRACE, "/me", "/me"),
            (Method::GET, "/a/{other}", "/a/x"),
            (Method::from_bytes(b"GET PUT").unwrap_or(Method::PATCH), "/a/{name}", "/a/x"),
        ] {
            let found = Policy::new(&RULES).find(&method, Some(route), path);
            assert!(found.is_none(), "{method} {route} {path}: {found:?}");
        }
    }
}
