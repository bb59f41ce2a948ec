//! Signing: a bundle that the package `model-signing` verifies.

use crate::bundle::{Envelope, Hint, MEDIA_TYPE, PAYLOAD_TYPE, Wire, WireMaterial, WireSignature};
use crate::bundle::{encode, pre_authentication_encoding};
use crate::compare::{File, is_ignored};
use crate::statement::{
    PREDICATE_TYPE, Predicate, Resource, RootDigest, STATEMENT_TYPE, Serialization, Statement, Subject,
    root_digest,
};
use crate::{Malformed, SigningKey, malformed};

/// Paths that are left out: those that the package leaves out whenever it verifies, where signatures lie, and
/// the note that MLflow's client writes into a model which it downloads by name.
pub const IGNORED_BY_DEFAULT: [&str; 7] =
    [".git", ".gitattributes", ".github", ".gitignore", "claims.jsonl", "model.sig", "registered_model_meta"];

/// Signs `files`, but those that lie in `ignored`. `model` is a name for people; it is not verified.
///
/// # Errors
/// No file is left to be signed, or a digest is none.
pub fn sign(
    key: &SigningKey,
    model: &str,
    files: &[File<'_>],
    ignored: &[&str],
) -> Result<String, Malformed> {
    let mut signed: Vec<&File<'_>> = files.iter().filter(|file| !is_ignored(ignored, file.path)).collect();
    if signed.is_empty() {
        return Err(malformed("there are no files to be signed"));
    }
    // The order of the package: by the parts of the path, so that `data/x` comes before `data.txt`.
    signed.sort_by(|one, other| one.path.split('/').cmp(other.path.split('/')));
    let resource = |file: &&File<'_>| Resource {
        name: file.path.to_owned(),
        algorithm: "sha256".to_owned(),
        digest: file.sha256.to_owned(),
    };
    let resources: Vec<Resource> = signed.iter().map(resource).collect();
    let statement = Statement {
        kind: STATEMENT_TYPE.to_owned(),
        subject: vec![Subject {
            name: model.to_owned(),
            digest: RootDigest { sha256: root_digest(&resources)? },
        }],
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate: Predicate {
            serialization: Serialization {
                method: "files".to_owned(),
                hash_type: "sha256".to_owned(),
                allow_symlinks: false,
                shard_size: None,
                ignore_paths: ignored.iter().map(|path| (*path).to_owned()).collect(),
            },
            resources,
        },
    };
    let unwritable = |error| malformed(format!("the statement cannot be written: {error}"));
    let payload = serde_json::to_vec(&statement).map_err(unwritable)?;
    let signature = key.sign(&pre_authentication_encoding(&payload));
    let bundle = Wire {
        media_type: MEDIA_TYPE.to_owned(),
        verification_material: WireMaterial {
            public_key: Some(Hint { hint: Some(key.public_key().fingerprint()?) }),
            ..WireMaterial::default()
        },
        dsse_envelope: Some(Envelope {
            payload: encode(&payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![WireSignature { sig: encode(&signature), keyid: String::new() }],
        }),
    };
    serde_json::to_string(&bundle).map_err(unwritable)
}
