//! The audit trail as a chain: each row's hash covers the row and the hash before it, so changing,
//! removing or inserting a row invalidates every later hash.

use sha2::{Digest as _, Sha256};

/// The hash before the first row.
pub const GENESIS: [u8; 32] = [0; 32];

/// What one row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'row> {
    /// Place in the chain, from 1.
    pub seq: i64,
    /// Id of the event of the change.
    pub event_id: &'row str,
    /// When the change was made, Unix milliseconds.
    pub at_ms: i64,
    /// Who: a principal, `anonymous` where access is off, `system` for the service itself.
    pub principal: &'row str,
    /// With what: `token:<id>`, `oidc`, `admin-token`; empty without one.
    pub credential: &'row str,
    /// From where: an IP address; empty where the service itself acted.
    pub origin: &'row str,
    /// Trace of the request; empty without one.
    pub trace_id: &'row str,
    /// Kind of the changed thing, e.g. `run`.
    pub entity: &'row str,
    /// What happened to it, e.g. `created`.
    pub what: &'row str,
    /// Which one, e.g. `churn/3`.
    pub id: &'row str,
    /// The event's body: JSON text, kept as it was.
    pub details: &'row str,
}

impl Record<'_> {
    /// The row as one line of JSON, an array of its fields in their order: what is hashed.
    pub fn canonical(&self) -> String {
        serde_json::json!([
            self.seq,
            self.event_id,
            self.at_ms,
            self.principal,
            self.credential,
            self.origin,
            self.trace_id,
            self.entity,
            self.what,
            self.id,
            self.details
        ])
        .to_string()
    }
}

/// SHA-256 over the hash before (32 bytes) and the row's line (UTF-8).
pub fn link(previous: &[u8; 32], canonical: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(previous);
    hasher.update(canonical.as_bytes());
    hasher.finalize().into()
}

/// The first place where a chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {seq}: {why}")]
pub struct Broken {
    /// The row that does not fit.
    pub seq: i64,
    /// How.
    pub why: &'static str,
}

/// Walks a chain row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    seq: i64,
    hash: [u8; 32],
}

impl Default for Walk {
    fn default() -> Self {
        Self { seq: 0, hash: GENESIS }
    }
}

impl Walk {
    /// Rows seen so far, which is also the last one's number.
    pub const fn seq(&self) -> i64 {
        self.seq
    }

    /// Hash of the last row.
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Takes the next row.
    ///
    /// # Errors
    /// A row before it is missing, or it is another than the one that was chained.
    pub fn next(&mut self, seq: i64, canonical: &str, hash: &[u8]) -> Result<(), Broken> {
        if seq != self.seq + 1 {
            return Err(Broken { seq: self.seq + 1, why: "it is missing" });
        }
        let expected = link(&self.hash, canonical);
        if expected != hash {
            return Err(Broken { seq, why: "its content or a hash was changed after it was written" });
        }
        (self.seq, self.hash) = (seq, expected);
        Ok(())
    }

    /// Compares the end of the walk with the head that is kept next to the chain.
    ///
    /// # Errors
    /// Rows are missing at the end, or stand there that were never chained.
    pub fn end(&self, head_seq: i64, head_hash: &[u8]) -> Result<(), Broken> {
        match self.seq.cmp(&head_seq) {
            std::cmp::Ordering::Less => {
                Err(Broken { seq: self.seq + 1, why: "it is missing, and every row after it" })
            }
            std::cmp::Ordering::Greater => {
                Err(Broken { seq: head_seq + 1, why: "the head of the chain does not know it" })
            }
            std::cmp::Ordering::Equal if self.hash != head_hash => {
                Err(Broken { seq: head_seq, why: "the head of the chain has another hash" })
            }
            std::cmp::Ordering::Equal => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(ids: &[&str]) -> Vec<(i64, String, [u8; 32])> {
        let mut previous = GENESIS;
        let row = |(index, id): (usize, &&str)| {
            let seq = i64::try_from(index).unwrap() + 1;
            let record = Record {
                seq,
                event_id: "e",
                at_ms: 5,
                principal: "ann",
                credential: "",
                origin: "127.0.0.1",
                trace_id: "",
                entity: "run",
                what: "created",
                id,
                details: "{\"a\":\"\\\"\"}",
            };
            let line = record.canonical();
            previous = link(&previous, &line);
            (seq, line, previous)
        };
        ids.iter().enumerate().map(row).collect()
    }

    fn walk(rows: &[(i64, String, [u8; 32])]) -> Result<Walk, Broken> {
        let mut walk = Walk::default();
        for (seq, line, hash) in rows {
            walk.next(*seq, line, hash)?;
        }
        Ok(walk)
    }

    #[test]
    fn a_chain_holds_until_something_of_it_is_changed() {
        let rows = chain(&["a", "b", "c"]);
        let head = rows[2].2;
        walk(&rows).unwrap().end(3, &head).unwrap();

        let mut changed = rows.clone();
        changed[1].1 = changed[1].1.replace("\"b\"", "\"x\"");
        assert_eq!(walk(&changed).unwrap_err().seq, 2);

        let mut rehashed = changed.clone();
        rehashed[1].2 = link(&rehashed[0].2, &rehashed[1].1);
        assert_eq!(walk(&rehashed).unwrap_err().seq, 3);

        let removed: Vec<_> = [&rows[..1], &rows[2..]].concat();
        assert_eq!(walk(&removed).unwrap_err().seq, 2);
        assert_eq!(walk(&rows[..2]).unwrap().end(3, &head).unwrap_err().seq, 3);
    }

    #[test]
    fn the_line_is_the_one_that_the_documentation_shows() {
        let (_, line, _) = &chain(&["r\"1"])[0];
        assert_eq!(line, r#"[1,"e",5,"ann","","127.0.0.1","","run","created","r\"1","{\"a\":\"\\\"\"}"]"#);
    }
}
