//! Explains text that is not valid YAML: finds the mistake, which is often not where the parser noticed it, and says what
//! would be right.
//!
//! The explanations quote nothing of the text, since any part of it may be a secret.

use super::problem::printable;

/// Line and column, both from 1.
pub(super) type TextPosition = (usize, usize);

/// An error in the text of a YAML file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct YamlError {
    pub(super) place: TextPosition,
    pub(super) path: String,
    pub(super) message: String,
    pub(super) found: String,
    pub(super) expected: String,
    /// Source text at the place that may be shown.
    pub(super) source: Option<String>,
}

impl YamlError {
    /// Creates an error without a key path, whose message is `found`.
    pub(super) fn new(place: TextPosition, found: impl Into<String>, expected: impl Into<String>) -> Self {
        let found = found.into();
        let (path, message) = (String::new(), found.clone());
        Self { place, path, message, found, expected: expected.into(), source: None }
    }
}

/// A text that the parser could not read to its end.
struct BrokenYaml<'a> {
    lines: Vec<&'a str>,
    /// Position at which the parser gave up.
    at: TextPosition,
    /// Message of the parser.
    message: &'a str,
    /// Innermost `{` or `[` that is still open there.
    bracket: Option<(char, TextPosition)>,
}

/// Explains why the parser gave up with `message` at this position. `opened` are the positions of the maps and lists that
/// were not yet complete, the innermost last.
pub(super) fn explain<'a>(
    text: &'a str,
    at: TextPosition,
    message: &'a str,
    opened: impl DoubleEndedIterator<Item = TextPosition>,
) -> YamlError {
    let lines: Vec<&str> = text.lines().collect();
    let bracket = |(line, column): TextPosition| {
        let c = lines.get(line.checked_sub(1)?)?.chars().nth(column.checked_sub(1)?)?;
        matches!(c, '{' | '[').then_some((c, (line, column)))
    };
    let bracket = opened.rev().find_map(bracket);
    let broken = BrokenYaml { at, message, bracket, lines };
    let known: [fn(&BrokenYaml<'a>) -> Option<YamlError>; 9] = [
        BrokenYaml::tab,
        BrokenYaml::open_quote,
        BrokenYaml::text_after_quote,
        BrokenYaml::variable_in_brackets,
        BrokenYaml::open_bracket,
        BrokenYaml::key_without_colon,
        BrokenYaml::value_with_colon,
        BrokenYaml::indentation,
        BrokenYaml::special_character,
    ];
    let error = known.iter().find_map(|explanation| explanation(&broken)).unwrap_or_else(|| {
        let found = format!("broken YAML ({})", printable(message));
        YamlError::new(at, found, "valid YAML")
    });
    let message = match error.found.strip_prefix("broken YAML ") {
        Some(parser) => format!("invalid YAML {parser}"),
        None => format!("invalid YAML: {}", error.found),
    };
    YamlError { message, ..error }
}

/// Description and correction of a key without a colon.
pub(super) const WITHOUT_COLON: (&str, &str) =
    ("missing colon after a key", "a colon and a space after the key, as in `region: us`");

/// Describes what is missing in a text that was meant as a key and its value, and returns the correction.
pub(super) fn forgotten(text: &str) -> Option<(&'static str, &'static str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let mut after = rest.chars();
    match (after.next()?, after.next()) {
        ('-', Some(c)) if word.is_empty() && c != '-' && c != ' ' => {
            Some(("missing space after `-`", "a dash and a space before each item of a list, as in `- 1234`"))
        }
        _ if word.is_empty() => None,
        (':', Some('\u{a0}')) => Some(("a no-break space after the colon", "an ordinary space")),
        (':', Some(c)) if c != ' ' && c != '/' => {
            Some(("missing space after the colon", "a space after the colon, as in `region: us`"))
        }
        ('：', _) => Some(("a full-width colon", "an ordinary colon and a space, as in `region: us`")),
        ('=', _) | (' ', Some('=')) => Some(("`=` instead of a colon", "a colon and a space, as in `region: us`")),
        _ => None,
    }
}

/// Returns a hint for a value that begins with a typographic quotation mark.
pub(super) fn typographic_quote(text: &str) -> Option<&'static str> {
    let typographic = text.trim_start().starts_with(['“', '”', '„', '‘', '’', '«']);
    typographic.then_some("YAML accepts only the straight quotes \" and '")
}

