//! `lowtide preview`: prints what a notification will look like, rendered by the same code as in the service. Sends and stores
//! nothing, and never reads or writes the state.

mod content;
mod target;

use std::collections::BTreeMap;

use serde::Serialize;

use self::content::PreviewContent;
use super::args::{OutputFormat, PreviewArgs};
use super::{CommandContext, Exit, print_json};
use crate::app;
use crate::cli::output::{print_error, print_line, write_stdout};
use crate::config::Config;
use crate::domain::Name;
use crate::notify::MessagePreview;
use crate::util::clock::{Clock, SystemClock};
use crate::util::text::{clean, nearest};

#[derive(Serialize)]
struct PreviewReport<'a> {
    event: &'a str,
    /// Set if the figures were read just now; otherwise they are samples.
    real: bool,
    notes: &'a [String],
    notifiers: BTreeMap<Name, MessagePreview>,
}

pub(super) async fn run(context: &CommandContext, args: &PreviewArgs) -> Exit {
    let config = match context.load_or_report() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    if let Err(exit) = check_names(&config, args) {
        return exit;
    }
    let routes = match app::build_routes(&config, &context.redactor) {
        Ok(routes) => routes,
        Err(error) => {
            print_error!("lowtide: {error:#}");
            return Exit::Failure;
        }
    };
    let now = SystemClock.now();
    let content = match content::build_content(&config, &context.redactor, args, now).await {
        Ok(content) => content,
        Err(exit) => return exit,
    };
    let shown = |name: &Name| match args.notifier.as_slice() {
        [] => content.notifiers.contains(name),
        names => names.iter().any(|selected| **selected == **name),
    };
    let routes = routes.into_iter().filter(|(name, _)| shown(name));
    let notifiers: BTreeMap<Name, MessagePreview> =
        routes.map(|(name, route)| (name.clone(), route.notifier.preview(&content.message(&name, now)))).collect();
    if let Err(exit) = write_html(args, &notifiers) {
        return exit;
    }
    match args.output {
        OutputFormat::Json => {
            let event = content::event_name(args.event);
            print_json(&PreviewReport { event, real: content.real, notes: &content.notes, notifiers });
        }
        OutputFormat::Text => print(args, &content, &notifiers),
    }
    Exit::Success
}

/// Reports every name that the configuration does not define; any of them is bad usage.
fn check_names(config: &Config, args: &PreviewArgs) -> Result<(), Exit> {
    let mut rules: Vec<&str> = config.rules.iter().map(|rule| rule.name.as_ref()).collect();
    rules.push(crate::domain::rule::UNREADABLE);
    let mut valid = true;
    valid &= args.rule.as_deref().is_none_or(|name| is_known("rule", name, &rules));
    let notifiers: Vec<&str> = config.notifiers.keys().map(AsRef::as_ref).collect();
    for name in &args.notifier {
        valid &= is_known("notifier", name, &notifiers);
    }
    let accounts: Vec<&str> = config.accounts.keys().map(AsRef::as_ref).collect();
    valid &= args.account.as_deref().is_none_or(|name| is_known("account", name, &accounts));
    if valid { Ok(()) } else { Err(Exit::Usage) }
}

/// Returns `true` if a name is known; otherwise prints an error that suggests a known one or lists them all.
pub(super) fn is_known(what: &str, name: &str, known: &[&str]) -> bool {
    let found = known.contains(&name);
    if !found {
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{}`?", clean(&near)),
            None => format!("there are {}", known.iter().map(|name| clean(name)).collect::<Vec<_>>().join(", ")),
        };
        print_error!("lowtide: no {what} is called `{}`; {hint}", clean(name));
    }
    found
}

/// Returns the HTML with its pictures embedded, so that the page is self-contained.
fn page(preview: &MessagePreview) -> Option<String> {
    let html = preview.html.clone()?;
    Some(preview.pictures.iter().fold(html, |html, (id, address)| html.replace(&format!("cid:{id}"), address)))
}

fn write_html(args: &PreviewArgs, notifiers: &BTreeMap<Name, MessagePreview>) -> Result<(), Exit> {
    let Some(file) = &args.html else { return Ok(()) };
    let pages: Vec<(&Name, String)> =
        notifiers.iter().filter_map(|(name, preview)| Some((name, page(preview)?))).collect();
    let ((_, page), same) = match pages.as_slice() {
        [] => {
            print_error!("lowtide: none of these notifiers sends HTML: name an email notifier with --notifier");
            return Err(Exit::Usage);
        }
        [first, rest @ ..] => (first, rest.iter().all(|(_, page)| *page == first.1)),
    };
    if !same {
        let names: Vec<String> = pages.iter().map(|(name, _)| clean(name)).collect();
        print_error!("lowtide: these notifiers send different HTML: choose one with --notifier: {}", names.join(", "));
        return Err(Exit::Usage);
    }
    std::fs::write(file, page).map_err(|error| {
        print_error!("lowtide: cannot write {}: {error}", file.display());
        Exit::Failure
    })
}

fn print(args: &PreviewArgs, content: &PreviewContent, notifiers: &BTreeMap<Name, MessagePreview>) {
    for note in &content.notes {
        print_line!("note: {}", clean(note));
    }
    if notifiers.is_empty() {
        print_line!("no notifier would get this");
    }
    for (name, preview) in notifiers {
        print_line!("\n==== {} ====", clean(name));
        if preview == &MessagePreview::default() {
            print_line!("(nothing is sent)");
        }
        part("subject", preview.subject.as_deref());
        part("text", preview.text.as_deref());
        match (&args.html, &preview.html) {
            (Some(file), Some(_)) => print_line!("\n-- html\nwritten to {}", file.display()),
            (_, html) => part("html", html.as_deref()),
        }
        let body = preview.body.as_ref().and_then(|body| serde_json::to_string_pretty(body).ok());
        part("body", body.as_deref());
    }
}

fn part(title: &str, text: Option<&str>) {
    if let Some(text) = text {
        write_stdout(&format!("\n-- {title}\n{}\n", text.trim_end_matches('\n')));
    }
}
