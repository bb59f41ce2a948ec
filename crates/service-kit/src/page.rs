//! Paging: a limit and an opaque token that names the last row seen.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Problem;

/// Items of a page where the client names no limit.
pub const DEFAULT_LIMIT: u32 = 50;
/// Items of a page at most.
pub const MAX_LIMIT: u32 = 1_000;

/// The paging part of a list request.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Items wanted, 1 to 1000; 50 without it.
    pub limit: Option<u32>,
    /// `next_page_token` of the page before.
    pub page_token: Option<String>,
}

impl PageQuery {
    /// The limit, checked.
    ///
    /// # Errors
    /// It is 0 or over the maximum.
    pub fn limit(&self) -> Result<u32, Problem> {
        match self.limit.unwrap_or(DEFAULT_LIMIT) {
            limit @ 1..=MAX_LIMIT => Ok(limit),
            other => Err(Problem::invalid("limit", format!("expected 1 to {MAX_LIMIT}, got {other}"))),
        }
    }

    /// The row to go on after; `None` for the first page.
    ///
    /// # Errors
    /// The token is not one of ours, or from another list.
    pub fn after<K: DeserializeOwned>(&self) -> Result<Option<K>, Problem> {
        self.page_token.as_deref().filter(|token| !token.is_empty()).map(decode).transpose()
    }
}

/// A token for the row `key`.
pub fn encode<K: Serialize>(key: &K) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).unwrap_or_default())
}

fn decode<K: DeserializeOwned>(token: &str) -> Result<K, Problem> {
    let refuse =
        || Problem::invalid("page_token", "not a token that this list gave; start again without one");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| refuse())?;
    serde_json::from_slice(&bytes).map_err(|_| refuse())
}

/// Cuts what was read with `limit + 1` to a page, and makes the token from the last row kept where there is more.
pub fn cut<T, K: Serialize>(mut rows: Vec<T>, limit: u32, key: impl Fn(&T) -> K) -> (Vec<T>, Option<String>) {
    let limit = limit as usize;
    if rows.len() <= limit {
        return (rows, None);
    }
    rows.truncate(limit);
    let token = rows.last().map(|row| encode(&key(row)));
    (rows, token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_to_the_row_after() {
        let (page, token) = cut(vec![1, 2, 3], 2, |row| *row);
        assert_eq!(page, vec![1, 2]);
        let query = PageQuery { limit: None, page_token: token };
        assert_eq!(query.after::<i32>().unwrap(), Some(2));
        assert_eq!(cut(vec![1, 2], 2, |row| *row).1, None);
    }

    #[test]
    fn a_foreign_token_is_refused_by_name() {
        let query = PageQuery { limit: None, page_token: Some("rubbish!".into()) };
        assert!(query.after::<i32>().unwrap_err().detail().contains("page_token"));
    }

    #[test]
    fn limits_are_checked() {
        assert!(PageQuery { limit: Some(0), page_token: None }.limit().is_err());
        assert!(PageQuery { limit: Some(1001), page_token: None }.limit().is_err());
        assert_eq!(PageQuery::default().limit().unwrap(), DEFAULT_LIMIT);
    }
}
