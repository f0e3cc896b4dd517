//! Checks `mention`: distinguishes the mentions that Slack recognises from plain text.

/// Groups that can be mentioned without an id.
const EVERYBODY: [&str; 3] = ["here", "channel", "everyone"];
/// Description of the mentions with an id.
const BY_ID: &str = "`<@U012AB3CD>` with the id of a member, or `<!subteam^S012AB3CD>` with the id of a user group";

/// Returns what to write instead if a text, or a part of it, looks like a mention but notifies nobody.
pub(super) fn correction(text: &str) -> Option<String> {
    let (mut notifies, mut advice) = (false, Vec::new());
    let mut rest = text;
    while let Some((plain, bracketed)) = rest.split_once('<') {
        advice.extend(words(plain).filter_map(correction_of_word));
        let (inner, after) = bracketed.split_once('>').unwrap_or((bracketed, ""));
        if is_mention(inner) && bracketed.contains('>') {
            notifies = true;
        } else {
            advice.extend(inner.strip_prefix(['@', '!']).map(correction_of_name));
        }
        rest = after;
    }
    advice.extend(words(rest).filter_map(correction_of_word));
    if advice.is_empty() && !notifies {
        advice.push(format!("`<!here>` for everyone who is online, {BY_ID}"));
    }
    advice.dedup();
    (!advice.is_empty())
        .then(|| format!("{} (Slack shows anything else as plain text and notifies nobody)", advice.join(", and ")))
}

/// Returns the words without the punctuation around them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '@' && c != '#'))
}

fn correction_of_word(word: &str) -> Option<String> {
    if word.len() > 1 && word.starts_with('#') {
        return Some("`<!channel>` for everyone in the channel of the webhook".to_owned());
    }
    word.strip_prefix('@').map(correction_of_name)
}

fn correction_of_name(name: &str) -> String {
    let everybody = EVERYBODY.iter().find(|known| name.eq_ignore_ascii_case(known));
    everybody.map_or_else(|| BY_ID.to_owned(), |name| format!("`<!{name}>`"))
}

/// Returns `true` if Slack notifies somebody for the text between `<` and `>`, which may end with a label.
fn is_mention(inner: &str) -> bool {
    let (who, _label) = inner.split_once('|').unwrap_or((inner, ""));
    let is_id = |id: &str, kinds: &[char]| {
        id.starts_with(kinds) && id.len() > 2 && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    };
    match (who.strip_prefix('@'), who.strip_prefix('!')) {
        (Some(member), _) => is_id(member, &['U', 'W']),
        (_, Some(group)) => {
            EVERYBODY.contains(&group) || group.strip_prefix("subteam^").is_some_and(|id| is_id(id, &['S']))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::correction;

    #[test]
    fn real_mentions_need_no_correction() {
        for text in [
            "<!here>",
            "<!channel>",
            "<!everyone>",
            "<@U012AB3CD>",
            "<@W012AB3CD|pki>:",
            "<!subteam^S012AB3CD>",
            "<!subteam^S012AB3CD|@pki> <@U012AB3CD>",
            "Please look, <!here>! (mail pki@example.com, <https://wiki.example.com|what to do>)",
        ] {
            assert_eq!(correction(text), None, "{text}");
        }
    }

    #[test]
    fn mentions_that_notify_nobody_are_corrected() {
        for (text, right) in [
            ("@here", "`<!here>` ("),
            ("@Channel:", "`<!channel>` ("),
            ("(@everyone)", "`<!everyone>` ("),
            ("@here and @channel", "`<!here>`, and `<!channel>` ("),
            ("<@here>", "`<!here>` ("),
            ("@jane", "`<@U012AB3CD>` with the id"),
            ("<@jane>", "`<@U012AB3CD>` with the id"),
            ("<!pki-team>", "`<!subteam^S012AB3CD>`"),
            ("<!subteam^U012AB3CD>", "`<!subteam^S012AB3CD>`"),
            ("@U012AB3CD", "`<@U012AB3CD>`"),
            ("#pki", "`<!channel>` for everyone"),
            ("<!here> @jane", "`<@U012AB3CD>` with the id"),
            ("urgent", "`<!here>` for everyone who is online"),
            ("<!here", "`<!here>`"),
        ] {
            let correction = correction(text).unwrap_or_default();
            assert!(correction.contains(right), "{text}: {correction}");
        }
    }
}
