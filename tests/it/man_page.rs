//! The man page, generated from the arguments of the command line. A test keeps the page in docs up to date.

use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use lowtide::cli::Cli;

const RENEW: &str = "LOWTIDE_WRITE_MAN=1 cargo test --test it man_page";

const DESCRIPTION: &str = "Reads the balances of CertCentral accounts on a schedule, compares them with the thresholds in one \
    YAML file, and alerts people in Slack, by email and elsewhere. lowtide run is the service; the other commands query it, \
    change it or try it out. The options of every command are listed at the end.";
/// Files on the page.
const FILES: [(&str, &str); 4] = [
    ("alerts.yaml", "The configuration, in the current folder or in /etc/lowtide. lowtide init writes one."),
    (
        "lowtide-state.json",
        "The state: beside the configuration or in $STATE_DIRECTORY, unless the key state names another file.",
    ),
    ("lowtide-state.json.lock", "Locked while a process owns the state."),
    ("lowtide-state.json.sock", "The socket on which status, health and silence reach the running service."),
];
const ENVIRONMENT: [(&str, &str); 4] = [
    (
        "LOWTIDE_*",
        "Overrides a key of the configuration, and replaces keys that exclude it. Two underscores separate levels: \
        LOWTIDE_UNREADABLE__AFTER.",
    ),
    ("RUST_LOG", "The log level, if neither --log-level nor LOWTIDE_LOG_LEVEL is set."),
    ("NO_COLOR", "Turns colours off if it is not empty."),
    (
        "HTTPS_PROXY, NO_PROXY",
        "The proxy for requests to any address but loopback, and the hosts that are reached without it: example.com, \
         *.example.com, example.com:8443, 10.0.0.0/8 or *, separated by commas.",
    ),
];

/// Renders the page: the program, then one section per command.
fn page() -> String {
    let program = Cli::command().disable_help_subcommand(true);
    let exit = program.get_after_help().unwrap().to_string();
    let man = Man::new(program.clone()).title("LOWTIDE").manual("lowtide manual");
    let mut out: Vec<u8> = Vec::new();
    man.render_title(&mut out).unwrap();
    man.render_name_section(&mut out).unwrap();
    let mut synopsis = section("SYNOPSIS");
    synopsis.text([bold("lowtide"), roman(" [OPTIONS] "), italic("COMMAND")]);
    let mut description = section("DESCRIPTION");
    description.text([roman(DESCRIPTION)]);
    for part in [synopsis, description, section("COMMANDS")] {
        out.extend(part.to_roff().bytes());
    }
    for command in program.get_subcommands() {
        commands(&mut out, "lowtide", command);
    }
    let mut common = Vec::new();
    man.render_options_section(&mut common).unwrap();
    out.extend(String::from_utf8(common).unwrap().replace(".SH OPTIONS", ".SH \"OPTIONS OF EVERY COMMAND\"").bytes());
    let mut exits = section("EXIT STATUS");
    for line in exit.lines() {
        let line = line.trim_start_matches("Exit codes: ").replace('`', "");
        exits.control("PP", []);
        exits.text([roman(line)]);
    }
    out.extend(exits.to_roff().bytes());
    out.extend(list("FILES", &FILES).to_roff().bytes());
    out.extend(list("ENVIRONMENT", &ENVIRONMENT).to_roff().bytes());
    close_together(&String::from_utf8(out).unwrap())
}

/// Removes the blank lines between the values of an option.
fn close_together(page: &str) -> String {
    let mut parts = page.split(".RS 14\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |page, part| format!("{page}.PD 0\n.RS 7\n{}", part.replacen(".RE\n", ".RE\n.PD\n", 1)))
}

fn section(title: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    roff
}

fn list(title: &str, terms: &[(&str, &str)]) -> Roff {
    let mut roff = section(title);
    for (term, text) in terms {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*text)]);
    }
    roff
}

/// Renders the sections of a command and its subcommands: usage, description and options.
fn commands(out: &mut Vec<u8>, parent: &str, command: &Command) {
    let name = format!("{parent} {}", command.get_name());
    if command.has_subcommands() {
        for below in command.get_subcommands() {
            // The common description is above the first subcommand.
            let first = command.get_subcommands().next().is_some_and(|first| first.get_name() == below.get_name());
            let about = command.get_long_about().or_else(|| command.get_about()).filter(|_| first);
            if let Some(about) = about {
                heading(out, &name, &about.to_string());
            }
            commands(out, &name, below);
        }
        return;
    }
    let mut command = command.clone().disable_help_flag(true).bin_name(&name);
    let usage = command.render_usage().to_string();
    let about = command.get_long_about().or_else(|| command.get_about()).unwrap().to_string();
    heading(out, usage.trim_start_matches("Usage: "), &about);
    if command.get_arguments().next().is_some() {
        let mut options = Vec::new();
        Man::new(command).render_options_section(&mut options).unwrap();
        out.extend(String::from_utf8(options).unwrap().replacen(".SH OPTIONS\n", "", 1).bytes());
    }
}

fn heading(out: &mut Vec<u8>, title: &str, about: &str) {
    let mut roff = Roff::new();
    roff.control("SS", [title]);
    for paragraph in about.split("\n\n") {
        roff.control("PP", []);
        roff.text([roman(paragraph.replace('\n', " "))]);
    }
    out.extend(roff.to_roff().bytes());
}

#[test]
fn the_page_in_docs_matches_the_arguments() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/lowtide.1");
    let page = page();
    if std::env::var_os("LOWTIDE_WRITE_MAN").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let saved = std::fs::read_to_string(path).unwrap_or_default();
    assert!(page == saved, "docs/lowtide.1 does not match the arguments; regenerate it with {RENEW}");
}

#[test]
fn every_command_and_every_option_is_on_the_page() {
    let page = page().replace("\\-", "-");
    let missing = missing(&page, "lowtide", &Cli::command().disable_help_subcommand(true));
    assert_eq!(missing, Vec::<String>::new());
}

fn missing(page: &str, name: &str, command: &Command) -> Vec<String> {
    let shown = |arg: &&Arg| !arg.is_hide_set();
    let options = command.get_arguments().filter(shown).filter_map(Arg::get_long).map(|long| format!("--{long}"));
    let mut missing: Vec<String> = options.chain([name.to_owned()]).filter(|word| !page.contains(word)).collect();
    for below in command.get_subcommands() {
        missing.extend(self::missing(page, &format!("{name} {}", below.get_name()), below));
    }
    missing
}
