//! `lowtide preview`: what a notification will look like, by the very rendering that the service uses. Sends nothing,
//! stores nothing, and never touches the state.

mod content;

use std::collections::BTreeMap;

use serde::Serialize;

use self::content::Scene;
use super::args::{Output, Preview as Options};
use super::{Context, Exit, print_json};
use crate::app;
use crate::cli::output::{grumble, put, say};
use crate::config::Config;
use crate::domain::Name;
use crate::notify::Preview;
use crate::util::clock::{Clock, SystemClock};
use crate::util::text::{clean, nearest};

#[derive(Serialize)]
struct Outcome<'a> {
    event: &'a str,
    /// Whether the figures were read just now; otherwise they are samples.
    real: bool,
    notes: &'a [String],
    notifiers: BTreeMap<Name, Preview>,
}

pub(super) async fn run(context: &Context, options: &Options) -> Exit {
    let config = match context.load_or_report() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    if let Err(exit) = names_exist(&config, options) {
        return exit;
    }
    let desks = match app::notifiers(&config, &context.redactor) {
        Ok(desks) => desks,
        Err(error) => {
            grumble!("lowtide: {error:#}");
            return Exit::Failure;
        }
    };
    let now = SystemClock.now();
    let scene = match content::scene(&config, &context.redactor, options, now).await {
        Ok(scene) => scene,
        Err(exit) => return exit,
    };
    let shown = |name: &Name| match options.notifier.as_slice() {
        [] => scene.audience.contains(name),
        asked => asked.iter().any(|it| **it == **name),
    };
    let desks = desks.into_iter().filter(|(name, _)| shown(name));
    let notifiers: BTreeMap<Name, Preview> =
        desks.map(|(name, desk)| (name.clone(), desk.notifier.preview(&scene.message(&name, now)))).collect();
    if let Err(exit) = write_html(options, &notifiers) {
        return exit;
    }
    match options.output {
        Output::Json => {
            let event = content::name(options.event);
            print_json(&Outcome { event, real: scene.real, notes: &scene.notes, notifiers });
        }
        Output::Text => print(options, &scene, &notifiers),
    }
    Exit::Success
}

/// Every name that nothing defines is bad usage, and all of them are told at once.
fn names_exist(config: &Config, options: &Options) -> Result<(), Exit> {
    let mut rules: Vec<&str> = config.rules.iter().map(|rule| rule.name.as_ref()).collect();
    rules.push(crate::domain::rule::UNREADABLE);
    let mut good = true;
    good &= options.rule.as_deref().is_none_or(|name| is_known("rule", name, &rules));
    let notifiers: Vec<&str> = config.notifiers.keys().map(AsRef::as_ref).collect();
    for name in &options.notifier {
        good &= is_known("notifier", name, &notifiers);
    }
    let accounts: Vec<&str> = config.accounts.keys().map(AsRef::as_ref).collect();
    good &= options.account.as_deref().is_none_or(|name| is_known("account", name, &accounts));
    if good { Ok(()) } else { Err(Exit::Usage) }
}

/// Whether a name is one of these; otherwise it is told which there are.
pub(super) fn is_known(what: &str, name: &str, known: &[&str]) -> bool {
    let found = known.contains(&name);
    if !found {
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{}`?", clean(&near)),
            None => format!("there are {}", known.iter().map(|name| clean(name)).collect::<Vec<_>>().join(", ")),
        };
        grumble!("lowtide: no {what} is called `{}`; {hint}", clean(name));
    }
    found
}

/// The HTML as a page that stands alone: its pictures are inside.
fn page(preview: &Preview) -> Option<String> {
    let html = preview.html.clone()?;
    Some(preview.pictures.iter().fold(html, |html, (id, address)| html.replace(&format!("cid:{id}"), address)))
}

fn write_html(options: &Options, notifiers: &BTreeMap<Name, Preview>) -> Result<(), Exit> {
    let Some(file) = &options.html else { return Ok(()) };
    let pages: Vec<(&Name, String)> =
        notifiers.iter().filter_map(|(name, preview)| Some((name, page(preview)?))).collect();
    let ((_, page), same) = match pages.as_slice() {
        [] => {
            grumble!("lowtide: none of these notifiers sends HTML: name an e-mail notifier with --notifier");
            return Err(Exit::Usage);
        }
        [first, rest @ ..] => (first, rest.iter().all(|(_, page)| *page == first.1)),
    };
    if !same {
        let names: Vec<String> = pages.iter().map(|(name, _)| clean(name)).collect();
        grumble!("lowtide: these notifiers send different HTML: choose one with --notifier: {}", names.join(", "));
        return Err(Exit::Usage);
    }
    std::fs::write(file, page).map_err(|error| {
        grumble!("lowtide: {} cannot be written: {error}", file.display());
        Exit::Failure
    })
}

fn print(options: &Options, scene: &Scene, notifiers: &BTreeMap<Name, Preview>) {
    for note in &scene.notes {
        say!("note: {}", clean(note));
    }
    if notifiers.is_empty() {
        say!("nobody would be told of this");
    }
    for (name, preview) in notifiers {
        say!("\n==== {} ====", clean(name));
        if preview == &Preview::default() {
            say!("(nothing is sent)");
        }
        part("subject", preview.subject.as_deref());
        part("text", preview.text.as_deref());
        match (&options.html, &preview.html) {
            (Some(file), Some(_)) => say!("\n-- html\nwritten to {}", file.display()),
            (_, html) => part("html", html.as_deref()),
        }
        let body = preview.body.as_ref().and_then(|body| serde_json::to_string_pretty(body).ok());
        part("body", body.as_deref());
    }
}

fn part(title: &str, text: Option<&str>) {
    if let Some(text) = text {
        put(&format!("\n-- {title}\n{}\n", text.trim_end_matches('\n')));
    }
}
