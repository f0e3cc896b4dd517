//! `lowtide test-notify`: sends one marked test message through each notifier, without retries, fallback or state.

use std::collections::BTreeMap;

use serde::Serialize;

use super::args::OutputFormat;
use super::{CommandContext, Exit, print_json};
use crate::app;
use crate::cli::output::{print_error, print_line};
use crate::domain::Name;
use crate::notify::delivery::Route;
use crate::notify::{Message, MessageContent};
use crate::util::clock::{Clock, SystemClock};
use crate::util::text::clean;

#[derive(Serialize)]
struct NotifierTestResult {
    notifier: Name,
    delivered: bool,
    /// Reason of a failure, `null` after a success.
    detail: Option<String>,
}

pub(super) async fn run(context: &CommandContext, names: &[String], output: OutputFormat) -> Exit {
    let config = match context.load_or_report() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let unknown: Vec<&String> = names.iter().filter(|name| !config.notifiers.contains_key(name.as_str())).collect();
    if !unknown.is_empty() {
        let known = config.notifiers.keys().map(|name| clean(name)).collect::<Vec<_>>().join(", ");
        for name in unknown {
            print_error!("lowtide: no notifier is called `{}`; there are {known}", clean(name));
        }
        return Exit::Usage;
    }
    let routes = match app::build_routes(&config, &context.redactor) {
        Ok(routes) => routes,
        Err(error) => {
            print_error!("lowtide: {error:#}");
            return Exit::Failure;
        }
    };
    let selected: BTreeMap<Name, Route> =
        routes.into_iter().filter(|(name, _)| names.is_empty() || names.iter().any(|one| **one == **name)).collect();
    let sends = selected.into_iter().map(|(name, route)| send(name, route));
    let outcomes = futures_util::future::join_all(sends).await;
    match output {
        OutputFormat::Json => print_json(&outcomes),
        OutputFormat::Text => outcomes.iter().for_each(|outcome| {
            let result = if outcome.delivered { "delivered" } else { "FAILED" };
            let detail = outcome.detail.as_ref().map_or_else(String::new, |detail| format!(": {}", clean(detail)));
            print_line!("{}: {result}{detail}", clean(&outcome.notifier));
        }),
    }
    if outcomes.iter().all(|outcome| outcome.delivered) { Exit::Success } else { Exit::Failure }
}

/// Sends a test message. It counts as delivered only if every recipient accepted it.
async fn send(notifier: Name, route: Route) -> NotifierTestResult {
    let at = SystemClock.now();
    // Several tests may go to the same mailbox at the same time, and mailboxes keep only one email per Message-ID.
    let id = format!("test-{:032x}", rand::random::<u128>());
    let content = MessageContent::Test { notifier: notifier.clone() };
    let message = Message { id, at, content, references: Vec::new(), remaining_recipients: None };
    match route.notifier.send(&message).await {
        Ok(delivered) => {
            let missed = delivered.deferred.iter().chain(&delivered.refused);
            let missed: Vec<String> =
                missed.map(|refused| format!("{} was refused: {}", refused.recipient, refused.reason)).collect();
            let detail = (!missed.is_empty()).then(|| missed.join("; "));
            NotifierTestResult { notifier, delivered: detail.is_none(), detail }
        }
        Err(error) => NotifierTestResult { notifier, delivered: false, detail: Some(error.reason) },
    }
}
