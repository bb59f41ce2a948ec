//! Verification: who signed, are they trusted, and are these the files that they signed?

use crate::bundle::{Bundle, Signer, shortened};
use crate::certificates::Leaf;
use crate::compare::{DifferenceKind, File, compare};
use crate::statement::{Fault, Statement};
use crate::{Malformed, Material, State, Trusted, Verdict};

/// Whether a text is a bundle that states something of a model; who signed it is not looked at.
///
/// # Errors
/// It is none, and the message says why.
pub fn check_shape(bundle: &str) -> Result<(), Malformed> {
    let parsed = Bundle::parse(bundle)?;
    match Statement::parse(&parsed.payload) {
        Err(Fault::Malformed(why)) => Err(why),
        // Another version of the format may be known tomorrow.
        Ok(_) | Err(Fault::OtherFormat(_)) => Ok(()),
    }
}

/// Verifies a bundle over `files`. `own_path` is where among them the bundle itself lies, as it cannot sign
/// itself.
pub fn verify(bundle: &str, files: &[File<'_>], own_path: Option<&str>, trusted: &[Trusted]) -> Verdict {
    let bundle = match Bundle::parse(bundle) {
        Ok(bundle) => bundle,
        Err(why) => return Verdict::told(State::Malformed, why.to_string()),
    };
    let statement = match Statement::parse(&bundle.payload) {
        Ok(statement) => statement,
        Err(Fault::Malformed(why)) => return Verdict::told(State::Malformed, why.to_string()),
        Err(Fault::OtherFormat(why)) => return Verdict::told(State::NotVerifiable, why),
    };
    let signed = match &bundle.signer {
        Signer::Keyless => {
            return Verdict::told(
                State::NotVerifiable,
                "it is a keyless Sigstore signature; without Sigstore's certificate authority and \
                 transparency log it cannot be verified here",
            );
        }
        Signer::Key { hint } => by_key(&bundle, hint.as_deref(), trusted),
        Signer::Certificates(chain) => by_certificates(&bundle, chain, trusted),
    };
    let verdict = match signed {
        Ok(verdict) => verdict,
        Err(refused) => return refused,
    };
    let differences = match compare(&statement.predicate, files, own_path) {
        Ok(differences) => differences,
        Err(why) => return Verdict { state: State::NotVerifiable, detail: why, ..verdict },
    };
    let Some(first) = differences.told.first() else { return verdict };
    let how = match first.kind {
        DifferenceKind::Changed => "is not the file that was signed",
        DifferenceKind::Missing => "was signed and is not there",
        DifferenceKind::Unsigned => "was not signed",
    };
    let more = match differences.count {
        1 => String::new(),
        count => format!(", and {} more files differ", count - 1),
    };
    let detail = format!("'{}' {how}{more}", first.path);
    Verdict { state: State::Mismatch, detail, differences: differences.told, ..verdict }
}

fn broken(key: &str, signer: String) -> Verdict {
    let detail =
        format!("the bundle does not hold what '{key}' signed: its payload or its signature was changed");
    Verdict { key: Some(key.to_owned()), signer: Some(signer), ..Verdict::told(State::Mismatch, detail) }
}

fn valid(key: &str, signer: String) -> Verdict {
    let detail = format!("signed by '{key}', and every file is the one that was signed");
    Verdict { key: Some(key.to_owned()), signer: Some(signer), ..Verdict::told(State::Valid, detail) }
}

/// The trusted key that signed it, or the verdict that none did.
fn by_key(bundle: &Bundle, hint: Option<&str>, trusted: &[Trusted]) -> Result<Verdict, Verdict> {
    let message = bundle.signed_bytes();
    let keys = trusted.iter().filter_map(|one| match &one.material {
        Material::Key(key) => Some((one, key, key.fingerprint().ok()?)),
        Material::Certificates(_) => None,
    });
    let mut named = None;
    for (one, key, fingerprint) in keys.filter(|(_, _, print)| hint.is_none_or(|hint| hint == print)) {
        if key.verifies(&message, &bundle.signature) {
            return Ok(valid(&one.name, fingerprint));
        }
        named = hint.map(|_| broken(&one.name, fingerprint));
    }
    Err(named.unwrap_or_else(|| {
        let detail = match hint {
            Some(hint) => format!("no trusted key has the fingerprint {}, which signed it", shortened(hint)),
            None => "no trusted key made it, and it does not tell by which key it was made".to_owned(),
        };
        Verdict { signer: hint.map(shortened), ..Verdict::told(State::UntrustedKey, detail) }
    }))
}

fn by_certificates(bundle: &Bundle, chain: &[Vec<u8>], trusted: &[Trusted]) -> Result<Verdict, Verdict> {
    let Some((leaf, others)) = chain.split_first() else {
        return Err(Verdict::told(State::Malformed, "it has an empty chain of certificates"));
    };
    let leaf = Leaf::parse(leaf).map_err(|why| Verdict::told(State::Malformed, why.to_string()))?;
    let mut reason = None;
    for one in trusted {
        let Material::Certificates(roots) = &one.material else { continue };
        match leaf.is_trusted(others, roots) {
            Ok(()) if leaf.key.verifies(&bundle.signed_bytes(), &bundle.signature) => {
                return Ok(valid(&one.name, leaf.subject));
            }
            Ok(()) => return Err(broken(&one.name, leaf.subject)),
            Err(why) => reason = Some(why),
        }
    }
    let subject = &leaf.subject;
    let detail =
        reason.unwrap_or_else(|| format!("the certificate '{subject}' signed it, and no roots are trusted"));
    Err(Verdict { signer: Some(shortened(subject)), ..Verdict::told(State::UntrustedKey, detail) })
}
