//! Routes of a service, for tests that hold a table of them to be whole.

use std::collections::{BTreeSet, HashMap};

/// Methods that a router is asked for.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// Method and path of every route, by the `Debug` form of an axum router, which is all that it shows of them.
pub fn routes(router: &str) -> BTreeSet<(String, String)> {
    let (shown, _fallbacks) = router.split_once("fallback_router: ").expect("a router");
    let (endpoints, rest) = shown.split_once("Node { paths: {").expect("a router's paths");
    let paths: HashMap<&str, &str> = rest
        .split("RouteId(")
        .skip(1)
        .filter_map(|one| {
            one.split_once("): \"").map(|(id, path)| (id, path.split('"').next().unwrap_or_default()))
        })
        .collect();
    let mut routes = BTreeSet::new();
    for endpoint in endpoints.split("RouteId(").skip(1) {
        let (id, endpoint) = endpoint.split_once(')').expect("a route's id");
        let any = !endpoint.contains("fallback: Default(");
        for method in METHODS {
            let absent = format!("{}: None", method.to_lowercase());
            if any || !endpoint.contains(&absent) {
                routes.insert((method.to_owned(), paths[id].to_owned()));
            }
        }
    }
    assert!(!routes.is_empty(), "the router shows its routes in another form: {router}");
    routes
}

/// Every method of the services in a `.proto` file, as `POST /package.Service/Method`.
pub fn grpc_methods(proto: &str) -> BTreeSet<(String, String)> {
    let (mut package, mut service) = ("", "");
    let mut methods = BTreeSet::new();
    for line in proto.lines() {
        let mut words = line
            .split(|letter: char| !letter.is_alphanumeric() && letter != '.')
            .filter(|word| !word.is_empty());
        match (words.next(), words.next()) {
            (Some("package"), Some(name)) => package = name,
            (Some("service"), Some(name)) => service = name,
            (Some("rpc"), Some(name)) => {
                _ = methods.insert(("POST".to_owned(), format!("/{package}.{service}/{name}")));
            }
            _ => {}
        }
    }
    assert!(!methods.is_empty(), "no methods in {proto}");
    methods
}

/// The methods of gRPC reflection, which every service has.
pub fn reflection_methods() -> BTreeSet<(String, String)> {
    let methods = ["v1", "v1alpha"].map(|version| {
        ("POST".to_owned(), format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"))
    });
    methods.into()
}

/// Fails unless the table, of methods separated by spaces and a path, lists these routes and no others.
pub fn assert_covered<'table>(
    routes: &BTreeSet<(String, String)>,
    table: impl Iterator<Item = (&'table str, &'table str)>,
) {
    let listed: BTreeSet<(String, String)> = table
        .flat_map(|(methods, path)| {
            methods.split(' ').map(move |method| (method.to_owned(), path.to_owned()))
        })
        .collect();
    let unlisted: Vec<_> = routes.difference(&listed).collect();
    assert!(unlisted.is_empty(), "the table does not say what these routes require: {unlisted:?}");
    let stale: Vec<_> = listed.difference(routes).collect();
    assert!(stale.is_empty(), "the table lists routes that do not exist: {stale:?}");
}
