//! Searches: filter, order, and page tokens that are valid for the search that they come from only.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use slipway_domain::registry::filter::{Clause, Entity, Order, parse, parse_order_by};
use slipway_http_server::Problem;
use slipway_http_server::page::{PageQuery, encode};

use crate::error::Error;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'text> {
    pub(super) entity: Entity,
    pub(super) filter: Option<&'text str>,
    pub(super) order_by: &'text [String],
    /// What else determines the result, e.g. the view.
    pub(super) scope: &'text str,
    pub(super) limit: Option<u32>,
    pub(super) page_token: Option<&'text str>,
}

/// A search that was read.
#[derive(Debug)]
pub(super) struct Search<P> {
    pub(super) clauses: Vec<Clause>,
    pub(super) orders: Vec<Order>,
    pub(super) limit: u32,
    /// Where the previous page ended.
    pub(super) after: Option<P>,
    fingerprint: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Token<P> {
    of: String,
    at: P,
}

impl<P: Serialize + DeserializeOwned> Search<P> {
    /// Reads a search.
    ///
    /// # Errors
    /// A problem that names `filter`, `order_by`, `limit` or `page_token`.
    pub(super) fn read(asked: Asked<'_>) -> Result<Self, Problem> {
        let filter = asked.filter.unwrap_or_default();
        let text = format!("{:?}\0{filter}\0{:?}\0{}", asked.entity, asked.order_by, asked.scope);
        let fingerprint = hex::encode(&Sha256::digest(text)[..8]);
        let paging = PageQuery { limit: asked.limit, page_token: asked.page_token.map(str::to_owned) };
        let after = match paging.after::<Token<P>>()? {
            None => None,
            Some(token) if token.of == fingerprint => Some(token.at),
            Some(_) => {
                let message = "the token belongs to a search with another filter, order or view";
                return Err(Problem::invalid("page_token", message));
            }
        };
        let orders = parse_order_by(asked.entity, asked.order_by);
        let orders = orders.map_err(|error| Problem::invalid("order_by", Error::from(error).to_string()))?;
        Ok(Self {
            clauses: parse(asked.entity, filter).map_err(Error::from)?,
            orders,
            limit: paging.limit()?,
            after,
            fingerprint,
        })
    }

    /// The token of the page behind `at`.
    pub(super) fn token(&self, at: P) -> String {
        encode(&Token { of: self.fingerprint.clone(), at })
    }
}

impl Search<i64> {
    /// Limit and offset for the store; one row more than asked for shows whether there are more.
    pub(super) fn page(&self) -> (i64, i64) {
        (i64::from(self.limit) + 1, self.offset())
    }

    fn offset(&self) -> i64 {
        self.after.unwrap_or_default().max(0)
    }

    /// Cuts what the store found to a page, with the token of the next one.
    pub(super) fn cut<T>(&self, mut rows: Vec<T>) -> (Vec<T>, Option<String>) {
        let limit = self.limit as usize;
        if rows.len() <= limit {
            return (rows, None);
        }
        rows.truncate(limit);
        let next = self.offset() + i64::from(self.limit);
        (rows, Some(self.token(next)))
    }
}

/// The terms of an order in one text, separated by commas; commas in quotes belong to a name.
pub(super) fn terms(order_by: Option<&str>) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut quote = None;
    for character in order_by.unwrap_or_default().chars() {
        match (character, quote) {
            (',', None) => {
                terms.push(String::new());
                continue;
            }
            ('`' | '"' | '\'', None) => quote = Some(character),
            (closing, Some(opening)) if closing == opening => quote = None,
            _ => {}
        }
        if let Some(term) = terms.last_mut() {
            term.push(character);
        }
    }
    terms.into_iter().map(|term| term.trim().to_owned()).filter(|term| !term.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<'text>(filter: &'text str, token: Option<&'text str>) -> Asked<'text> {
        Asked {
            entity: Entity::Experiments,
            filter: Some(filter),
            order_by: &[],
            scope: "",
            limit: Some(2),
            page_token: token,
        }
    }

    fn refused(asked: Asked<'_>) -> serde_json::Value {
        serde_json::to_value(Search::<i64>::read(asked).unwrap_err()).unwrap()["field"].clone()
    }

    #[test]
    fn a_token_is_valid_for_its_own_search_only() {
        let search = Search::<i64>::read(asked("name = 'a'", None)).unwrap();
        assert_eq!(search.page(), (3, 0));
        let (rows, token) = search.cut(vec![1, 2, 3]);
        assert_eq!(rows, [1, 2]);
        let token = token.unwrap();
        let next = Search::<i64>::read(asked("name = 'a'", Some(&token))).unwrap();
        assert_eq!((next.page(), next.cut(vec![1]).1), ((3, 2), None));
        assert_eq!(refused(asked("name = 'b'", Some(&token))), "page_token");
        assert_eq!(refused(asked("", Some("rubbish"))), "page_token");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        assert_eq!(refused(asked("name", None)), "filter");
        let order = ["nothing DESC".to_owned()];
        assert_eq!(refused(Asked { order_by: &order, ..asked("", None) }), "order_by");
        assert_eq!(refused(Asked { limit: Some(0), ..asked("", None) }), "limit");
    }

    #[test]
    fn terms_are_separated_by_commas_outside_of_quotes() {
        assert_eq!(terms(None), Vec::<String>::new());
        assert_eq!(terms(Some("name DESC, metrics.`a,b`,")), ["name DESC", "metrics.`a,b`"]);
    }
}
