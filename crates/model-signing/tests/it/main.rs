//! Signatures of the real `model-signing` package, and our own; see `tests/fixtures/make.py`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use slipway_model_signing::{
    DifferenceKind, File, IGNORED_BY_DEFAULT, Material, SigningKey, State, Trusted, Verdict, check_shape,
    sign, verify,
};

/// Files of the model: path, SHA-256, size.
type Files = Vec<(String, String, u64)>;

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn model() -> Files {
    ["MLmodel", "data.txt", "data/weights.bin", "notes.md"]
        .iter()
        .map(|name| {
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/model").join(name);
            let bytes = std::fs::read(path).unwrap();
            ((*name).to_owned(), hex::encode(Sha256::digest(&bytes)), bytes.len() as u64)
        })
        .collect()
}

fn trust(names: &[&str]) -> Vec<Trusted> {
    let one = |name: &&str| Trusted {
        name: (*name).to_owned(),
        material: Material::from_pem(&fixture(name)).unwrap(),
    };
    names.iter().map(one).collect()
}

fn judge_text(bundle: &str, files: &Files, trusted: &[&str]) -> Verdict {
    let files: Vec<File<'_>> =
        files.iter().map(|(path, sha256, size)| File { path, sha256, size_bytes: *size }).collect();
    verify(bundle, &files, Some("model.sig"), &trust(trusted))
}

fn judge(bundle: &str, files: &Files, trusted: &[&str]) -> Verdict {
    judge_text(&fixture(bundle), files, trusted)
}

/// The bundle with another payload or material.
fn altered(bundle: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut value = serde_json::from_str(&fixture(bundle)).unwrap();
    change(&mut value);
    value.to_string()
}

fn with_payload(bundle: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
    altered(bundle, |value| {
        let payload = value["dsseEnvelope"]["payload"].as_str().unwrap();
        let mut statement = serde_json::from_slice(&BASE64_STANDARD.decode(payload).unwrap()).unwrap();
        change(&mut statement);
        value["dsseEnvelope"]["payload"] = BASE64_STANDARD.encode(statement.to_string()).into();
    })
}

#[test]
fn signatures_of_the_package_are_valid_on_every_curve() {
    for curve in ["p256", "p384", "p521"] {
        let verdict = judge(&format!("{curve}.sig"), &model(), &["root.pem", &format!("{curve}.pub")]);
        assert_eq!(verdict.state, State::Valid, "{verdict:?}");
        assert_eq!(verdict.key.unwrap(), format!("{curve}.pub"));
    }
    let verdict = judge("shards.sig", &model(), &["p256.pub"]);
    assert_eq!(verdict.state, State::Valid, "{verdict:?}");
}

#[test]
fn certificates_count_where_a_trusted_root_issued_them_for_signing() {
    for (name, subject) in [("certificate", "CN=Model Team"), ("code-certificate", "CN=Code Team")] {
        let verdict = judge(&format!("{name}.sig"), &model(), &["p256.pub", "root.pem"]);
        assert_eq!((verdict.state, verdict.signer.as_deref()), (State::Valid, Some(subject)), "{verdict:?}");
        let pinned = judge(&format!("{name}.sig"), &model(), &[&format!("{name}.pem")]);
        assert_eq!(pinned.state, State::Valid, "{pinned:?}");
    }
    // Of the same name, with another key.
    let stranger = judge("certificate.sig", &model(), &["stranger-root.pem", "p256.pub"]);
    assert_eq!(stranger.state, State::UntrustedKey, "{stranger:?}");
    assert!(stranger.detail.contains("CN=Model Team"), "{stranger:?}");
    let other = judge("other-certificate.sig", &model(), &["root.pem"]);
    assert_eq!(other.state, State::UntrustedKey, "{other:?}");
    assert!(other.detail.contains("may not sign"), "{other:?}");
    let torn = altered("certificate.sig", |value| {
        let chain =
            value["verificationMaterial"]["x509CertificateChain"]["certificates"].as_array_mut().unwrap();
        chain.truncate(1);
    });
    let verdict = judge_text(&torn, &model(), &["root.pem"]);
    assert_eq!(verdict.state, State::UntrustedKey, "without the one between: {verdict:?}");
    assert!(verdict.detail.contains("leads to no trusted root"), "{verdict:?}");
}

