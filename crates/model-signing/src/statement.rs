//! The in-toto statement in the envelope: which files were signed, and how they were turned into a list.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bundle::shortened;
use crate::{Malformed, malformed};

pub(crate) const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
pub(crate) const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
/// Files or shards of one model.
const MAX_RESOURCES: usize = 1_000_000;

/// The statement. What it has besides is of no concern to version 1.0 of the predicate.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Statement {
    #[serde(rename = "_type")]
    pub(crate) kind: String,
    pub(crate) subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    pub(crate) predicate_type: String,
    pub(crate) predicate: Predicate,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) digest: RootDigest,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RootDigest {
    pub(crate) sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Predicate {
    pub(crate) serialization: Serialization,
    pub(crate) resources: Vec<Resource>,
}

/// How the model was turned into a list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Serialization {
    pub(crate) method: String,
    pub(crate) hash_type: String,
    pub(crate) allow_symlinks: bool,
    /// In bytes; the package writes it as a floating-point number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shard_size: Option<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ignore_paths: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Resource {
    pub(crate) name: String,
    pub(crate) algorithm: String,
    pub(crate) digest: String,
}

/// Why a payload gives no list of files.
#[derive(Debug)]
pub(crate) enum Fault {
    Malformed(Malformed),
    /// It is well-formed, and signed in a way that is not known here.
    OtherFormat(String),
}

impl From<Malformed> for Fault {
    fn from(fault: Malformed) -> Self {
        Self::Malformed(fault)
    }
}

#[derive(Deserialize)]
struct Kinds {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
}

impl Statement {
    /// Reads a payload and checks that it is in agreement with itself.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Fault> {
        let no_statement = |error| malformed(format!("its payload is no in-toto statement: {error}"));
        // Other versions have other fields, so first what tells them apart.
        let Kinds { kind, predicate_type } = serde_json::from_slice(payload).map_err(no_statement)?;
        if kind != STATEMENT_TYPE {
            let found = shortened(&kind);
            return Err(malformed(format!("its statement is a '{found}', expected {STATEMENT_TYPE}")).into());
        }
        if predicate_type != PREDICATE_TYPE {
            let found = shortened(&predicate_type);
            return Err(Fault::OtherFormat(format!("it states '{found}'; {PREDICATE_TYPE} is known here")));
        }
        let statement: Self = serde_json::from_slice(payload).map_err(no_statement)?;
        statement.check()?;
        Ok(statement)
    }

    fn check(&self) -> Result<(), Malformed> {
        let [subject] = self.subject.as_slice() else {
            let count = self.subject.len();
            return Err(malformed(format!("its statement has {count} subjects, expected one")));
        };
        let resources = &self.predicate.resources;
        if resources.len() > MAX_RESOURCES {
            return Err(malformed(format!("it lists more than {MAX_RESOURCES} files")));
        }
        let mut names = HashSet::new();
        if let Some(twice) = resources.iter().find(|one| !names.insert(one.name.as_str())) {
            return Err(malformed(format!("it lists the file '{}' twice", shortened(&twice.name))));
        }
        let root = root_digest(resources)?;
        if subject.digest.sha256 != root {
            let told = shortened(&subject.digest.sha256);
            return Err(malformed(format!(
                "its root digest is {told}, but the files that it lists make {root}"
            )));
        }
        Ok(())
    }
}

/// SHA-256 over the digests in their order.
pub(crate) fn root_digest(resources: &[Resource]) -> Result<String, Malformed> {
    let mut root = Sha256::new();
    for resource in resources {
        let digest = hex::decode(&resource.digest)
            .map_err(|_| malformed(format!("the digest of '{}' is no hex", shortened(&resource.name))))?;
        root.update(digest);
    }
    Ok(hex::encode(root.finalize()))
}
