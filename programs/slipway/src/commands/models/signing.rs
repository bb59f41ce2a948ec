//! `slipway models sign`, `verify` and `keys`.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use sha2::{Digest as _, Sha256};
use slipway_api::rest::registry::{NewSigningKey, SignatureState, SignatureVerdict, VersionFile};
use slipway_client::Registry;
use slipway_model_signing::{
    File, IGNORED_BY_DEFAULT, MAX_PEM_BYTES, Material, SigningKey, State, Trusted, Verdict, sign, verify,
};

use crate::commands::context::{Context, Paging};
use crate::output::{self, outln};

/// See `slipway models sign --help`.
#[derive(Debug, Args)]
pub struct Sign {
    /// Registered model.
    model: String,
    /// Version number.
    version: String,
    /// Private key (PEM): ECDSA on P-256, P-384 or P-521, as written by `openssl genpkey` or `openssl ecparam
    /// -genkey`.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Directory with the model's files. Refuses to sign unless each file of the version is there with the
    /// same bytes, so that you sign what you have rather than what the registry lists.
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Also writes the signature to this file, for tools that verify the format.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Does not attach the signature to the version; requires --output.
    #[arg(long, requires = "output")]
    detached: bool,
}

/// See `slipway models verify --help`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Registered model.
    model: String,
    /// Version number.
    version: String,
    /// Verifies locally, with this public key or these certificates (PEM) instead of those that the registry
    /// trusts. Can be repeated.
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
}

/// See `slipway models keys --help`.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Lists trusted keys and certificates.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Trusts signatures by a key, or by certificates that chain to a certificate.
    Trust {
        /// Name, as verdicts and policies show it.
        name: String,
        /// PEM file: one public key, or one or more certificates.
        file: PathBuf,
        /// Description.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Removes a key; versions that it signed are no longer validly signed.
    Remove {
        /// Name of the key.
        name: String,
    },
}

/// The files of a version as the registry knows them.
struct Manifest {
    files: Vec<(String, String, u64)>,
}

impl Manifest {
    async fn get(registry: &Registry, model: &str, version: &str) -> anyhow::Result<Self> {
        let details = registry.version(model, version).await?;
        let file = |file: VersionFile| (file.path, file.sha256, file.size_bytes.unsigned_abs());
        Ok(Self { files: details.files.into_iter().map(file).collect() })
    }

    /// Refuses unless every file lies in `folder` with the same bytes.
    fn compare(&self, folder: &Path) -> anyhow::Result<()> {
        for (path, sha256, _) in &self.files {
            // Paths of the registry are relative and stay in the folder, but this does not rely on it.
            if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
                bail!("the registry lists '{path}', which is not a path within a model");
            }
            let file = folder.join(path);
            let mut bytes =
                std::fs::File::open(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let mut hash = HashWriter(Sha256::new());
            std::io::copy(&mut bytes, &mut hash)
                .with_context(|| format!("cannot read {}", file.display()))?;
            if hex::encode(hash.0.finalize()) != *sha256 {
                bail!("'{path}' of the version has other bytes than {}; nothing was signed", file.display());
            }
        }
        Ok(())
    }

    fn list(&self) -> Vec<File<'_>> {
        self.files.iter().map(|(path, sha256, size)| File { path, sha256, size_bytes: *size }).collect()
    }
}

/// Hashes what is written to it.
struct HashWriter(Sha256);

impl std::io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn read_pem(path: &Path) -> anyhow::Result<String> {
    let length = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
    if length > MAX_PEM_BYTES as u64 {
        bail!("{} is longer than {MAX_PEM_BYTES} bytes, so it is not a key", path.display());
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

pub(super) async fn sign_version(context: &Context, options: &Sign) -> anyhow::Result<()> {
    let (model, version) = (&options.model, &options.version);
    let key = SigningKey::from_pem(&read_pem(&options.key)?)
        .with_context(|| format!("{} cannot be used", options.key.display()))?;
    let registry = context.registry()?;
    let manifest = Manifest::get(&registry, model, version).await?;
    if let Some(folder) = &options.files {
        manifest.compare(folder)?;
    }
    let bundle = sign(&key, model, &manifest.list(), &IGNORED_BY_DEFAULT)?;
    if let Some(path) = &options.output {
        std::fs::write(path, &bundle).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if options.detached {
        outln!("signed {} files of {model} {version}", manifest.files.len());
        return Ok(());
    }
    let answer = registry.attach_signature(model, version, &serde_json::from_str(&bundle)?).await?;
    if context.json {
        output::json(&answer);
    } else {
        outln!("signed {} files of {model} {version}", manifest.files.len());
        show(&answer.verdict);
    }
    Ok(())
}

pub(super) async fn verify_version(context: &Context, options: &Verify) -> anyhow::Result<()> {
    let (model, version) = (&options.model, &options.version);
    let registry = context.registry()?;
    let is_valid = if options.key.is_empty() {
        let signature = registry.signature(model, version).await?;
        if context.json {
            output::json(&signature);
        } else {
            show(&signature.verdict);
        }
        signature.verdict.state == SignatureState::Valid
    } else {
        let verdict = verify_here(&registry, options).await?;
        if context.json {
            output::json(&verdict);
        } else {
            // Both have the same JSON.
            show(&serde_json::from_value(output::value_of(&verdict))?);
        }
        verdict.state == State::Valid
    };
    if !is_valid {
        bail!("{model} {version} is not validly signed");
    }
    Ok(())
}

/// Trusts the registry with the digests alone: who signed them is verified by this program.
async fn verify_here(registry: &Registry, options: &Verify) -> anyhow::Result<Verdict> {
    let trusted = |path: &PathBuf| {
        let material = Material::from_pem(&read_pem(path)?);
        let material = material.with_context(|| format!("{} cannot be used", path.display()))?;
        Ok(Trusted { name: path.display().to_string(), material })
    };
    let trusted: Vec<Trusted> = options.key.iter().map(trusted).collect::<anyhow::Result<_>>()?;
    let bundle = registry.signature_bundle(&options.model, &options.version).await?;
    let manifest = Manifest::get(registry, &options.model, &options.version).await?;
    Ok(verify(&serde_json::to_string(&bundle)?, &manifest.list(), None, &trusted))
}

fn show(verdict: &SignatureVerdict) {
    outln!("{}: {}", output::cell(&output::value_of(verdict), "state"), verdict.detail);
    if let Some(signer) = &verdict.signer {
        outln!("signer: {signer}");
    }
    for one in &verdict.differences {
        outln!("  {} {}", one.kind, one.path);
    }
}

pub(super) async fn keys(context: &Context, command: Keys) -> anyhow::Result<()> {
    let registry = context.registry()?;
    match command {
        Keys::List { paging } => {
            let answer = registry.signing_keys(&paging.page()).await?;
            let columns = [
                ("NAME", "name"),
                ("KIND", "kind"),
                ("OF", "of"),
                ("FINGERPRINT", "fingerprints"),
                ("DESCRIPTION", "description"),
            ];
            output::list(context.json, &answer, "signing_keys", &columns);
        }
        Keys::Trust { name, file, description } => {
            let new = NewSigningKey { pem: read_pem(&file)?, description };
            let answer = registry.put_signing_key(&name, &new).await?;
            if context.json {
                output::json(&answer);
            } else {
                outln!("signatures by {name} are trusted: {}", answer.of.unwrap_or_default());
            }
        }
        Keys::Remove { name } => {
            registry.delete_signing_key(&name).await?;
            outln!("{name} is no longer trusted");
        }
    }
    Ok(())
}
