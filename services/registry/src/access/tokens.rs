//! Use cases of API tokens: create, list and revoke.

use secrecy::SecretString;
use serde_json::json;
use slipway_access::ApiToken;
use slipway_access::principal::validate_principal;

use super::caller::{Caller, refuse_job};
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::access::{self as table, Token};

const MAX_NAME_CHARS: usize = 256;
/// Ten years.
const MAX_LIFE_S: i64 = 10 * 365 * 24 * 3_600;

/// A token to be created.
#[derive(Debug)]
pub(crate) struct NewToken {
    pub(crate) name: String,
    /// Its owner, whose grants apply to it.
    pub(crate) principal: String,
    /// Seconds until it expires; if unset, it is valid until it is revoked.
    pub(crate) expires_in_s: Option<i64>,
}

fn is_name(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= MAX_NAME_CHARS && !text.chars().any(char::is_control)
}

/// A page of tokens, the oldest first, behind the one of that time and id.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn list(
    registry: &Registry,
    after: Option<(i64, String)>,
    limit: i64,
) -> Result<Vec<Token>, Error> {
    table::token_list(&mut *registry.pool.acquire().await?, after, limit).await
}

/// Creates a token; only this answer contains its secret.
///
/// # Errors
/// A value is invalid, or Postgres is unreachable.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    new: NewToken,
) -> Result<(Token, SecretString), Error> {
    if !is_name(&new.name) {
        return Err(Error::invalid("name", format!("expected 1 to {MAX_NAME_CHARS} printable characters")));
    }
    refuse_job("principal", &new.principal)?;
    validate_principal(&new.principal).map_err(|why| Error::invalid("principal", why.to_string()))?;
    if new.expires_in_s.is_some_and(|life_s| !(1..=MAX_LIFE_S).contains(&life_s)) {
        return Err(Error::invalid("expires_in_s", format!("expected 1 to {MAX_LIFE_S} seconds")));
    }
    let secret = ApiToken::generate().map_err(Error::internal)?;
    let now = now_ms();
    let token = Token {
        token_id: secret.id().to_owned(),
        name: new.name,
        principal: new.principal,
        created_ms: now,
        created_by: caller.actor.principal.clone(),
        expires_ms: new.expires_in_s.map(|life_s| now + life_s * 1_000),
        last_used_ms: None,
    };
    let mut change = registry.change().await?;
    table::token_create(change.db(), &token, &secret.digest()).await?;
    let details =
        json!({"name": token.name, "principal": token.principal, "expires_at_unix_ms": token.expires_ms});
    change.tell("token", "created", token.token_id.as_str(), details).await?;
    change.commit().await?;
    registry.access.announcer.announce();
    Ok((token, secret.reveal()))
}

/// Revokes a token immediately.
///
/// # Errors
/// There is none of that id, or Postgres is unreachable.
pub(crate) async fn revoke(registry: &Registry, id: &str) -> Result<(), Error> {
    let mut change = registry.change().await?;
    let Some((name, principal)) = table::token_delete(change.db(), id).await? else {
        return Err(Error::not_found(format!("there is no token `{id}`")));
    };
    change.tell("token", "revoked", id, json!({"name": name, "principal": principal})).await?;
    change.commit().await?;
    registry.access.forget();
    Ok(())
}
