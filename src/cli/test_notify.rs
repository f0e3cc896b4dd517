//! `lowtide test-notify`: one clearly marked test message through each notifier; no retries, no fallback, no state.

use std::collections::BTreeMap;

use serde::Serialize;

use super::args::Output;
use super::{Context, Exit, print_json};
use crate::app;
use crate::cli::output::{grumble, say};
use crate::domain::Name;
use crate::notify::delivery::Desk;
use crate::notify::{Content, Message};
use crate::util::clock::{Clock, SystemClock};
use crate::util::text::clean;

#[derive(Serialize)]
struct Outcome {
    notifier: Name,
    delivered: bool,
    /// What went wrong.
    detail: Option<String>,
}

pub(super) async fn run(context: &Context, names: &[String], output: Output) -> Exit {
    let config = match context.load_or_report() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let unknown: Vec<&String> = names.iter().filter(|name| !config.notifiers.contains_key(name.as_str())).collect();
    if !unknown.is_empty() {
        let known = config.notifiers.keys().map(|name| clean(name)).collect::<Vec<_>>().join(", ");
        for name in unknown {
            grumble!("lowtide: no notifier is called `{}`; there are {known}", clean(name));
        }
        return Exit::Usage;
    }
    let desks = match app::notifiers(&config, &context.redactor) {
        Ok(desks) => desks,
        Err(error) => {
            grumble!("lowtide: {error:#}");
            return Exit::Failure;
        }
    };
    let wanted: BTreeMap<Name, Desk> =
        desks.into_iter().filter(|(name, _)| names.is_empty() || names.iter().any(|it| **it == **name)).collect();
    let sends = wanted.into_iter().map(|(name, desk)| send(name, desk));
    let outcomes = futures_util::future::join_all(sends).await;
    match output {
        Output::Json => print_json(&outcomes),
        Output::Text => outcomes.iter().for_each(|it| {
            let result = if it.delivered { "delivered" } else { "FAILED" };
            let detail = it.detail.as_ref().map_or_else(String::new, |detail| format!(": {}", clean(detail)));
            say!("{}: {result}{detail}", clean(&it.notifier));
        }),
    }
    if outcomes.iter().all(|it| it.delivered) { Exit::Success } else { Exit::Failure }
}

/// A test is delivered only if every recipient took it.
async fn send(notifier: Name, desk: Desk) -> Outcome {
    let at = SystemClock.now();
    // Tests of one moment may go to the same mailbox, which keeps one mail of several with the same Message-ID.
    let id = format!("test-{:032x}", rand::random::<u128>());
    let content = Content::Test { notifier: notifier.clone() };
    let message = Message { id, at, content, references: Vec::new(), only: None };
    match desk.notifier.send(&message).await {
        Ok(delivered) => {
            let missed = delivered.deferred.iter().chain(&delivered.refused);
            let missed: Vec<String> = missed.map(|it| format!("{} was refused: {}", it.recipient, it.reason)).collect();
            let detail = (!missed.is_empty()).then(|| missed.join("; "));
            Outcome { notifier, delivered: detail.is_none(), detail }
        }
        Err(error) => Outcome { notifier, delivered: false, detail: Some(error.reason) },
    }
}
