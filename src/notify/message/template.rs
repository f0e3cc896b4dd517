//! A notifier's own texts: what they may say, that they are sound before they are needed, and their bounds.
//!
//! Whatever a template does, a message goes out: the caller falls back on the built-in text. What the variables are is
//! `render::fields`'; nothing here sends or logs.

use std::collections::BTreeMap;
use std::io::{self, Write};

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, Output, State, UndefinedBehavior, Value};

use super::sample;
use crate::domain::Time;
use crate::notify::message::variables::{TemplateVariables, variables};
use crate::notify::{Message, MessageContext};

/// So many steps may one text take.
const MAX_STEPS: u64 = 500_000;
/// So long may one text get, in bytes.
const MAX_TEXT_BYTES: usize = 512 * 1024;

/// One text of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TemplatePart {
    /// A mail's subject.
    Subject,
    /// A Slack message.
    Slack,
    /// A mail's plain text.
    Text,
    /// A mail's HTML.
    Html,
}

impl TemplatePart {
    /// Every part, with its name in YAML.
    pub const ALL: [(TemplatePart, &'static str); 4] = [
        (TemplatePart::Subject, "subject"),
        (TemplatePart::Slack, "slack"),
        (TemplatePart::Text, "text"),
        (TemplatePart::Html, "html"),
    ];

    /// Its name in YAML.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(part, _)| *part == self).map_or("", |(_, name)| name)
    }
}

/// The texts of one notifier; each has been tried on a sample of every kind of message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Templates(BTreeMap<TemplatePart, String>);

/// What is wrong with a text, for people: where in it, and what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

impl From<Error> for TemplateError {
    fn from(error: Error) -> Self {
        let line = error.line().map(|line| format!("line {line} of the template: ")).unwrap_or_default();
        let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
        let problem = format!("{line}{}{detail}", error.kind());
        Self(crate::notify::message::cut(&crate::notify::message::flat(&problem), 200))
    }
}

impl Templates {
    /// Adds a text, or says what is wrong with it: its syntax, a variable that there is not, or what fails on a sample.
    pub fn add(&mut self, part: TemplatePart, source: &str) -> Result<(), TemplateError> {
        check(part, source)?;
        self.0.insert(part, source.to_owned());
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of a part of this message. `None`: the notifier has none of its own.
    pub fn render(
        &self,
        part: TemplatePart,
        message: &Message,
        context: &MessageContext,
    ) -> Option<Result<String, TemplateError>> {
        let source = self.0.get(&part)?;
        let rendered = render(part, source, &variables(message, context));
        Some(rendered.and_then(|text| if text.trim().is_empty() { Err(empty_text_error()) } else { Ok(text) }))
    }
}

/// The variables that a text may use.
pub fn variable_names() -> Vec<String> {
    let sample = sample::every_message(Time::UNIX_EPOCH).pop();
    let value = sample.and_then(|message| serde_json::to_value(variables(&message, &sample::context())).ok());
    value.and_then(|value| Some(value.as_object()?.keys().cloned().collect())).unwrap_or_default()
}

fn check(part: TemplatePart, source: &str) -> Result<(), TemplateError> {
    let environment = environment();
    let template = environment.template_from_named_str(part.name(), source)?;
    let known = variable_names();
    let mut unknown: Vec<String> = template.undeclared_variables(false).into_iter().collect();
    unknown.retain(|name| !known.contains(name) && environment.globals().all(|(global, _)| global != name));
    unknown.sort();
    if let Some(name) = unknown.first() {
        let near = crate::util::text::nearest(name, known.iter().map(String::as_str));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(TemplateError(format!("there is no variable `{name}`{hint}")));
    }
    let mut says_something = false;
    for message in sample::every_message(Time::UNIX_EPOCH) {
        says_something |= !render(part, source, &variables(&message, &sample::context()))?.trim().is_empty();
    }
    if says_something { Ok(()) } else { Err(empty_text_error()) }
}

fn render(part: TemplatePart, source: &str, variables: &TemplateVariables) -> Result<String, TemplateError> {
    let environment = environment();
    let mut out = BoundedOutput(Vec::new());
    let template = environment.template_from_named_str(part.name(), source)?;
    template.render_captured_to(Serde(variables), &mut out).map(drop).map_err(|error| {
        if out.0.len() >= MAX_TEXT_BYTES {
            TemplateError(format!("it gets longer than {MAX_TEXT_BYTES} bytes"))
        } else {
            error.into()
        }
    })?;
    String::from_utf8(out.0).map_err(|_| TemplateError("its text is not UTF-8".to_owned()))
}

fn empty_text_error() -> TemplateError {
    TemplateError("it says nothing".to_owned())
}

/// Strict: a variable or attribute that there is not is a mistake, never an empty text.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(MAX_STEPS));
    environment.set_auto_escape_callback(|name| match name {
        "html" => AutoEscape::Html,
        "slack" => AutoEscape::Custom("mrkdwn".into()),
        _ => AutoEscape::None,
    });
    environment.set_formatter(format_value);
    environment
}

