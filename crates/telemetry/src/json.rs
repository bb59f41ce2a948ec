//! Log lines as JSON, with the service and the ids of the trace that the line belongs to.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::registry::LookupSpan;

/// One object per line.
#[derive(Debug)]
pub(crate) struct JsonLines {
    service: &'static str,
    inner: Format<Json>,
}

impl JsonLines {
    /// Lines of a service, e.g. `slipway-registry`.
    pub(crate) fn new(service: &'static str) -> Self {
        let inner = tracing_subscriber::fmt::format().json().flatten_event(true).with_current_span(true);
        Self { service, inner }
    }
}

impl<S> FormatEvent<S, JsonFields> for JsonLines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let open = line.trim_end().strip_suffix('}').ok_or(fmt::Error)?;
        write!(writer, "{open},\"service.name\":\"{}\"", self.service)?;
        // Spans that are entered are current there, too, whatever the filter of the log says of them.
        let span = Context::map_current(|context| context.span().span_context().clone());
        if span.is_valid() {
            write!(writer, ",\"trace_id\":\"{}\",\"span_id\":\"{}\"", span.trace_id(), span.span_id())?;
        }
        writer.write_str("}\n")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged with a filter, one line each.
    fn logged(filter: LevelFilter, log: impl FnOnce()) -> Vec<String> {
        let (sink, provider) = (Sink::default(), SdkTracerProvider::builder().build());
        let writer = sink.clone();
        let lines = tracing_subscriber::fmt::layer()
            .json()
            .event_format(JsonLines::new("slipway-test"))
            .with_writer(move || writer.clone());
        let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans);
        tracing::subscriber::with_default(subscriber, log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_names_the_service_and_the_trace_that_it_belongs_to() {
        const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        // Spans are at level INFO: a filter that leaves them out does not lose the trace.
        for filter in [LevelFilter::INFO, LevelFilter::WARN] {
            let lines = logged(filter, || {
                tracing::warn!("outside");
                let span = tracing::info_span!("request");
                crate::set_parent(&span, Some(PARENT));
                let _entered = span.enter();
                tracing::warn!(attempt = 3, "inside");
            });
            let [outside, inside] = lines.as_slice() else { panic!("{lines:?}") };
            assert!(outside.ends_with(",\"service.name\":\"slipway-test\"}"), "{outside}");
            let trace =
                ",\"service.name\":\"slipway-test\",\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\"";
            assert!(inside.contains(trace), "{inside}");
            let span = inside.rsplit_once(",\"span_id\":\"").unwrap().1.strip_suffix("\"}").unwrap();
            assert!(span.len() == 16 && span != "00f067aa0ba902b7", "{inside}");
            assert!(inside.starts_with('{') && inside.contains("\"attempt\":3"), "{inside}");
        }
    }
}
