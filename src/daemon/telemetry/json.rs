//! A log line as a JSON object: what the line says, and beside it what the spans around it say, so that
//! `select(.session == "ses_…")` finds each line that has to do with a session.

use std::fmt;

use serde_json::{Map, Value};
use tracing::{Event, Subscriber, field::Field};
use tracing_subscriber::{
    field::Visit,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::{JsonFields, Writer},
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// One flat object a line.
pub(super) struct Json;

/// How the fields of spans are kept for [`Json`].
pub(super) fn fields() -> JsonFields {
    JsonFields::new()
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        // The inner span knows better.
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                line.add(serde_json::from_str(&fields.fields).unwrap_or_default());
            }
        }
        let metadata = event.metadata();
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        write!(writer, r#"{{"timestamp":"{time}","level":"{}""#, metadata.level())?;
        for (name, value) in &line.fields {
            write!(writer, ",{}:{value}", Value::from(name.as_str()))?;
        }
        writeln!(writer, r#","target":{}}}"#, Value::from(metadata.target()))
    }
}

/// The fields of a line, in order.
#[derive(Default)]
struct Line {
    fields: Vec<(String, Value)>,
}

impl Line {
    /// What a span says, but for what was said already.
    fn add(&mut self, fields: Map<String, Value>) {
        for (name, value) in fields {
            self.put(&name, value);
        }
    }

    fn put(&mut self, name: &str, value: Value) {
        let is_own = matches!(name, "timestamp" | "level" | "target");
        if !is_own && self.fields.iter().all(|(known, _)| known != name) {
            self.fields.push((name.to_owned(), value));
        }
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}").into());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::{fmt, layer::SubscriberExt as _};

    use super::*;

    /// What a log has written.
    #[derive(Clone, Default)]
    pub(in super::super) struct Lines(pub(in super::super) Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_flat_object() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().event_format(Json).fmt_fields(fields()).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let call = tracing::error_span!("call", method = "GetSession", session = "outer", level = "high");
            let _call = call.enter();
            let _inner =
                tracing::error_span!("exchange", session = "inner", nothing = None::<&str>).entered();
            tracing::warn!(attempt = 2, text = "a \"quote\"\n", flag = true, error = ?Some(1), "what happened");
            call.record("method", "another");
            tracing::info!(session = "own", "again");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut first = lines[0].clone();
        let time = first.as_object_mut().unwrap().remove("timestamp").unwrap();
        assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
        let target = "cairld::daemon::telemetry::json::tests";
        assert_eq!(
            first,
            serde_json::json!({
                "level": "WARN", "message": "what happened", "attempt": 2, "text": "a \"quote\"\n", "flag": true,
                "error": "Some(1)", "session": "inner", "method": "GetSession", "target": target,
            })
        );
        assert_eq!((&lines[1]["session"], &lines[1]["method"]), (&"own".into(), &"another".into()));
        assert!(text.starts_with(r#"{"timestamp":""#) && text.ends_with("\"}\n"), "{text}");
    }
}
