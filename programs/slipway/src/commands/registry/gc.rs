//! `slipway registry gc`.

use clap::Args;
use serde_json::json;
use slipway_api::rest::registry::CollectionRequest;

use crate::commands::context::Context;
use crate::output::{self, outln};

/// Options of the garbage collection.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Only objects that have been unreferenced for N hours. Below 24, uploads in progress may have to be
    /// repeated.
    #[arg(long, value_name = "N", default_value_t = 24)]
    grace_hours: u64,
    /// Only shows what would be deleted (the default).
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Deletes the unreferenced objects.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let client = context.registry()?;
    let mut request = CollectionRequest {
        dry_run: Some(!options.yes),
        grace_s: Some(options.grace_hours.saturating_mul(3_600)),
        ..CollectionRequest::default()
    };
    let (mut examined, mut loose, mut size_bytes, mut orphans) = (0, 0, 0, 0_u64);
    loop {
        let part = client.collect(&request).await?;
        examined += part.examined;
        loose += part.loose;
        size_bytes += part.size_bytes;
        for orphan in part.orphans {
            orphans += 1;
            if !context.json {
                outln!("{}  {} bytes, orphaned", orphan.key, orphan.size_bytes);
            }
        }
        request.page_token = part.next_page_token;
        if request.page_token.is_none() {
            break;
        }
    }
    if context.json {
        let answer = json!({"dry_run": !options.yes, "examined": examined, "loose": loose, "orphans": orphans,
            "size_bytes": size_bytes});
        output::json(&answer);
        return Ok(());
    }
    let verb = if options.yes { "freed" } else { "would be freed" };
    outln!(
        "{} {verb}: {loose} unreferenced and {orphans} orphaned objects, of {examined} in the bucket",
        output::size(size_bytes)
    );
    if !options.yes && size_bytes > 0 {
        outln!("run again with --yes to free them");
    }
    Ok(())
}
