//! Settings of access.

use secrecy::{ExposeSecret as _, SecretString};
use slipway_access::oidc::OidcConfig;
use slipway_access::principal::{DRIFT_MONITOR_SERVICE, ROLLOUT_CONTROLLER_SERVICE, SERVING_SERVICE};
use slipway_access::{Network, Switch};
use slipway_domain::access::Role;

/// An administrator's token that is shorter can be guessed.
const MIN_ADMIN_TOKEN_CHARS: usize = 32;

/// Who may do what.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct AccessConfig {
    /// Access control: whether callers need a token and roles.
    #[arg(long, env = "SLIPWAY_AUTH", value_enum, default_value = "off")]
    pub auth: Switch,
    /// Token with the role admin on everything, as the principal `admin`; used to create the first tokens and
    /// grants. At least 32 characters. [default: none]
    #[arg(long, env = "SLIPWAY_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub admin_token: Option<SecretString>,
    /// Token with which the launcher issues and revokes tokens of training jobs, and which allows nothing
    /// else. At least 32 characters. [default: jobs get no tokens of their own]
    #[arg(long, env = "SLIPWAY_LAUNCHER_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub launcher_token: Option<SecretString>,
    /// Token for the services that read the registry (serving, rollout controller, drift monitor), with the
    /// role viewer on everything, as the principal `services`. At least 32 characters. [default: none; any
    /// token with the role viewer works]
    #[arg(long, env = "SLIPWAY_SERVICES_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub services_token: Option<SecretString>,
    /// SHA-256 of the token of each service, as `SERVICE=DIGEST`, for serving, rollout-controller and
    /// drift-monitor. Such a token may do what its service needs, and nothing else. [default: none; services
    /// use SLIPWAY_SERVICES_TOKEN]
    #[arg(
        long,
        env = "SLIPWAY_SERVICE_TOKEN_DIGESTS",
        value_delimiter = ',',
        value_parser = service_digest,
        value_name = "SERVICE=DIGEST"
    )]
    pub service_token_digests: Vec<ServiceDigest>,
    /// Role of training jobs on everything: viewer, editor or deployer. A job that sets an alias needs
    /// deployer.
    #[arg(long, env = "SLIPWAY_JOB_ROLE", default_value = "editor", value_parser = job_role,
          value_name = "ROLE")]
    pub job_role: Role,
    /// Proxies whose `X-Forwarded-For` is trusted, as addresses or networks, e.g. `10.0.0.0/8`. [default:
    /// none]
    #[arg(long, env = "SLIPWAY_TRUSTED_PROXIES", value_delimiter = ',', value_name = "NETWORK")]
    pub trusted_proxies: Vec<Network>,
    /// Identity tokens.
    #[command(flatten)]
    pub oidc: OidcConfig,
}

/// The token of a service of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDigest {
    /// The service as a caller.
    pub principal: &'static str,
    /// SHA-256 of its token.
    pub sha256: [u8; 32],
}

fn service_digest(text: &str) -> Result<ServiceDigest, String> {
    let refuse = || {
        format!(
            "expected SERVICE=DIGEST with serving, rollout-controller or drift-monitor, and 64 hexadecimal \
             digits, got '{text}'"
        )
    };
    let (service, digest) = text.trim().split_once('=').ok_or_else(refuse)?;
    let principal = match service {
        "serving" => SERVING_SERVICE,
        "rollout-controller" => ROLLOUT_CONTROLLER_SERVICE,
        "drift-monitor" => DRIFT_MONITOR_SERVICE,
        _ => return Err(refuse()),
    };
    let mut sha256 = [0; 32];
    hex::decode_to_slice(digest, &mut sha256).map_err(|_| refuse())?;
    Ok(ServiceDigest { principal, sha256 })
}

/// A job runs arbitrary code of its submitter, so it cannot be an administrator.
fn job_role(text: &str) -> Result<Role, String> {
    match text.parse() {
        Ok(role) if role < Role::Admin => Ok(role),
        _ => Err(format!("expected viewer, editor or deployer, got '{text}'")),
    }
}

impl AccessConfig {
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        let short =
            |token: &SecretString| token.expose_secret().trim().chars().count() < MIN_ADMIN_TOKEN_CHARS;
        for (whose, variable, token) in [
            ("administrator", "SLIPWAY_ADMIN_TOKEN", &self.admin_token),
            ("launcher", "SLIPWAY_LAUNCHER_TOKEN", &self.launcher_token),
            ("services", "SLIPWAY_SERVICES_TOKEN", &self.services_token),
        ] {
            anyhow::ensure!(
                !token.as_ref().is_some_and(short),
                "the token of the {whose} ({variable}) needs at least {MIN_ADMIN_TOKEN_CHARS} characters"
            );
        }
        if self.auth == Switch::On && self.admin_token.is_none() && self.oidc.oidc_issuer.is_none() {
            tracing::warn!(
                "access is on without SLIPWAY_ADMIN_TOKEN and without an OIDC issuer: only tokens that exist \
                 already are accepted"
            );
        }
        Ok(())
    }
}
