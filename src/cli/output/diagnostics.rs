//! Problems of a configuration for people: the message, the line of the file with a mark, what is expected, and a suggestion.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::config::{ConfigProblem, ProblemSeverity};

/// Width of the text that is wrapped, in characters.
const WIDTH: usize = 90;
/// Longest expectation that fits behind the mark.
const MAX_LABEL_CHARS: usize = 60;

/// Renders a problem over several lines, without a line break at the end.
pub(crate) fn render(problem: &ConfigProblem, colour: bool) -> String {
    let level = match problem.severity {
        ProblemSeverity::Error => Level::ERROR,
        ProblemSeverity::Warning => Level::WARNING,
    };
    let label = Some(format!("expected {}", problem.expected)).filter(|_| !problem.expected.is_empty());
    let (label, note) = match label {
        Some(label) if problem.excerpt.is_some() && label.chars().count() <= MAX_LABEL_CHARS => (Some(label), None),
        label => (None, label),
    };
    let mut group: Group<'_> = level.primary_title(&problem.message).element(Origin::path(origin(problem)));
    if let Some((excerpt, line)) = problem.excerpt.as_ref().zip(problem.line) {
        let mark: Annotation<'_> = AnnotationKind::Primary.span(excerpt.marked.clone()).label(label);
        group = group.element(Snippet::source(&excerpt.text).line_start(line).annotation(mark));
    }
    group = group.elements(note.map(|note| Level::NOTE.message(wrapped(&note))));
    let help = problem.suggestion.as_ref().map(|near| format!("did you mean `{near}`?"));
    group = group.elements(help.map(|help| Level::HELP.message(help)));
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let rendered = renderer.decor_style(DecorStyle::Ascii).term_width(WIDTH + 20).render(&[group]);
    // The renderer announces a snippet without a path; the path is in the origin, with the column of the unmasked line.
    let is_announcement = |line: &&str| anstream::adapter::strip_str(line).to_string().trim() == ":::";
    rendered.lines().filter(|line| !is_announcement(line)).collect::<Vec<_>>().join("\n")
}

/// Returns the place and the key path, such as `alerts.yaml:7:13  accounts.acme.region`.
fn origin(problem: &ConfigProblem) -> String {
    let mut origin = problem.file.clone();
    for number in [problem.line, problem.column].into_iter().flatten() {
        origin.push_str(&format!(":{number}"));
    }
    if !problem.path.is_empty() {
        origin.push_str(&format!("  {}", problem.path));
    }
    origin
}

/// Breaks a text into lines of at most [`WIDTH`] characters, where its words allow it.
fn wrapped(text: &str) -> String {
    let (mut lines, mut length) = (String::new(), 0);
    for word in text.split(' ') {
        let width = word.chars().count();
        if length > 0 && length + 1 + width > WIDTH {
            lines.push('\n');
            length = 0;
        } else if length > 0 {
            lines.push(' ');
            length += 1;
        }
        lines.push_str(word);
        length += width;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load};

    /// Renders the errors of a file.
    fn rendered(yaml: &str, colour: bool) -> String {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let path = folder.path().join("alerts.yaml");
        std::fs::write(&path, yaml).unwrap_or_else(|error| panic!("{error}"));
        let problems = load(&path, &Environment::default()).config.err().unwrap_or_default();
        let all: Vec<String> = problems.iter().map(|problem| render(problem, colour)).collect();
        all.join("\n\n").replace(&format!("{}/", folder.path().display()), "")
    }

    const FILE: &str = "\
accounts:
  acme:
    api_key: hunter2-hunter2
    region: uk    # for now
notifiers:
  finance-slack:
    type: slack
    webhook_url: ${SLACK_WEBHOOK_URL}
  pki-slack:
    type: slack
    mention: { critical: \"<!here>\" }
rules:
  available-funds:
    metric: available_funds
    warning: { below: 2000 USDD }
    crit: { below: 500 }
    notify: [finance-slack]
";

    #[test]
    fn errors_are_shown_with_the_line_and_a_mark() {
        insta::assert_snapshot!(rendered(FILE, false), @"
    error: `uk` is not a region
     --> alerts.yaml:4:13  accounts.acme.region
      |
    4 |     region: uk
      |             ^^ expected us or eu

    error: environment variable SLACK_WEBHOOK_URL is not set
     --> alerts.yaml:8:18  notifiers.finance-slack.webhook_url
      |
    8 |     webhook_url: ${SLACK_WEBHOOK_URL}
      |                  ^^^^^^^^^^^^^^^^^^^^
      |
      = note: expected a variable that is set before lowtide starts (write `$$` for a dollar sign)

    error: missing required key `webhook_url`
     --> alerts.yaml:9:3  notifiers.pki-slack.webhook_url
      |
    9 |   pki-slack:
      |   ^^^^^^^^^ expected `webhook_url` or `webhook_url_file`

    error: `2000 USDD` has an unknown currency
      --> alerts.yaml:15:23  rules.available-funds.warning.below
       |
    15 |     warning: { below: 2000 USDD }
       |                       ^^^^^^^^^
       |
       = note: expected an amount and the ISO 4217 code of a currency, such as USD
       = help: did you mean `USD`?

    error: unknown key `crit`
      --> alerts.yaml:16:5  rules.available-funds.crit
       |
    16 |     crit: { below: … }
       |     ^^^^
       |
       = note: expected one of metric, within, confidence, warning, critical, clear_at, for,
               remind_every, notify, accounts, divisions, description, link
       = help: did you mean `critical`?
    ");
    }

    #[test]
    fn colours_are_ansi_sequences_and_change_no_text() {
        let coloured = rendered(FILE, true);
        assert!(coloured.contains("\u{1b}[") && !rendered(FILE, false).contains('\u{1b}'));
        assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), rendered(FILE, false));
    }
}
