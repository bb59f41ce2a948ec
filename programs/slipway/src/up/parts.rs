//! The services as child processes: the environment that each is started with.

use slipway_telemetry::LogFormat;

use super::credentials::Credentials;
use super::ports::Ports;
use crate::services::{SERVICES, Service, Settings, Shared, own_token};

/// Secrets that this process may have in its environment; each part gets its own, and those of the servers
/// that it needs.
pub(crate) const NOT_INHERITED: [&str; 10] = [
    "SLIPWAY_ADMIN_TOKEN",
    "SLIPWAY_TOKEN",
    "SLIPWAY_REGISTRY_TOKEN",
    "SLIPWAY_SERVICE_TOKEN_FILE",
    "SLIPWAY_LAUNCHER_TOKEN",
    "SLIPWAY_SERVICES_TOKEN",
    "SLIPWAY_POSTGRES_URL",
    "SLIPWAY_NATS_URL",
    "SLIPWAY_S3_ACCESS_KEY",
    "SLIPWAY_S3_SECRET_KEY",
];

/// One service as `slipway up` runs it.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// Name of the service, also of its log file.
    pub(crate) name: &'static str,
    /// All of its settings; secrets are passed here, never on the command line.
    pub(crate) environment: Settings,
}

/// All services, in the order of the table.
pub(crate) fn all(ports: &Ports, credentials: &Credentials, shared: &Shared) -> Vec<Part> {
    let part = |service: &Service| {
        let mut environment = common(ports, shared);
        environment.extend(access(service, credentials));
        let listens = service.listeners.iter();
        environment.extend(listens.map(|listener| (listener.variable, address(ports.of(&listener.port)))));
        environment.extend(own_token(service.name, shared));
        environment.extend((service.settings)(shared));
        Part { name: service.name, environment }
    };
    SERVICES.iter().map(part).collect()
}

/// How a service reaches the servers that it needs, as its own user of each.
fn access(service: &Service, credentials: &Credentials) -> Settings {
    let mut environment = vec![("SLIPWAY_NATS_URL", credentials.nats_of(service.name))];
    if service.postgres.is_some() {
        environment.push(("SLIPWAY_POSTGRES_URL", credentials.postgres_of(service.name)));
    }
    if service.uses_s3 {
        environment.extend([
            ("SLIPWAY_S3_ENDPOINT", credentials.s3_endpoint.clone()),
            ("SLIPWAY_S3_BUCKET", credentials.s3_bucket.clone()),
            ("SLIPWAY_S3_ACCESS_KEY", credentials.s3_access_key.clone()),
            ("SLIPWAY_S3_SECRET_KEY", credentials.s3_secret_key.clone()),
        ]);
    }
    environment
}

/// A platform has one replica of each service and no balancer that would have to notice that one ends.
const DRAIN_SECONDS: &str = "0.5";

fn common(ports: &Ports, shared: &Shared) -> Settings {
    let urls = SERVICES.iter().filter_map(|service| Some((service.url_variable, service.rest()?)));
    let mut environment: Settings =
        urls.map(|(variable, rest)| (variable, url(ports.of(&rest.port)))).collect();
    // Stated either way: a service must not inherit the setting of this process.
    environment.push(("SLIPWAY_AUTH", if shared.tokens.is_some() { "on" } else { "off" }.to_owned()));
    environment.push(("SLIPWAY_DRAIN_SECONDS", DRAIN_SECONDS.to_owned()));
    let log_format = if shared.log_format == LogFormat::Json { "json" } else { "text" };
    environment.extend([("SLIPWAY_LOG", shared.log.clone()), ("SLIPWAY_LOG_FORMAT", log_format.to_owned())]);
    environment.extend(shared.otlp_endpoint.clone().map(|endpoint| ("SLIPWAY_OTLP_ENDPOINT", endpoint)));
    environment
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

pub(crate) fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::Tokens;

    fn shared() -> Shared {
        Shared {
            data_dir: "/data".into(),
            onnxruntime: "/lib/libonnxruntime.so".into(),
            otlp_endpoint: None,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            job_user: None,
            tokens: Some(Tokens::new("admin".to_owned().into()).unwrap()),
        }
    }

    #[test]
    fn a_part_gets_the_tokens_that_it_needs_and_each_variable_once() {
        let parts = all(&Ports::default(), &Credentials::default(), &shared());
        let mut secrets = Vec::new();
        for Part { name, environment } in parts {
            let mut variables: Vec<&str> = environment.iter().map(|(variable, _)| *variable).collect();
            variables.sort_unstable();
            let tokens: Vec<&str> =
                variables.iter().copied().filter(|variable| variable.ends_with("_TOKEN")).collect();
            let expected: &[&str] = match name {
                // Of the services' tokens it gets digests.
                "registry" => &["SLIPWAY_ADMIN_TOKEN", "SLIPWAY_LAUNCHER_TOKEN"],
                "launcher" => &["SLIPWAY_LAUNCHER_TOKEN"],
                _ => &["SLIPWAY_REGISTRY_TOKEN"],
            };
            assert_eq!(tokens, expected, "{name}");
            assert!(environment.contains(&("SLIPWAY_AUTH", "on".to_owned())), "{name}");
            let values: Vec<&String> = environment.iter().map(|(_, value)| value).collect();
            secrets.extend(
                values.iter().filter(|value| value.starts_with("slp_")).map(|value| (*value).clone()),
            );
            variables.dedup();
            assert_eq!(variables.len(), environment.len(), "{name}: {variables:?}");
        }
        // The launcher's token is the only one that two services have.
        let count = secrets.len();
        secrets.sort_unstable();
        secrets.dedup();
        assert_eq!(count - secrets.len(), 1, "a token for two services");
    }
}
