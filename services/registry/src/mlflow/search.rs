//! What every search shares: filter, order, and a page token that only fits the search it came from.

use sha2::{Digest as _, Sha256};
use slipway_domain::registry::filter::{Clause, Entity, Order, parse, parse_order_by};
use slipway_domain::registry::{decode_page_token, encode_page_token, validate_max_results};

use super::Fields;
use crate::error::Error;
use crate::store::experiments::View;

/// A search, read.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) clauses: Vec<Clause>,
    pub(super) orders: Vec<Order>,
    limit: usize,
    offset: i64,
    /// Hash of everything but the page: a token of another search is refused.
    fingerprint: String,
}

impl Search {
    /// Reads `filter`, `order_by`, `max_results` and `page_token`.
    pub(super) fn read(entity: Entity, fields: &Fields, default: usize, most: usize) -> Result<Self, Error> {
        Self::ordered(entity, fields, &fields.strings("order_by")?, (default, most))
    }

    /// The same where the order came in another shape.
    pub(super) fn ordered(
        entity: Entity,
        fields: &Fields,
        order_by: &[String],
        (default, most): (usize, usize),
    ) -> Result<Self, Error> {
        let filter = fields.string("filter")?.unwrap_or_default();
        let experiments = fields.strings("experiment_ids")?;
        let what = format!("{entity:?}\0{filter}\0{order_by:?}\0{experiments:?}");
        let fingerprint = hex::encode(&Sha256::digest(what)[..8]);
        Ok(Self {
            clauses: parse(entity, &filter)?,
            orders: parse_order_by(entity, order_by)?,
            limit: validate_max_results(fields.integer("max_results")?, default, most)?,
            offset: offset(&fields.string("page_token")?.unwrap_or_default(), &fingerprint)?,
            fingerprint,
        })
    }

    /// Filter and order, for the store.
    pub(super) fn conditions(&self) -> (&[Clause], &[Order]) {
        (&self.clauses, &self.orders)
    }

    /// Limit and offset, for the store: one row more than asked for, to see whether there are more.
    pub(super) fn page(&self) -> (i64, i64) {
        (i64::try_from(self.limit).unwrap_or(i64::MAX - 1) + 1, self.offset)
    }

    /// Cuts what the store found to the page, and makes the next page's token.
    pub(super) fn cut<T>(&self, mut rows: Vec<T>) -> (Vec<T>, Option<String>) {
        if rows.len() <= self.limit {
            return (rows, None);
        }
        rows.truncate(self.limit);
        let next = self.offset + i64::try_from(self.limit).unwrap_or(0);
        (rows, Some(encode_page_token(&format!("{}:{next}", self.fingerprint))))
    }
}

fn offset(token: &str, fingerprint: &str) -> Result<i64, Error> {
    let Some(position) = decode_page_token(token)? else { return Ok(0) };
    let (of, offset) = position.split_once(':').unwrap_or_default();
    if of != fingerprint {
        return Err(Error::invalid(
            "Invalid page token: it belongs to a search with another filter or order",
        ));
    }
    offset
        .parse()
        .ok()
        .filter(|offset| *offset >= 0)
        .ok_or_else(|| Error::invalid("Invalid page token, could not base64-decode"))
}

/// Which life stages are asked for.
pub(super) fn view(fields: &Fields, name: &str) -> Result<View, Error> {
    match fields.string(name)?.as_deref() {
        None | Some("" | "ACTIVE_ONLY" | "1") => Ok(View::Active),
        Some("DELETED_ONLY" | "2") => Ok(View::Deleted),
        Some("ALL" | "3") => Ok(View::All),
        Some(other) => Err(Error::invalid(format!(
            "Invalid value \"{other}\" for parameter '{name}' supplied: expected ACTIVE_ONLY, DELETED_ONLY or ALL"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_another_search_is_refused() {
        let token = encode_page_token("aaaa:20");
        assert_eq!(offset(&token, "aaaa").unwrap(), 20);
        assert!(offset(&token, "bbbb").unwrap_err().message.contains("another filter"));
        assert!(offset("rubbish", "aaaa").unwrap_err().message.contains("could not base64-decode"));
        assert_eq!(offset("", "aaaa").unwrap(), 0);
    }
}