#[test]
fn files_that_differ_are_named() {
    let expect = |files: &Files, path: &str, kind: DifferenceKind| {
        let verdict = judge("p256.sig", files, &["p256.pub"]);
        assert_eq!(verdict.state, State::Mismatch, "{verdict:?}");
        assert_eq!(verdict.key.as_deref(), Some("p256.pub"));
        let found: Vec<_> = verdict.differences.iter().map(|one| (one.path.as_str(), one.kind)).collect();
        assert_eq!(found, [(path, kind)]);
        assert!(verdict.detail.contains(path), "{verdict:?}");
    };
    let mut changed = model();
    changed[2].1 = "00".repeat(32);
    expect(&changed, "data/weights.bin", DifferenceKind::Changed);
    let mut missing = model();
    missing.remove(1);
    expect(&missing, "data.txt", DifferenceKind::Missing);
    let mut more = model();
    more.push(("run.py".to_owned(), "00".repeat(32), 1));
    expect(&more, "run.py", DifferenceKind::Unsigned);
    let mut ignored = model();
    ignored[3].1 = "00".repeat(32);
    ignored.push(("model.sig".to_owned(), "00".repeat(32), 1));
    ignored.push((".git/config".to_owned(), "00".repeat(32), 1));
    assert_eq!(
        judge("p256.sig", &ignored, &["p256.pub"]).state,
        State::Valid,
        "what the signer ignored may change"
    );
    ignored.push((".gitx".to_owned(), "00".repeat(32), 1));
    expect(&ignored, ".gitx", DifferenceKind::Unsigned);
}

#[test]
fn a_stranger_is_not_trusted_and_a_changed_bundle_is_not_valid() {
    for trusted in [&[][..], &["p384.pub", "root.pem"]] {
        let verdict = judge("p256.sig", &model(), trusted);
        assert_eq!(verdict.state, State::UntrustedKey, "{verdict:?}");
    }
    let replaced = with_payload("p256.sig", |statement| {
        statement["predicate"]["serialization"]["allow_symlinks"] = true.into();
    });
    let verdict = judge_text(&replaced, &model(), &["p256.pub"]);
    assert_eq!(verdict.state, State::Mismatch, "{verdict:?}");
    assert!(verdict.detail.contains("was changed"), "{verdict:?}");
    // The same bytes, said to be by another key.
    let hint = |value: serde_json::Value| {
        move |bundle: &mut serde_json::Value| bundle["verificationMaterial"]["publicKey"] = value
    };
    let nameless = altered("p256.sig", hint(serde_json::json!({})));
    assert_eq!(judge_text(&nameless, &model(), &["p384.pub", "p256.pub"]).state, State::Valid);
    assert_eq!(judge_text(&nameless, &model(), &["p384.pub"]).state, State::UntrustedKey);
    let Material::Key(other) = Material::from_pem(&fixture("p384.pub")).unwrap() else { unreachable!() };
    let misnamed = altered("p256.sig", hint(serde_json::json!({"hint": other.fingerprint().unwrap()})));
    assert_eq!(judge_text(&misnamed, &model(), &["p384.pub", "p256.pub"]).state, State::Mismatch);
}

#[test]
fn what_cannot_be_told_here_is_never_valid() {
    for (bundle, word) in
        [("keyless.sig", "keyless"), ("blake3.sig", "blake3"), ("small-shards.sig", "data/weights.bin")]
    {
        let verdict = judge(bundle, &model(), &["p256.pub", "root.pem"]);
        assert_eq!(verdict.state, State::NotVerifiable, "{bundle}: {verdict:?}");
        assert!(verdict.detail.contains(word), "{verdict:?}");
    }
    let older = with_payload("p256.sig", |statement| {
        statement["predicateType"] = "https://model_signing/Digests/v0.1".into();
    });
    assert_eq!(judge_text(&older, &model(), &["p256.pub"]).state, State::NotVerifiable);
}

