//! What is logged, which may change while the process runs.

use std::fmt::Debug;
use std::sync::OnceLock;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::debug_fn;

use crate::escape;

/// Parts of libraries whose lines at INFO come only where the filter names them: what the NATS client says of
/// its connection is logged in our own words, and Postgres sends a notice for each `IF NOT EXISTS` that had
/// nothing to do.
const QUIET: [&str; 2] = ["async_nats", "sqlx::postgres::notice"];

/// Replaces the filter of the log.
type Replace = Box<dyn Fn(EnvFilter) -> anyhow::Result<()> + Send + Sync>;

static FILTER: OnceLock<Replace> = OnceLock::new();

pub(crate) fn replace_by(replace: Replace) {
    // Set twice only where telemetry is, which is an error of its own.
    let _ = FILTER.set(replace);
}

/// Reads a filter, e.g. `info,slipway=debug`.
///
/// [`QUIET`] is a part of the filter, because a second filter next to one that can be reloaded keeps spans
/// from the layers next to it.
///
/// # Errors
/// It does not parse, or has a bare word that is no level: read as the name of a library, a mistyped level
/// would end the log.
pub(crate) fn parse(filter: &str) -> anyhow::Result<EnvFilter> {
    if let Some(word) = bare_words(filter).find(|word| word.parse::<LevelFilter>().is_err()) {
        anyhow::bail!(
            "the log filter `{filter}` has `{word}`, which is not a level; expected off, error, warn, info, \
             debug or trace, and for a part of the program PART=LEVEL, such as hyper=debug"
        );
    }
    let parsed =
        EnvFilter::try_new(filter).with_context(|| format!("the log filter `{filter}` does not parse"))?;
    if parsed.max_level_hint().is_some_and(|level| level < LevelFilter::INFO) {
        return Ok(parsed);
    }
    let mut unnamed = QUIET.into_iter().filter(|part| {
        let library = part.split(':').next().unwrap_or_default();
        !filter.contains(library)
    });
    unnamed.try_fold(parsed, |parsed, part| Ok(parsed.add_directive(format!("{part}=warn").parse()?)))
}

/// What a filter says of all that it does not name.
fn bare_words(filter: &str) -> impl Iterator<Item = &str> {
    // Within brackets stand spans and their fields.
    let directives = filter.split(',').filter(|_| !filter.contains('['));
    directives.map(str::trim).filter(|directive| !directive.is_empty() && !directive.contains('='))
}

/// Logs what a filter lets through, e.g. `info,slipway=debug`, from now on.
///
/// # Errors
/// It does not parse, or this process has no log of its own.
pub fn set_filter(filter: &str) -> anyhow::Result<()> {
    let parsed = parse(filter)?;
    let replace = FILTER.get().context("this process cannot change its log filter")?;
    replace(parsed)
}

/// Fields of a line for people: one line, and nothing that a terminal obeys.
pub(crate) fn fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    debug_fn(|writer, field, value: &dyn Debug| {
        let text = format!("{value:?}");
        let text = escape::one_line(&text);
        match field.name() {
            "message" => write!(writer, "{text}"),
            // Where a line of the `log` crate came from, which the line has already.
            name if name.starts_with("log.") => Ok(()),
            name => write!(writer, "{}={text}", name.trim_start_matches("r#")),
        }
    })
    .delimited(" ")
}

/// Standard error for lines of JSON. The subscriber writes each line with one call.
#[derive(Debug, Default)]
pub(crate) struct EscapedJson;

impl std::io::Write for EscapedJson {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        std::io::stderr().write_all(escape::json(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nats_client_is_heard_where_it_is_asked_for() {
        let shown = |filter: &str| parse(filter).unwrap().to_string();
        assert!(shown("info").contains("async_nats=warn"));
        assert!(shown("debug,slipway_serving=trace").contains("async_nats=warn"));
        assert!(shown("info,async_nats=debug").contains("async_nats=debug"));
        // Less than that is less of everything.
        assert!(!shown("error").contains("async_nats") && !shown("off").contains("async_nats"));
        assert!(parse("info,=").unwrap_err().to_string().contains("`info,=`"));
    }

    #[test]
    fn a_mistyped_level_is_refused() {
        for filter in ["bogus", "warning", "info,slipway_serving", "inf,slipway=debug", "slipway=loud"] {
            assert!(parse(filter).is_err(), "{filter}");
        }
        assert!(
            parse("bogus").unwrap_err().to_string().contains("`bogus`, which is not a level; expected off,")
        );
        for filter in ["", "off", "INFO", "info,hyper=debug", "info,[request]=debug"] {
            assert!(parse(filter).is_ok(), "{filter}");
        }
    }

    /// What a subscriber with our fields writes.
    fn logged(log: impl FnOnce()) -> String {
        use std::sync::{Arc, Mutex};
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&written);
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(fields())
            .with_ansi(false)
            .without_time()
            .with_writer(move || Sink(Arc::clone(&sink)))
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = written.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    struct Sink(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_users_wrote_cannot_forge_a_line_of_the_log() {
        let name = "m\n2026-01-01 ERROR forged\u{1b}]52;c;eA==\u{7}\u{9b}2J\u{202e}\r";
        let line = logged(|| {
            let span = tracing::info_span!("request", model = %name);
            let _entered = span.enter();
            tracing::info!(display = %name, debug = ?name, plain = name, count = 3, "registered {name}");
        });
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        let is_safe = |character: char| !character.is_control() && character != '\u{202e}';
        assert!(line.trim_end().chars().all(is_safe), "{line:?}");
        let escaped = "m\\n2026-01-01 ERROR forged\\x1b]52;c;eA==\\x07\\x9b2J\\u{202e}\\r";
        for expected in
            [format!("registered {escaped} "), format!("display={escaped}"), format!("model={escaped}")]
        {
            assert!(line.contains(&expected), "{line}");
        }
        assert!(line.contains("count=3"), "{line}");
    }
}
