//! What every search shares: filter, order, and a page token that only fits the search it came from.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use slipway_domain::registry::filter::{Clause, Entity, Order, parse, parse_order_by};
use slipway_domain::registry::{
    decode_page_token, encode_page_token, validate_experiment_id, validate_max_results,
};

use super::Fields;
use super::error::Failure;
use crate::access::caller::Caller;
use crate::store::experiments::View;
use crate::tracking::runs::readable;

/// What a page token of another search of logged models differs in, in the order of a fingerprint's parts.
const DIFFERENCES: [&str; 3] = [
    "Experiment IDs in the page token do not match the requested experiment IDs.",
    "Filter string in the page token does not match the requested filter string.",
    "Order by in the page token does not match the requested order by.",
];

/// A search, read.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) clauses: Vec<Clause>,
    pub(super) orders: Vec<Order>,
    pub(super) limit: usize,
    /// Where the last page ended, as its token says; empty for the first page.
    position: String,
    /// Hashes of everything but the page: a token of another search is refused.
    fingerprint: String,
}

impl Search {
    /// Reads `filter`, `order_by`, `max_results` and `page_token`.
    pub(super) fn read(
        entity: Entity,
        fields: &Fields,
        default: usize,
        most: usize,
    ) -> Result<Self, Failure> {
        Self::ordered(entity, fields, &fields.strings("order_by")?, ["", ""], (default, most))
    }

    /// The same where the order came in another shape. `more` is what else belongs to the filter and to the
    /// order.
    pub(super) fn ordered(
        entity: Entity,
        fields: &Fields,
        order_by: &[String],
        [more_filter, more_order]: [&str; 2],
        (default, most): (usize, usize),
    ) -> Result<Self, Failure> {
        let filter = fields.string("filter")?.unwrap_or_default();
        let experiments = fields.strings("experiment_ids")?;
        let fingerprint = [
            format!("{entity:?}\0{experiments:?}"),
            format!("{filter}\0{more_filter}"),
            format!("{order_by:?}\0{more_order}"),
        ]
        .map(|part| hex::encode(&Sha256::digest(part)[..8]))
        .join(".");
        Ok(Self {
            clauses: parse(entity, &filter)?,
            orders: parse_order_by(entity, order_by)?,
            limit: validate_max_results(fields.integer("max_results")?, default, most)?,
            position: position(entity, &fields.string("page_token")?.unwrap_or_default(), &fingerprint)?,
            fingerprint,
        })
    }

    /// Filter and order, for the store.
    pub(super) fn conditions(&self) -> (&[Clause], &[Order]) {
        (&self.clauses, &self.orders)
    }

    /// Limit and offset, for the store: one row more than asked for, to see whether there are more.
    ///
    /// # Errors
    /// The token's position is no offset.
    pub(super) fn page(&self) -> Result<(i64, i64), Failure> {
        Ok((i64::try_from(self.limit).unwrap_or(i64::MAX - 1) + 1, self.offset()?))
    }

    fn offset(&self) -> Result<i64, Failure> {
        if self.position.is_empty() {
            return Ok(0);
        }
        self.position.parse().ok().filter(|offset| *offset >= 0).ok_or_else(unreadable)
    }

    /// Where the last page ended, for a store that goes on behind a row.
    ///
    /// # Errors
    /// The token's position is something else.
    pub(super) fn after<T: DeserializeOwned>(&self) -> Result<Option<T>, Failure> {
        if self.position.is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&self.position).map(Some).map_err(|_| unreadable())
    }

    /// The token of the page behind `after`.
    pub(super) fn token<T: Serialize>(&self, after: &T) -> Result<String, Failure> {
        let position = serde_json::to_string(after).map_err(Failure::internal)?;
        Ok(encode_page_token(&format!("{}:{position}", self.fingerprint)))
    }

    /// Cuts what the store found to the page, and makes the next page's token.
    pub(super) fn cut<T>(&self, mut rows: Vec<T>) -> (Vec<T>, Option<String>) {
        if rows.len() <= self.limit {
            return (rows, None);
        }
        rows.truncate(self.limit);
        let next = self.offset().unwrap_or(0) + i64::try_from(self.limit).unwrap_or(0);
        (rows, Some(encode_page_token(&format!("{}:{next}", self.fingerprint))))
    }
}

fn position(entity: Entity, token: &str, fingerprint: &str) -> Result<String, Failure> {
    let Some(content) = decode_page_token(token)? else { return Ok(String::new()) };
    let (of, position) = content.split_once(':').unwrap_or_default();
    if of == fingerprint {
        return Ok(position.to_owned());
    }
    // Of logged models alone does MLflow report which part differs.
    let differs = |((of, asked), _): &((&str, &str), &str)| entity == Entity::LoggedModels && of != asked;
    let message =
        of.split('.').zip(fingerprint.split('.')).zip(DIFFERENCES).find(differs).map_or(
            "Invalid page token: it belongs to a search with another filter or order",
            |(_, message)| message,
        );
    Err(Failure::invalid(message))
}

/// The experiments that are asked for and that the caller may read.
pub(super) fn experiment_ids(fields: &Fields, caller: &Caller) -> Result<Vec<i64>, Failure> {
    let asked = fields.strings("experiment_ids")?;
    let ids = asked.iter().map(|id| validate_experiment_id(id)).collect::<Result<Vec<i64>, _>>()?;
    Ok(readable(caller, ids))
}

fn unreadable() -> Failure {
    Failure::invalid("Invalid page token, could not base64-decode")
}

/// Which life stages are asked for.
pub(super) fn view(fields: &Fields, name: &str) -> Result<View, Failure> {
    match fields.string(name)?.as_deref() {
        None | Some("" | "ACTIVE_ONLY" | "1") => Ok(View::Active),
        Some("DELETED_ONLY" | "2") => Ok(View::Deleted),
        Some("ALL" | "3") => Ok(View::All),
        Some(other) => Err(Failure::invalid(format!(
            "Invalid value \"{other}\" for parameter '{name}' supplied: expected ACTIVE_ONLY, DELETED_ONLY \
             or ALL"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_another_search_is_refused() {
        let token = encode_page_token("aaaa:20");
        assert_eq!(position(Entity::Runs, &token, "aaaa").unwrap(), "20");
        assert!(position(Entity::Runs, &token, "bbbb").unwrap_err().message.contains("another filter"));
        assert!(
            position(Entity::Runs, "rubbish", "aaaa")
                .unwrap_err()
                .message
                .contains("could not base64-decode")
        );
        assert_eq!(position(Entity::Runs, "", "aaaa").unwrap(), "");
    }
}
