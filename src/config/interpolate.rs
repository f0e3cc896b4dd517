//! Replaces `${NAME}` inside values of the file, after the YAML is parsed.

use super::environment::Environment;

/// A value whose variables have been replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// Set if the value contained a variable.
    pub(super) from_environment: bool,
}

/// Reason why a value cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExpandError {
    /// The variable of this name is not set.
    Unset(String),
    Unterminated,
    /// The text between `${` and `}` is not the name of a variable.
    NotAName,
}

/// Replaces the variables of a text. `$$` is a dollar sign, and so is a `$` that is not followed by `{`.
pub(super) fn expand(text: &str, environment: &Environment) -> Result<Expanded, ExpandError> {
    let mut expanded = Expanded { text: String::with_capacity(text.len()), from_environment: false };
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.text.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let (name, after) = after.split_once('}').ok_or(ExpandError::Unterminated)?;
            if !is_name(name) {
                return Err(ExpandError::NotAName);
            }
            let value = environment.get(name).ok_or_else(|| ExpandError::Unset(name.to_owned()))?;
            expanded.text.push_str(value);
            expanded.from_environment = true;
            rest = after;
        } else {
            expanded.text.push('$');
        }
    }
    expanded.text.push_str(rest);
    Ok(expanded)
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_dollar_signs_kept() {
        let environment = Environment::from_iter([("A", "one"), ("B_2", "${A} $$"), ("EMPTY", "")]);
        let text = |text: &str| expand(text, &environment).map(|expanded| expanded.text);
        assert_eq!(text("${A}-${B_2}-${EMPTY}").as_deref(), Ok("one-${A} $$-"));
        assert_eq!(text("$$ $ $A $${A} 5$").as_deref(), Ok("$ $ $A ${A} 5$"));
        assert_eq!(text("é${A}é").as_deref(), Ok("éoneé"));
        assert_eq!(text("${NONE}"), Err(ExpandError::Unset("NONE".to_owned())));
        assert_eq!(text("${A"), Err(ExpandError::Unterminated));
        for name in ["${}", "${ A}", "${A-b}", "${1A}", "${é}"] {
            assert_eq!(text(name), Err(ExpandError::NotAName), "{name}");
        }
    }
}
