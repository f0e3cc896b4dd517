//! Problems of a configuration: what is wrong, where, and what would be right.

use std::fmt;

use serde::Serialize;

use super::excerpt::Excerpt;

/// Severity of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProblemSeverity {
    /// The configuration cannot be used.
    Error,
    /// The configuration can be used, but needs attention.
    Warning,
}

/// One problem of a configuration. Never contains the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigProblem {
    /// Severity; only errors prevent the configuration from being used.
    pub severity: ProblemSeverity,
    /// File or environment variable that contains the problem.
    pub file: String,
    /// Line in the file, from 1.
    pub line: Option<usize>,
    /// Column in that line, in characters, from 1.
    pub column: Option<usize>,
    /// Key path, such as `rules.available-funds.metric`; empty if the problem concerns the whole file.
    pub path: String,
    /// Description of what is there: the source text between backticks, or a noun phrase.
    pub found: String,
    /// Description of what would be right.
    pub expected: String,
    /// Known word that is close to what was found.
    pub suggestion: Option<String>,
    /// Statement of the problem as one sentence, such as "missing required key `metric`".
    #[serde(skip)]
    pub message: String,
    /// Line of the file that contains the problem, with secrets masked.
    #[serde(skip)]
    pub excerpt: Option<Excerpt>,
    /// Source text at the place of the problem that may be shown.
    #[serde(skip)]
    pub(super) source: Option<String>,
}

/// A problem without its place.
pub(super) struct ProblemReport {
    pub(super) severity: ProblemSeverity,
    pub(super) path: String,
    pub(super) message: String,
    pub(super) found: String,
    pub(super) expected: String,
    pub(super) suggestion: Option<String>,
    /// Source text at the place that may be shown.
    pub(super) source: Option<String>,
}

impl ProblemReport {
    /// Creates the report of an error without suggestion and source text.
    pub(super) fn error(path: String, message: String, found: String, expected: String) -> Self {
        let severity = ProblemSeverity::Error;
        Self { severity, path, message, found, expected, suggestion: None, source: None }
    }

    /// Creates the report of a warning without suggestion and source text.
    pub(super) fn warning(path: String, message: String, found: String, expected: String) -> Self {
        Self { severity: ProblemSeverity::Warning, ..Self::error(path, message, found, expected) }
    }
}

impl ConfigProblem {
    /// Creates a problem at a line and column of a file, or of an environment variable.
    pub(super) fn new(file: String, place: Option<(usize, usize)>, report: ProblemReport) -> Self {
        let (line, column) = place.unzip();
        let ProblemReport { severity, path, message, found, expected, suggestion, source } = report;
        Self { severity, file, line, column, path, found, expected, suggestion, message, excerpt: None, source }
    }
}

/// Formats the problem on one line, for logs: place, key path, message, what is expected and the suggestion.
impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        f.write_str(": ")?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if !self.expected.is_empty() {
            write!(f, "; expected {}", self.expected)?;
        }
        match &self.suggestion {
            Some(near) => write!(f, "; did you mean `{near}`?"),
            None => Ok(()),
        }
    }
}

/// Problems in the order of the file, followed by those of environment variables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ConfigProblems(pub Vec<ConfigProblem>);

impl ConfigProblems {
    /// Returns `true` if there are no problems.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of problems.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns an iterator over the problems.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigProblem> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a ConfigProblems {
    type Item = &'a ConfigProblem;
    type IntoIter = std::slice::Iter<'a, ConfigProblem>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigProblems {}

/// Reason why a text is not a valid value of its key.
pub(super) struct ValueError {
    pub(super) message: ValueMessage,
    /// Description that replaces the source text, where that must not be shown or says too little.
    pub(super) found: Option<String>,
    pub(super) expected: String,
    pub(super) suggestion: Option<String>,
}

/// Message about a value.
pub(super) enum ValueMessage {
    /// Predicate of which the value is the subject: "is not a duration".
    Predicate(&'static str),
    /// Complete sentence, which must not quote text that a variable may have put in.
    Sentence(String),
}

impl ValueError {
    /// Creates an error of a value that `predicate` describes, such as "is not a duration".
    pub(super) fn new(predicate: &'static str, expected: impl Into<String>) -> Self {
        let message = ValueMessage::Predicate(predicate);
        Self { message, found: None, expected: expected.into(), suggestion: None }
    }

    /// Creates an error whose message is a complete sentence.
    pub(super) fn sentence(message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { message: ValueMessage::Sentence(message.into()), ..Self::new("", expected) }
    }

    /// Replaces the source text in the report by `found`.
    pub(super) fn hiding(self, found: impl Into<String>) -> Self {
        Self { found: Some(found.into()), ..self }
    }

    /// Adds the known word that was probably meant.
    pub(super) fn suggesting(self, suggestion: Option<String>) -> Self {
        Self { suggestion, ..self }
    }
}

/// Longest text that is quoted in full.
const MAX_QUOTED_CHARS: usize = 100;

/// Returns a text as messages show it: on one line, cut to [`MAX_QUOTED_CHARS`], without characters that control a terminal.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == MAX_QUOTED_CHARS {
            shown.push('…');
            break;
        }
        if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Returns the [`printable`] text between backticks.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", printable(text))
}

/// Lists alternatives: `a`, `a or b`, `one of a, b, c`.
pub(super) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [one, other] => format!("{one} or {other}"),
        many => format!("one of {}", many.join(", ")),
    }
}
