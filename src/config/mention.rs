//! `mention`: what Slack takes for a mention, and what it only shows as text.

/// Who can be named without an id.
const EVERYBODY: [&str; 3] = ["here", "channel", "everyone"];
/// How somebody with an id is named.
const BY_ID: &str = "`<@U012AB3CD>` with the id of a member, or `<!subteam^S012AB3CD>` with the id of a user group";

/// Returns what to write instead where a text, or a part of it, looks like a mention and pings nobody.
pub(super) fn correction(text: &str) -> Option<String> {
    let (mut pings, mut advice) = (false, Vec::new());
    let mut rest = text;
    while let Some((plain, bracketed)) = rest.split_once('<') {
        advice.extend(words(plain).filter_map(of_word));
        let (inner, after) = bracketed.split_once('>').unwrap_or((bracketed, ""));
        if is_mention(inner) && bracketed.contains('>') {
            pings = true;
        } else {
            advice.extend(inner.strip_prefix(['@', '!']).map(of_name));
        }
        rest = after;
    }
    advice.extend(words(rest).filter_map(of_word));
    if advice.is_empty() && !pings {
        advice.push(format!("`<!here>` for who is online, {BY_ID}"));
    }
    advice.dedup();
    (!advice.is_empty())
        .then(|| format!("{}: Slack shows anything else as text and pings nobody", advice.join(", and ")))
}

/// Words without the punctuation around them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '@' && c != '#'))
}

fn of_word(word: &str) -> Option<String> {
    if word.len() > 1 && word.starts_with('#') {
        return Some("`<!channel>` for everyone in the channel of the webhook".to_owned());
    }
    word.strip_prefix('@').map(of_name)
}

fn of_name(name: &str) -> String {
    let everybody = EVERYBODY.iter().find(|known| name.eq_ignore_ascii_case(known));
    everybody.map_or_else(|| BY_ID.to_owned(), |name| format!("`<!{name}>`"))
}

/// Tells whether Slack pings somebody for what stands between `<` and `>`; a label may follow.
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
    fn what_pings_nobody_is_corrected() {
        for (text, right) in [
            ("@here", "`<!here>`:"),
            ("@Channel:", "`<!channel>`:"),
            ("(@everyone)", "`<!everyone>`:"),
            ("@here and @channel", "`<!here>`, and `<!channel>`:"),
            ("<@here>", "`<!here>`:"),
            ("@jane", "`<@U012AB3CD>` with the id"),
            ("<@jane>", "`<@U012AB3CD>` with the id"),
            ("<!pki-team>", "`<!subteam^S012AB3CD>`"),
            ("<!subteam^U012AB3CD>", "`<!subteam^S012AB3CD>`"),
            ("@U012AB3CD", "`<@U012AB3CD>`"),
            ("#pki", "`<!channel>` for everyone"),
            ("<!here> @jane", "`<@U012AB3CD>` with the id"),
            ("urgent", "`<!here>` for who is online"),
            ("<!here", "`<!here>`"),
        ] {
            let correction = correction(text).unwrap_or_default();
            assert!(correction.contains(right), "{text}: {correction}");
        }
    }
}
