//! From credentials to a caller.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderMap, header};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use slipway_access::oidc::{Oidc, Refused};
use slipway_access::principal::{ADMIN, LAUNCHER, SERVICES, validate_principal};
use slipway_access::{ApiToken, Network, Presented, Switch, client_address, same};
use slipway_audit::Actor;
use slipway_domain::access::{Grants, Role, Scope, token_digest};
use sqlx::PgPool;

use super::announcer::Announcer;
use super::caller::{Caller, JOB_PREFIX, LAUNCHER_CREDENTIAL};
use super::config::AccessConfig;
use super::references::Reader;
use super::refusals::Refusals;
use super::ttl_cache::{KEPT_S, TtlCache};
use crate::clock::now_ms;
use crate::error::Error;
use crate::store::access as table;

const FORWARDED_FOR: &str = "x-forwarded-for";

static FULL: LazyLock<Arc<Grants>> = LazyLock::new(|| Arc::new(Grants::full()));

/// Access as it is set up. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    /// Absent where access is off.
    pub(crate) authenticator: Option<Arc<Authenticator>>,
    /// Role of training jobs.
    pub(crate) job_role: Role,
    /// Takes refused calls, for the audit trail.
    pub(crate) refusals: Refusals,
    /// Has changes published to the other services.
    pub(crate) announcer: Announcer,
    trusted: Arc<[Network]>,
}

/// What a credential proved.
#[derive(Debug)]
struct Known {
    principal: String,
    credential: String,
    groups: Arc<[String]>,
    grants: Arc<Grants>,
}

/// A token of the configuration, by its digest.
#[derive(Debug)]
pub(crate) struct Configured {
    pub(crate) digest: [u8; 32],
    pub(crate) principal: &'static str,
    pub(crate) credential: &'static str,
    grants: Arc<Grants>,
    /// What it was granted at the other services.
    pub(crate) elsewhere: Arc<Grants>,
}

fn configured(config: &AccessConfig) -> Vec<Configured> {
    let viewer = || Arc::new(Grants::from_iter([(Scope::Everything, Role::Viewer)]));
    let tokens = [
        (&config.admin_token, ADMIN, "admin-token", Arc::clone(&FULL)),
        (&config.launcher_token, LAUNCHER, LAUNCHER_CREDENTIAL, Arc::default()),
        (&config.services_token, SERVICES, "services-token", viewer()),
    ];
    let given = tokens.into_iter().filter_map(|(token, principal, credential, grants)| {
        let digest = token_digest(token.as_ref()?.expose_secret().trim().as_bytes());
        Some(Configured { digest, principal, credential, elsewhere: Arc::clone(&grants), grants })
    });
    // Services read the registry. At other services the rules name those that may call.
    let services = config.service_token_digests.iter().map(|service| Configured {
        digest: service.sha256,
        principal: service.principal,
        credential: "service-token",
        grants: viewer(),
        elsewhere: Arc::default(),
    });
    given.chain(services).collect()
}

/// Checks credentials, and remembers those that it checked just now.
#[derive(Debug)]
pub(crate) struct Authenticator {
    pub(crate) pool: PgPool,
    /// Tokens of the configuration.
    pub(crate) configured: Vec<Configured>,
    pub(crate) oidc: Option<Oidc>,
    /// By the SHA-256 of the header.
    known: TtlCache<[u8; 32], Arc<Known>>,
    /// Experiments of runs, which never change.
    pub(crate) runs: TtlCache<String, i64>,
}

impl Access {
    /// # Errors
    /// A setting is wrong.
    pub(crate) fn new(config: &AccessConfig, pool: PgPool, refusals: Refusals) -> anyhow::Result<Self> {
        config.validate()?;
        let authenticator = match config.auth {
            Switch::Off => None,
            Switch::On => Some(Arc::new(Authenticator {
                pool,
                configured: configured(config),
                oidc: Oidc::new(&config.oidc)?,
                known: TtlCache::default(),
                runs: TtlCache::default(),
            })),
        };
        Ok(Self {
            authenticator,
            job_role: config.job_role,
            refusals,
            announcer: Announcer::default(),
            trusted: config.trusted_proxies.clone().into(),
        })
    }

    /// Forgets what was checked, and has it published: a token was revoked, a grant changed.
    pub(crate) fn forget(&self) {
        self.announcer.announce();
        if let Some(authenticator) = &self.authenticator {
            authenticator.known.clear();
        }
    }

    /// For whom a caller reads a version.
    pub(crate) const fn reader<'caller>(&self, caller: &'caller Caller) -> Reader<'caller> {
        if self.authenticator.is_some() { Reader::Caller(caller) } else { Reader::Everyone }
    }

    /// For whom decisions and other services read a version.
    pub(crate) const fn any_reader(&self) -> Reader<'static> {
        if self.authenticator.is_some() { Reader::Version } else { Reader::Everyone }
    }

    /// The caller where access is off.
    pub(crate) fn anyone(&self, origin: String) -> Caller {
        Caller { grants: Arc::clone(&FULL), ..Caller::nobody(origin) }
    }

    /// The address that a request comes from.
    pub(crate) fn origin(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> String {
        let Some(peer) = peer else { return String::new() };
        if self.trusted.is_empty() {
            return peer.to_canonical().to_string();
        }
        let forwarded: Vec<&str> =
            headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
        client_address(peer, forwarded.into_iter(), &self.trusted).to_string()
    }
}