/// What comes from outside is shown in Slack and not interpreted, unless the template says `|safe`.
fn format_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if *state.auto_escape() != AutoEscape::Custom("mrkdwn".into()) {
        return minijinja::escape_formatter(out, state, value);
    }
    let text = value.to_string();
    let text = if value.is_safe() { text } else { crate::notify::channels::slack::blocks::slack_template_value(&text) };
    out.write_str(&text).map_err(Error::from)
}

/// As much as fits.
struct BoundedOutput(Vec<u8>);

impl Write for BoundedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_TEXT_BYTES {
            self.0.resize(MAX_TEXT_BYTES, b' ');
            return Err(io::Error::other("too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::EventSubject;

    fn error_of(part: TemplatePart, source: &str) -> String {
        Templates::default().add(part, source).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn mistakes_are_found_before_the_text_is_needed() {
        assert_eq!(
            error_of(TemplatePart::Text, "{{ headline }} {% for it in events %}{{ it.amount }}{% endfor %}"),
            ""
        );
        assert_eq!(
            error_of(TemplatePart::Text, "a {% if range(3)|length > 2 and breakdown.balance %}b{% endif %}"),
            ""
        );
        for (source, expected) in [
            ("{{ headline", "line 1 of the template: syntax error"),
            ("a\n{% iff x %}", "line 2 of the template: syntax error"),
            ("{{ headlin }}", "there is no variable `headlin`; did you mean `headline`?"),
            ("{{ breakdown.blance }}", "undefined"),
            ("{{ headline|shout }}", "unknown filter"),
            ("{{ 1 // 0 }}", "unable to calculate"),
            ("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}", "fuel"),
            ("{% for a in range(9999) %}{{ 'xxxxxxxxxx' * 99 }}{% endfor %}", "longer than"),
            ("{% include 'x' %}", "syntax error"),
            ("{% if level == 'none' %}a{% endif %}", "it says nothing"),
        ] {
            let error = error_of(TemplatePart::Text, source);
            assert!(error.contains(expected), "{source}: {error}");
        }
    }

    #[test]
    fn every_variable_is_documented() {
        let docs = include_str!("../../../docs/templates.md");
        for name in variable_names() {
            assert!(docs.contains(&format!("| `{name}`")), "{name} is not in docs/templates.md");
        }
    }

    #[test]
    fn external_text_is_escaped_for_its_part() {
        let now = Time::UNIX_EPOCH;
        let target = sample::SampleTarget {
            account: "acme".into(),
            division: Some(7),
            division_name: Some("<!channel> & *b* <b>\"".to_owned()),
        };
        let subject: EventSubject = sample::unwatched(&target, Vec::new());
        let message = sample::message(vec![subject], now);
        let rendered = |part, source: &str| {
            let mut templates = Templates::default();
            templates.add(part, source).unwrap();
            templates.render(part, &message, &sample::context()).unwrap().unwrap()
        };
        assert_eq!(
            rendered(TemplatePart::Slack, "*{{ division }}*x <!here>"),
            "*&lt;!channel&gt; &amp; \u{2217}b\u{2217} &lt;b&gt;\"*x <!here>"
        );
        assert_eq!(
            rendered(TemplatePart::Html, "<i>{{ division }}x</i>"),
            "<i>&lt;!channel&gt; &amp; *b* &lt;b&gt;&quot;x</i>"
        );
        assert_eq!(rendered(TemplatePart::Text, "{{ division }}x"), "<!channel> & *b* <b>\"x");
    }
}
