//! `slipway serving-tokens`: entries of the token file that serving reads.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use clap::Subcommand;
use secrecy::ExposeSecret as _;
use slipway_access::ApiToken;
use slipway_domain::access::token_digest;
use slipway_runtime::clock;
use slipway_serving::{TokenEntry, TokenFile};

use crate::output::{self, errln, outln};

/// Longest life of a token that ends by itself: a hundred years.
const MAX_DAYS: i64 = 36_500;

/// See `slipway serving-tokens --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates a token and prints it with its entry for the token file. The token is not shown again.
    Create {
        /// Name in the file, in metrics and in errors, e.g. "checkout-2026-11".
        name: String,
        /// Deployment that the token may call; `*` for all of them and the server's settings. Can be
        /// repeated.
        #[arg(long = "model", value_name = "DEPLOYMENT", required = true)]
        models: Vec<String>,
        /// Days until the token expires [default: never].
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=MAX_DAYS))]
        expires_in_days: Option<u32>,
        /// Token file to add the entry to, created if it does not exist; servers that use the file accept the
        /// token within seconds [default: prints the entry].
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

pub(crate) fn run(json: bool, command: Command) -> anyhow::Result<ExitCode> {
    let file = match &command {
        Command::Create { file, .. } => file.clone(),
    };
    let (token, entry) = create(command)?;
    if json {
        output::json(&serde_json::json!({"token": token, "entry": entry}));
        return Ok(ExitCode::SUCCESS);
    }
    outln!("{token}");
    match file {
        Some(file) => errln!("the token is not shown again; its entry is in {}", file.display()),
        None => errln!(
            "the token is not shown again; its entry, for `tokens` of the file: {}",
            serde_json::to_string(&entry)?
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// A new token, and its entry, which is in the file if one was given.
fn create(command: Command) -> anyhow::Result<(String, TokenEntry)> {
    let Command::Create { name, models, expires_in_days, file } = command;
    let token = ApiToken::generate()?.reveal();
    let token = token.expose_secret();
    let expires_at = expires_in_days
        .map(|days| DateTime::<Utc>::from(clock::now()).trunc_subsecs(0) + TimeDelta::days(days.into()));
    let sha256 = hex::encode(token_digest(token.as_bytes()));
    let entry = TokenEntry { name, sha256, models, expires_at };
    // One entry that means nothing would keep serving from reading all others.
    TokenFile { tokens: vec![entry.clone()] }.check().map_err(anyhow::Error::msg)?;
    if let Some(file) = &file {
        add(file, &entry).with_context(|| format!("the token file {}", file.display()))?;
    }
    Ok((token.to_owned(), entry))
}

/// Writes the file again next to the old one and swaps it in, so that no server reads half of it.
fn add(file: &Path, entry: &TokenEntry) -> anyhow::Result<()> {
    let mut all = match std::fs::read(file) {
        Ok(bytes) => TokenFile::parse(&bytes).map_err(anyhow::Error::msg)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => TokenFile::default(),
        Err(error) => return Err(error.into()),
    };
    anyhow::ensure!(
        all.tokens.iter().all(|known| known.name != entry.name),
        "there is a token '{}' already; choose another name",
        entry.name
    );
    all.tokens.push(entry.clone());
    let next = file.with_added_extension("next");
    let mut written = std::fs::File::create(&next)?;
    written.write_all(&serde_json::to_vec_pretty(&all)?)?;
    written.write_all(b"\n")?;
    written.sync_all()?;
    Ok(std::fs::rename(&next, file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_serving_would_not_read_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.json");
        let create = |name: &str, model: &str| {
            let models = vec![model.to_owned()];
            let (name, file) = (name.to_owned(), Some(file.clone()));
            super::create(Command::Create { name, models, expires_in_days: None, file })
        };
        assert!(create("", "points").unwrap_err().to_string().contains("tokens[0].name"));
        assert!(create("checkout", "").unwrap_err().to_string().contains("tokens[0].models"));
        assert!(!file.exists());
        create("checkout", "points").unwrap();
        assert!(TokenFile::parse(&std::fs::read(&file).unwrap()).unwrap().check().is_ok());
    }

    #[test]
    fn entries_are_added_to_the_file_and_names_are_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.json");
        let entry = |name: &str| TokenEntry {
            name: name.to_owned(),
            sha256: hex::encode(token_digest(name.as_bytes())),
            models: vec!["points".to_owned()],
            expires_at: None,
        };
        add(&file, &entry("one")).unwrap();
        add(&file, &entry("two")).unwrap();
        assert!(add(&file, &entry("one")).unwrap_err().to_string().contains("'one' already"));
        let read = TokenFile::parse(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(read.tokens, [entry("one"), entry("two")]);
        std::fs::write(&file, "{").unwrap();
        assert!(add(&file, &entry("three")).is_err(), "what is there is not written over");
    }
}
