//! `slipway audit`.

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use slipway_api::rest::registry::{AuditEntry, AuditOrder, AuditQuery};
use slipway_client::Registry;
use slipway_domain::audit::Walk;

use crate::commands::context::{Context, Paging};
use crate::output::{self, outln};

const ROWS_AT_ONCE: u32 = 1_000;

/// See `slipway audit --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists changes with their authors, newest first.
    List {
        /// Only changes by this principal.
        #[arg(long, value_name = "PRINCIPAL")]
        principal: Option<String>,
        /// Only changes of this kind of entity: run, experiment, logged-model, model, model-version, alias,
        /// artifact, token or grant.
        #[arg(long, value_name = "KIND")]
        entity: Option<String>,
        /// Only changes of this entity, e.g. churn/3 or churn@champion.
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        /// Only changes within this age, e.g. 30m, 24h, 7d.
        #[arg(long, value_name = "AGE", value_parser = age_ms)]
        since: Option<u64>,
        /// Only changes older than this age.
        #[arg(long, value_name = "AGE", value_parser = age_ms)]
        until: Option<u64>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Verifies the whole chain of hashes. Exit code 0 if it is intact; otherwise the error names the first
    /// wrong row.
    Verify {
        /// Anchor that an earlier run printed; verifies that the chain still contains it.
        #[arg(long, value_name = "ROW:HASH", value_parser = anchor)]
        anchor: Option<(i64, String)>,
    },
}

fn age_ms(text: &str) -> Result<u64, String> {
    let refuse = || format!("expected an age like 90s, 30m, 24h or 7d, got '{text}'");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(refuse)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 24 * 3_600,
        _ => return Err(refuse()),
    };
    let number: u64 = number.parse().map_err(|_| refuse())?;
    number.checked_mul(seconds * 1_000).ok_or_else(refuse)
}

fn anchor(text: &str) -> Result<(i64, String), String> {
    let refuse = || format!("expected <row>:<hash>, got '{text}'");
    let (row, hash) = text.split_once(':').ok_or_else(refuse)?;
    Ok((row.parse().map_err(|_| refuse())?, hash.to_lowercase()))
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let registry = context.registry()?;
    match command {
        Command::List { principal, entity, id, since, until, paging } => {
            let now_ms = slipway_runtime::clock::now_unix_ms();
            let at = |age_ms: Option<u64>| age_ms.map(|age_ms| now_ms.saturating_sub(age_ms).cast_signed());
            let page = paging.page();
            let query = AuditQuery {
                principal,
                entity,
                id,
                since: at(since),
                until: at(until),
                order: AuditOrder::Newest,
                limit: page.limit,
                page_token: page.page_token,
            };
            let answer = registry.audit(&query).await?;
            let columns = [
                ("ROW", "seq"),
                ("AT", "at_unix_ms"),
                ("WHO", "principal"),
                ("FROM", "origin"),
                ("KIND", "entity"),
                ("WHAT", "what"),
                ("WHICH", "id"),
                ("TRACE", "trace_id"),
            ];
            output::list(context.json, &answer, "audit", &columns);
        }
        Command::Verify { anchor } => verify(context, &registry, anchor).await?,
    }
    Ok(())
}

async fn verify(context: &Context, registry: &Registry, anchor: Option<(i64, String)>) -> anyhow::Result<()> {
    let mut walk = Walk::default();
    let mut query =
        AuditQuery { order: AuditOrder::Chain, limit: Some(ROWS_AT_ONCE), ..AuditQuery::default() };
    loop {
        let answer = registry.audit(&query).await?;
        for row in &answer.audit {
            step(&mut walk, row).context("the audit trail was changed")?;
            if let Some((seq, hash)) = &anchor
                && *seq == walk.seq()
                && *hash != hex::encode(walk.hash())
            {
                bail!("the audit trail was rewritten: row {seq} has another hash than the anchor");
            }
        }
        match answer.next_page_token {
            Some(next) => query.page_token = Some(next),
            None => {
                let hash = hex::decode(&answer.head.hash).context("the head has no hash")?;
                walk.end(answer.head.seq, &hash).context("the audit trail was changed")?;
                break;
            }
        }
    }
    if let Some((seq, _)) = anchor.filter(|(seq, _)| *seq > walk.seq()) {
        bail!("the audit trail was cut: it ends before row {seq}");
    }
    let (rows, hash) = (walk.seq(), hex::encode(walk.hash()));
    if context.json {
        output::json(&json!({"rows": rows, "hash": hash}));
    } else {
        outln!(
            "{rows} rows, chain intact; to verify later that it still contains them: --anchor {rows}:{hash}"
        );
    }
    Ok(())
}

fn step(walk: &mut Walk, row: &AuditEntry) -> anyhow::Result<()> {
    let (seq, hash) = (row.seq, hex::decode(&row.hash).context("a row without a hash")?);
    let record = row.record.as_deref().context("a row without its record")?;
    let row = output::value_of(row);
    // The line that is hashed has to be the row that is shown.
    let fields: Vec<Value> = serde_json::from_str(record).context("a record that does not parse")?;
    let shown = [
        "seq",
        "event_id",
        "at_unix_ms",
        "principal",
        "credential",
        "origin",
        "trace_id",
        "entity",
        "what",
        "id",
    ];
    if shown.iter().zip(&fields).any(|(name, field)| row[*name] != *field) {
        bail!("row {seq}: its record differs from its fields");
    }
    Ok(walk.next(seq, record, &hash)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_anchors_are_read() {
        assert_eq!(age_ms("24h"), Ok(86_400_000));
        for wrong in ["", "h", "5", "-1h", "5w", "9999999999999999999d"] {
            assert!(age_ms(wrong).is_err(), "{wrong}");
        }
        assert_eq!(anchor("3:AB"), Ok((3, "ab".to_owned())));
        assert!(anchor("3").is_err() && anchor("x:ab").is_err());
    }
}
