//! Custom templates of a notifier: checked on load, rendered within limits.
//!
//! The caller uses the built-in text if a template fails, so that every message goes out. `variables` makes the variables;
//! nothing here sends or logs.

use std::collections::BTreeMap;
use std::io::{self, Write};

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};

use super::{cut, flat, sample};
use crate::domain::Time;
use crate::notify::channels::email::html;
use crate::notify::channels::slack::blocks::slack_template_value;
use crate::notify::message::variables::{TemplateVariables, variables};
use crate::notify::{Message, MessageContent, MessageContext};

/// Maximum number of steps for rendering one template.
const MAX_STEPS: u64 = 500_000;
/// Maximum length of a rendered text, in bytes.
const MAX_TEXT_BYTES: usize = 512 * 1024;

/// Maximum length of an error.
const MAX_ERROR_CHARS: usize = 200;

/// Part of a message that a template can replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TemplatePart {
    /// Subject of an email.
    Subject,
    /// Text of a Slack message.
    Slack,
    /// Plain text of an email.
    Text,
    /// HTML part of an email.
    Html,
}

impl TemplatePart {
    /// All parts, each with its name in YAML.
    pub const ALL: [(TemplatePart, &'static str); 4] = [
        (TemplatePart::Subject, "subject"),
        (TemplatePart::Slack, "slack"),
        (TemplatePart::Text, "text"),
        (TemplatePart::Html, "html"),
    ];

    /// Returns the name of the part in YAML.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(part, _)| *part == self).map_or("", |(_, name)| name)
    }
}

/// Templates of one notifier. Each has been rendered with a sample of every kind of message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Templates(BTreeMap<TemplatePart, String>);

/// Error in a template, for people to read, with its position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

impl From<Error> for TemplateError {
    fn from(error: Error) -> Self {
        let line = error.line().map(|line| format!("line {line} of the template: ")).unwrap_or_default();
        let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
        let undefined = (error.kind() == ErrorKind::UndefinedError).then(|| failing_expression(&error)).flatten();
        let problem = match undefined {
            Some(expression) => format!("{line}`{expression}` is undefined"),
            None => format!("{line}{}{detail}", error.kind()),
        };
        Self(cut(&flat(&problem), MAX_ERROR_CHARS))
    }
}

/// Returns the source of the expression that failed.
fn failing_expression(error: &Error) -> Option<&str> {
    error.template_source()?.get(error.range()?)
}

impl Templates {
    /// Adds a template, or returns its error: in its syntax, a variable name, or the rendering of a sample.
    pub fn add(&mut self, part: TemplatePart, source: &str) -> Result<(), TemplateError> {
        check(part, source)?;
        self.0.insert(part, source.to_owned());
        Ok(())
    }

    /// Returns true if the notifier has no templates.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if the templates are used for this message. Test messages and reports always use the built-in text: a test
    /// must be recognisable, and templates are written for alerts.
    pub(in crate::notify) fn apply_to(&self, message: &Message) -> bool {
        match &message.content {
            MessageContent::Events(items) => !self.is_empty() && items.iter().all(|it| it.event.report().is_none()),
            MessageContent::Test { .. } => false,
        }
    }

    /// Renders a part of this message. Returns `None` if the notifier has no template for it.
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

/// Returns the names of all variables of templates.
pub fn variable_names() -> Vec<String> {
    let sample = sample::every_message(Time::UNIX_EPOCH).pop();
    let value = sample.and_then(|message| serde_json::to_value(variables(&message, &sample::context())).ok());
    value.and_then(|value| Some(value.as_object()?.keys().cloned().collect())).unwrap_or_default()
}

/// Returns the note about failed templates that is added to a message. `None` if there are no failures.
pub(in crate::notify) fn failure_note(failures: &[String]) -> Option<String> {
    let all = failures.join("; ");
    (!failures.is_empty()).then(|| format!("A template of this notifier failed, so the built-in text is used: {all}"))
}

/// Returns a rendered text without control characters, except line breaks and tabs.
pub(in crate::notify) fn without_controls(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
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
        return Err(TemplateError(format!("undefined variable `{name}`{hint}")));
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
            TemplateError(format!("it is longer than {MAX_TEXT_BYTES} bytes"))
        } else {
            error.into()
        }
    })?;
    String::from_utf8(out.0).map_err(|_| TemplateError("its text is not UTF-8".to_owned()))
}

fn empty_text_error() -> TemplateError {
    TemplateError("it is empty".to_owned())
}

/// Returns an environment in which an undefined variable or attribute is an error and never empty text.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // Errors then name the expression that failed.
    environment.set_debug(true);
    environment.set_fuel(Some(MAX_STEPS));
    environment.set_auto_escape_callback(|name| match name {
        "html" => AutoEscape::Html,
        "slack" => AutoEscape::Custom("mrkdwn".into()),
        _ => AutoEscape::None,
    });
    environment.set_formatter(format_value);
    environment
}

/// Writes a value, escaped for its part unless the template says `|safe`, so that text from outside is shown and not
/// interpreted.
fn format_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let text = value.to_string();
    let text = match state.auto_escape() {
        _ if value.is_safe() => text,
        AutoEscape::Html => html::escaped(&text),
        AutoEscape::Custom(_) => slack_template_value(&text),
        _ => text,
    };
    out.write_str(&text).map_err(Error::from)
}

/// Buffer that refuses more than [`MAX_TEXT_BYTES`].
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
    fn mistakes_are_found_when_a_template_is_added() {
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
            ("{{ headlin }}", "undefined variable `headlin`; did you mean `headline`?"),
            ("{{ breakdown.blance }}", "undefined"),
            ("{{ headline|shout }}", "unknown filter"),
            ("{{ 1 // 0 }}", "unable to calculate"),
            ("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}", "fuel"),
            ("{% for a in range(9999) %}{{ 'xxxxxxxxxx' * 99 }}{% endfor %}", "longer than"),
            ("{% include 'x' %}", "syntax error"),
            ("{% if level == 'none' %}a{% endif %}", "it is empty"),
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