#[test]
fn what_is_no_signature_says_why() {
    let cases: Vec<(String, &str)> = vec![
        ("no json".to_owned(), "Sigstore bundle"),
        (altered("p256.sig", |value| value["mediaType"] = "x".into()), "media type is 'x'"),
        (altered("p256.sig", |value| value["dsseEnvelope"]["payload"] = "?".into()), "dsseEnvelope.payload"),
        (
            altered("p256.sig", |value| value["dsseEnvelope"]["payloadType"] = "text/plain".into()),
            "text/plain",
        ),
        (
            altered("p256.sig", |value| value["dsseEnvelope"]["signatures"] = serde_json::json!([])),
            "0 signatures",
        ),
        (
            altered("p256.sig", |value| value["verificationMaterial"] = serde_json::json!({})),
            "neither one key",
        ),
        (altered("p256.sig", |value| drop(value.as_object_mut().unwrap().remove("dsseEnvelope"))), "no DSSE"),
        (
            with_payload("p256.sig", |statement| {
                statement["predicate"]["resources"][0]["digest"] = "00".into();
            }),
            "root digest",
        ),
        (with_payload("p256.sig", |statement| statement["subject"] = serde_json::json!([])), "0 subjects"),
        (
            with_payload("p256.sig", |statement| {
                let resources = statement["predicate"]["resources"].as_array_mut().unwrap();
                resources.push(resources[0].clone());
            }),
            "'MLmodel' twice",
        ),
    ];
    for (bundle, words) in cases {
        let verdict = judge_text(&bundle, &model(), &["p256.pub"]);
        assert_eq!(verdict.state, State::Malformed, "{words}: {verdict:?}");
        assert!(verdict.detail.contains(words), "{words}: {verdict:?}");
        assert!(check_shape(&bundle).unwrap_err().to_string().contains(words));
    }
    check_shape(&fixture("keyless.sig")).unwrap();
}

#[test]
fn what_we_sign_is_valid_and_like_what_the_package_signs() {
    let files = model();
    let list: Vec<File<'_>> =
        files.iter().map(|(path, sha256, size)| File { path, sha256, size_bytes: *size }).collect();
    for key in ["p256", "p384", "p521"] {
        for form in ["key", "sec1.key"] {
            let pem = format!(
                "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{}",
                fixture(&format!("{key}.{form}"))
            );
            let pem = if form == "key" { fixture(&format!("{key}.key")) } else { pem };
            let secret = SigningKey::from_pem(&pem).unwrap();
            assert_eq!(secret.public_key().to_pem().unwrap(), fixture(&format!("{key}.pub")));
            let ignored = [&IGNORED_BY_DEFAULT[..], &["notes.md"]].concat();
            let bundle = sign(&secret, "model", &list, &ignored).unwrap();
            assert_eq!(judge_text(&bundle, &files, &[&format!("{key}.pub")]).state, State::Valid);
            let statement = |bundle: &str| -> serde_json::Value {
                let bundle: serde_json::Value = serde_json::from_str(bundle).unwrap();
                let payload =
                    BASE64_STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
                serde_json::from_slice(&payload).unwrap()
            };
            let (ours, theirs) = (statement(&bundle), statement(&fixture(&format!("{key}.sig"))));
            assert_eq!(
                (&ours["subject"], &ours["predicate"]["resources"]),
                (&theirs["subject"], &theirs["predicate"]["resources"])
            );
        }
    }
    assert!(sign(&SigningKey::from_pem(&fixture("p256.key")).unwrap(), "m", &[], &[]).is_err());
}

#[test]
fn keys_that_cannot_be_used_say_why() {
    for (pem, words) in [
        (fixture("sealed.key"), "is encrypted"),
        (fixture("p256.pub"), "no private key"),
        ("-----BEGIN EC PRIVATE KEY-----".to_owned(), "no private key"),
    ] {
        let refused = SigningKey::from_pem(&pem).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    for (pem, words) in [
        (fixture("p256.key"), "must stay secret"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_owned(), "P-521"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), "certificates in PEM"),
        ("hello".to_owned(), "PUBLIC KEY"),
    ] {
        let refused = Material::from_pem(&pem).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(format!("{:?}", SigningKey::from_pem(&fixture("p256.key")).unwrap()), "SigningKey(…)");
}
