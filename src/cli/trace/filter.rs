//! The filter options of `rrapper trace`.

use crate::cli::filter_args;
use crate::inject::Selector;
use crate::trace_report::Filter;

#[derive(clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Only entries of this process or thread; may be repeated
    #[arg(long, value_name = "PID")]
    pid: Vec<i32>,
    /// Only these calls: a name, a list (read,write), a class (%file), or !name
    #[arg(long, value_name = "CALLS")]
    call: Option<String>,
    /// Only calls of this class: %file, %desc, %network, and the others of strace's
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Only calls that use a matching path, by name or by descriptor; a shell pattern
    #[arg(long, value_name = "GLOB")]
    path: Option<String>,
    /// Only failed calls, or calls that failed with this errno
    #[arg(long, value_name = "ERRNO", num_args = 0..=1, require_equals = true)]
    failed: Option<Option<String>>,
}

impl Args {
    /// The filter. Each trace needs another one, since it follows descriptors.
    pub fn filter(&self) -> anyhow::Result<Filter> {
        let class = self
            .class
            .as_ref()
            .map(|class| match class.strip_prefix('%') {
                Some(_) => class.clone(),
                None => format!("%{class}"),
            });
        let selectors = [self.call.as_deref(), class.as_deref()];
        let selectors = selectors.into_iter().flatten().map(Selector::parse);
        let selectors = selectors.collect::<Result<Vec<Selector>, _>>()?;
        let mut filter = Filter {
            pids: self.pid.clone(),
            failed: filter_args::failed(self.failed.as_ref())?,
            ..Filter::default()
        };
        if !selectors.is_empty() {
            filter.calls = Some(Box::new(move |name| {
                selectors.iter().all(|selector| selector.matches_name(name))
            }));
        }
        if let Some(text) = &self.path {
            filter.path = Some(filter_args::path(text)?);
        }
        Ok(filter)
    }
}