impl Authenticator {
    /// Who sends these headers.
    ///
    /// # Errors
    /// `Unauthenticated`, or Postgres or the OIDC issuer is unreachable.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap, origin: String) -> Result<Caller, Error> {
        let header = headers.get(header::AUTHORIZATION).ok_or_else(|| {
            Error::Unauthenticated(
                "a token is required: 'Authorization: Bearer <token>' (MLFLOW_TRACKING_TOKEN)".to_owned(),
            )
        })?;
        let key: [u8; 32] = Sha256::digest(header.as_bytes()).into();
        let known = match self.known.get(&key) {
            Some(known) => known,
            None => {
                let presented = Presented::read(header.as_bytes())
                    .map_err(|malformed| Error::Unauthenticated(malformed.to_string()))?;
                let (known, lasts) = self.check(&presented).await?;
                let known = Arc::new(known);
                self.known.put(key, Arc::clone(&known), lasts);
                known
            }
        };
        let actor =
            Actor { principal: known.principal.clone(), credential: known.credential.clone(), origin };
        Ok(Caller {
            actor: Arc::new(actor),
            groups: Arc::clone(&known.groups),
            grants: Arc::clone(&known.grants),
        })
    }

    /// What the credential proves, and how long that holds at most.
    async fn check(&self, presented: &Presented) -> Result<(Known, Duration), Error> {
        let secret = presented.secret.expose_secret();
        let digest = token_digest(secret.as_bytes());
        let configured = self.configured.iter().find(|configured| same(&configured.digest, &digest));
        let (known, lasts) = if let Some(configured) = configured {
            let known = Known {
                principal: configured.principal.to_owned(),
                credential: configured.credential.to_owned(),
                groups: Arc::default(),
                grants: Arc::clone(&configured.grants),
            };
            (known, Duration::from_secs(KEPT_S))
        } else if let Some(token) = ApiToken::parse(secret) {
            self.check_token(&token).await?
        } else if let Some(oidc) = self.oidc.as_ref().filter(|_| secret.split('.').count() == 3) {
            self.check_identity(oidc, secret).await?
        } else {
            return Err(Error::Unauthenticated("the token was not issued by this registry".to_owned()));
        };
        if !presented.names(&known.principal) {
            return Err(Error::Unauthenticated(
                "the token belongs to another user than the one given".to_owned(),
            ));
        }
        Ok((known, lasts))
    }

    async fn check_token(&self, token: &ApiToken) -> Result<(Known, Duration), Error> {
        let now = now_ms();
        let mut db = self.pool.acquire().await?;
        let found = table::token_secret(&mut db, token.id()).await?;
        let stored = found.as_ref().map_or(&[0; 32][..], |stored| stored.secret_sha256.as_slice());
        let right = same(stored, &token.digest());
        let Some(stored) = found.filter(|_| right) else {
            tracing::info!(token_id = token.id(), "token rejected: unknown, revoked or with a wrong secret");
            return Err(Error::Unauthenticated("the token is unknown or was revoked".to_owned()));
        };
        let left_ms = stored.expires_ms.map_or(i64::MAX, |expires| expires.saturating_sub(now));
        if left_ms <= 0 {
            return Err(Error::Unauthenticated("the token has expired".to_owned()));
        }
        // Tokens of names that were valid once.
        if !stored.principal.starts_with(JOB_PREFIX) {
            validate_principal(&stored.principal).map_err(|why| {
                Error::Unauthenticated(format!("the token's principal is no longer valid: {why}"))
            })?;
        }
        table::token_used(&mut db, token.id(), now).await?;
        let grants = table::grants_of(&mut db, std::slice::from_ref(&stored.principal)).await?;
        let known = Known {
            principal: stored.principal,
            credential: format!("token:{}", token.id()),
            groups: Arc::default(),
            grants: Arc::new(grants),
        };
        Ok((known, Duration::from_millis(left_ms.unsigned_abs())))
    }

    async fn check_identity(&self, oidc: &Oidc, secret: &str) -> Result<(Known, Duration), Error> {
        let identity = oidc.verify(secret).await.map_err(|refused| match refused {
            Refused::Token(why) => {
                tracing::info!(why, "identity token rejected");
                Error::Unauthenticated(why)
            }
            Refused::Issuer(why) => {
                tracing::warn!(why, "unexpected response of the OIDC issuer");
                Error::unavailable("the OIDC issuer")
            }
        })?;
        validate_principal(&identity.principal).map_err(|why| {
            Error::Unauthenticated(format!("the token's principal is not valid here: {why}"))
        })?;
        let mut subjects = vec![identity.principal.clone()];
        subjects.extend(identity.groups.iter().map(|group| format!("group:{group}")));
        let grants = table::grants_of(&mut *self.pool.acquire().await?, &subjects).await?;
        let now_s = now_ms().unsigned_abs() / 1_000;
        let lasts = Duration::from_secs(identity.expires_unix_s.saturating_sub(now_s));
        let known = Known {
            principal: identity.principal,
            credential: "oidc".to_owned(),
            groups: identity.groups.into(),
            grants: Arc::new(grants),
        };
        Ok((known, lasts))
    }
}
