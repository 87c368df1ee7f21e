//! rrapper's messages while it works: warnings as sentences, or with `-v` and `RRAPPER_LOG` a log.

use super::output;
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Begins to print messages on standard error. `verbose` is the number of `-v`.
pub(super) fn start(verbose: u8, quiet: bool) {
    let filter = match std::env::var("RRAPPER_LOG") {
        Ok(wanted) if !wanted.is_empty() => match EnvFilter::try_new(&wanted) {
            Ok(filter) => filter,
            Err(error) => {
                output::complain(format!(
                    "RRAPPER_LOG={wanted} is not understood, and ignored: {error}"
                ));
                return;
            }
        },
        _ => EnvFilter::new(match verbose {
            0 if quiet => return,
            0 => return warnings(),
            1 => "rrapper=info",
            2 => "rrapper=debug",
            _ => "rrapper=trace",
        }),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

fn warnings() {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("rrapper=warn"))
        .with_writer(std::io::stderr)
        .event_format(Sentence)
        .init();
}

/// Formats log events like other messages.
struct Sentence;

impl<S, N> FormatEvent<S, N> for Sentence
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut message = Message::default();
        event.record(&mut message);
        writeln!(writer, "rrapper: {}", output::lines(&message.0))
    }
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