impl BrokenYaml<'_> {
    fn line(&self, number: usize) -> &str {
        self.lines.get(number.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Returns the number of the last line before this one that contains more than a comment.
    fn line_before(&self, number: usize) -> Option<usize> {
        let content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        (1..number).rev().find(|number| content(self.line(*number)))
    }

    /// Returns the position at which the content of a line begins.
    fn start(&self, number: usize) -> TextPosition {
        (number, self.line(number).chars().take_while(|c| c.is_whitespace()).count() + 1)
    }

    /// Explains a tab in the indentation, perhaps of a later line, or between a colon and its value.
    fn tab(&self) -> Option<YamlError> {
        if self.message.contains("must be followed by a valid YAML whitespace") {
            let before = self.line(self.at.0).split_once(":\t")?.0;
            let place = (self.at.0, before.chars().count() + 2);
            return Some(YamlError::new(place, "a tab after the colon", "a space"));
        }
        if !self.message.contains("tab") {
            return None;
        }
        let tab = |number: &usize| {
            let (indentation, content) = self.line(*number).split_at(indentation(self.line(*number)));
            Some((indentation.find('\t').filter(|_| !content.is_empty())?, *number))
        };
        let (at, number) = (self.at.0..=self.lines.len()).find_map(|number| tab(&number))?;
        Some(YamlError::new(
            (number, at + 1),
            "a tab in the indentation",
            "spaces, since YAML does not allow tabs there",
        ))
    }

    /// Explains a quote that is not closed, or lines that are not indented as part of a quoted value.
    fn open_quote(&self) -> Option<YamlError> {
        let messages = ["invalid indentation in quoted scalar", "quoted scalar, found unexpected"];
        messages.iter().any(|message| self.message.contains(message)).then(|| {
            let expected =
                "the same quote at the end of the value (every line of a text with several lines is indented)";
            YamlError::new(self.at, "a quote that is not closed", expected)
        })
    }

    /// Explains a quote inside a quoted value.
    fn text_after_quote(&self) -> Option<YamlError> {
        self.message.contains("invalid trailing content after").then(|| {
            let expected =
                "no text there (inside '…' an apostrophe is written twice (''), inside \"…\" a quote is written \\\")";
            YamlError::new(self.at, "text after the closing quote", expected)
        })
    }

    /// Explains `${NAME}` inside `{ }` and `[ ]`, where YAML itself uses the braces.
    fn variable_in_brackets(&self) -> Option<YamlError> {
        (self.bracket.is_some() && self.line(self.at.0).contains("${")).then(|| {
            let found = format!("broken YAML ({})", printable(self.message));
            let expected = "quotes around a value with ${NAME} inside { } and [ ]: \"${NAME}\"";
            YamlError::new(self.at, found, expected)
        })
    }

    /// Explains a bracket that is missing, or one that closes nothing.
    fn open_bracket(&self) -> Option<YamlError> {
        if self.message == "misplaced bracket" {
            let expected = "as many closing brackets as opening ones";
            return Some(YamlError::new(self.at, "a bracket that closes nothing", expected));
        }
        let (bracket, place) =
            self.bracket.filter(|(_, (line, _))| *line < self.at.0 || self.at.0 > self.lines.len())?;
        let closing = if bracket == '{' { "`}` at the end of the map" } else { "`]` at the end of the list" };
        Some(YamlError::new(place, format!("`{bracket}` that is not closed"), closing))
    }

    /// Explains a line that is not `key: value`, which the parser notices only in the next one.
    fn key_without_colon(&self) -> Option<YamlError> {
        let number = match self.message {
            "simple key expect ':'" => self.line_before(self.at.0)?,
            "mapping values are not allowed in this context" => {
                let before = self.line_before(self.at.0)?;
                let first_colon = !has_colon(&self.before());
                (first_colon && !has_colon(self.line(before))).then_some(before)?
            }
            _ => return None,
        };
        let line = self.line(number).trim_start();
        let item = line.strip_prefix("- ").unwrap_or(line);
        let (found, expected) = forgotten(item).unwrap_or(WITHOUT_COLON);
        Some(YamlError::new(self.start(number), found, expected))
    }

    /// Explains a value that YAML parses as another key.
    fn value_with_colon(&self) -> Option<YamlError> {
        let second = self.message == "mapping values are not allowed in this context" && has_colon(&self.before());
        second.then(|| {
            let value = self.before().split_once(": ").map(|(_, value)| typographic_quote(value));
            let expected = match value.flatten() {
                Some(known) => format!("quotes around the value ({known})"),
                None => "quotes around a value that contains a colon and a space".to_owned(),
            };
            YamlError::new(self.at, "a second colon in one line", expected)
        })
    }

    /// Explains a line that belongs to no section.
    fn indentation(&self) -> Option<YamlError> {
        let place = self.start(self.at.0);
        if self.message == "mapping values are not allowed in this context" {
            let expected = "the indentation of the keys above, since the line before already has its value";
            return Some(YamlError::new(place, "a line with too much indentation", expected));
        }
        if self.message.contains("did not find expected '-' indicator") {
            let expected = "`- ` before each item, and less indentation after the list";
            return Some(YamlError::new(self.at, "a line without `- ` in a list", expected));
        }
        let unfit = self.message == "while parsing a block mapping, did not find expected key" && self.at == place;
        unfit.then(|| {
            let expected = "the same indentation as the other keys of its section";
            YamlError::new(place, "a line whose indentation matches no section above it", expected)
        })
    }

    /// Explains a value that begins with a character that is reserved in YAML.
    fn special_character(&self) -> Option<YamlError> {
        let c = self.line(self.at.0).chars().nth(self.at.1.saturating_sub(1))?;
        if self.message.contains("unexpected character") {
            let found = format!("a value that begins with `{c}`");
            return Some(YamlError::new(self.at, found, "quotes around a value that begins with this character"));
        }
        self.message.contains("found unknown anchor").then(|| {
            let expected = "quotes around a value that begins with `*`, as in \"*/15 * * * *\"";
            YamlError::new(self.at, "`*` before a name that no anchor (`&name`) defines", expected)
        })
    }

    /// Returns the text of the line before the position.
    fn before(&self) -> String {
        self.line(self.at.0).chars().take(self.at.1.saturating_sub(1)).collect()
    }
}

/// Returns the number of bytes of indentation (spaces and tabs).
fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

/// Returns `true` for a line that contains a key with its colon.
fn has_colon(line: &str) -> bool {
    line.contains(": ") || line.trim_end().ends_with(':')
}
