//! Paging: a limit and an opaque token that names the last row seen.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::Problem;

/// Items of a page where the client names no limit.
pub const DEFAULT_LIMIT: u32 = 50;
/// Items of a page at most.
pub const MAX_LIMIT: u32 = 1_000;

/// The paging part of a list request.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Maximum number of items, 1 to 1000 [default: 50].
    pub limit: Option<u32>,
    /// `next_page_token` of the page before.
    pub page_token: Option<String>,
}

impl PageQuery {
    /// The paging part of a gRPC request, in which 0 and an empty token mean "not set".
    pub fn of_message(limit: u32, page_token: String) -> Self {
        Self { limit: (limit != 0).then_some(limit), page_token: Some(page_token) }
    }

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
    let refuse = || Problem::invalid("page_token", "not a page token of this list; start again without one");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| refuse())?;
    serde_json::from_slice(&bytes).map_err(|_| refuse())
}

/// Cuts what was read with `limit + 1` to a page, and makes the token from the last row kept where there is
/// more.
pub fn cut<T, K: Serialize>(mut rows: Vec<T>, limit: u32, key: impl Fn(&T) -> K) -> (Vec<T>, Option<String>) {
    let limit = limit as usize;
    if rows.len() <= limit {
        return (rows, None);
    }
    rows.truncate(limit);
    let token = rows.last().map(|row| encode(&key(row)));
    (rows, token)
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Token of the next page; `None` on the last one.
    pub next_page_token: Option<String>,
}

impl<T> Page<T> {
    /// The page of rows that were read with `limit + 1`; `key` names the row that the next page starts after.
    pub fn of<K: Serialize>(rows: Vec<T>, limit: u32, key: impl Fn(&T) -> K) -> Self {
        let (items, next_page_token) = cut(rows, limit, key);
        Self { items, next_page_token }
    }

    /// The same page with other items.
    pub fn map<U>(self, item: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(item).collect(), next_page_token: self.next_page_token }
    }

    /// The page as JSON: `{"<name>": […], "next_page_token": "…"}`, without a token on the last page.
    pub fn named(self, name: &'static str) -> NamedPage<T> {
        NamedPage { name, page: self }
    }
}

/// A [`Page`] as JSON, with the items under their own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPage<T> {
    name: &'static str,
    page: Page<T>,
}

impl<T: Serialize> Serialize for NamedPage<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut body = serializer.serialize_map(None)?;
        body.serialize_entry(self.name, &self.page.items)?;
        if let Some(token) = &self.page.next_page_token {
            body.serialize_entry("next_page_token", token)?;
        }
        body.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_json_under_the_name_of_its_items() {
        let page = Page::of(vec![1, 2, 3], 2, |row| *row).map(|row| row * 10);
        let token = page.next_page_token.clone().unwrap();
        let body = serde_json::to_value(page.named("jobs")).unwrap();
        assert_eq!(body, serde_json::json!({ "jobs": [10, 20], "next_page_token": token }));
        let last = serde_json::to_value(Page::of(vec![1], 2, |row| *row).named("jobs")).unwrap();
        assert_eq!(last, serde_json::json!({ "jobs": [1] }), "the last page has no token");
        let unset = PageQuery::of_message(0, String::new());
        assert_eq!((unset.limit().unwrap(), unset.after::<i32>().unwrap()), (DEFAULT_LIMIT, None));
    }

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
