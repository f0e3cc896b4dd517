//! Tests of the drawings, and that outside text in them cannot control the terminal.

use proptest::prelude::*;
use serde_json::json;
use unicode_width::UnicodeWidthStr;

use super::*;
use crate::notify::channels::slack::payload;
use crate::sandbox::testing::{mention, message, message_context};

const STYLE: DrawStyle = DrawStyle { colour: false, width: 72 };

fn slack_message(body: Value) -> SlackMessage {
    SlackMessage { webhook: "everyone".to_owned(), body }
}

fn rendered_message(divisions: &[&str]) -> SlackMessage {
    slack_message(payload(&message(divisions), &message_context(), &mention()))
}

fn line(text: &str) -> String {
    slack(&slack_message(json!({ "text": text })), STYLE)
}

/// Draws a section, which unlike the text is not bold as a whole.
fn coloured(text: &str) -> String {
    let section = json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } });
    slack(&slack_message(json!({ "blocks": [section] })), DrawStyle { colour: true, ..STYLE })
}

#[test]
fn one_alert_in_slack() {
    insta::assert_snapshot!(slack(&rendered_message(&["History department"]), STYLE), @"
    @here acme · History department: USD 1,431.00 left (warning below USD
    2,000.00)
    ▌ USD 569.00 under the threshold since Mon 23 Nov, 09:15 CET.
    ▌ Balance −569.00 + credit limit 2,000.00 − unpaid invoices 0.00 − used
    ▌ by other divisions 0.00
    ▌ Ask Finance for a purchase order; a PO takes five working days.
    ▌ [Deposit funds]   rule available-funds · next reminder Tue 24 Nov,
    ▌ 09:15
    ");
}

#[test]
fn several_alerts_in_slack_each_have_their_bar() {
    insta::assert_snapshot!(slack(&rendered_message(&["History", "Law & <b>Order</b>"]), DrawStyle { width: 50, ..STYLE }), @"
    @here acme: 2 alerts: 2 warnings
    ▌ acme · History: USD 1,431.00 left (warning below
    ▌ USD 2,000.00)
    ▌ USD 569.00 under the threshold since Mon 23 Nov,
    ▌ 09:15 CET.
    ▌ Balance −569.00 + credit limit 2,000.00 − unpaid
    ▌ invoices 0.00 − used by other divisions 0.00
    ▌ Ask Finance for a purchase order; a PO takes
    ▌ five working days.
    ▌ [Deposit funds]   rule available-funds · next
    ▌ reminder Tue 24 Nov, 09:15

    ▌ acme · Law & <b>Order</b>: USD 1,432.00 left
    ▌ (warning below USD 2,000.00)
    ▌ USD 568.00 under the threshold since Mon 23 Nov,
    ▌ 09:15 CET.
    ▌ Balance −568.00 + credit limit 2,000.00 − unpaid
    ▌ invoices 0.00 − used by other divisions 0.00
    ▌ Ask Finance for a purchase order; a PO takes
    ▌ five working days.
    ▌ [Deposit funds]   rule available-funds · next
    ▌ reminder Tue 24 Nov, 09:15
    ");
}

#[test]
fn colour_adds_only_escape_sequences() {
    let picture = slack(&rendered_message(&["History department"]), DrawStyle { colour: true, ..STYLE });
    insta::assert_snapshot!(picture.replace('\u{1b}', "ESC"), @"
    ESC[1m@here acme · History department: USD 1,431.00 left (warning below USDESC[0m
    ESC[1m2,000.00)ESC[0m
    ESC[38;2;242;161;0m▌ESC[0m USD 569.00 under the threshold since Mon 23 Nov, 09:15 CET.
    ESC[38;2;242;161;0m▌ESC[0m Balance −569.00 + credit limit 2,000.00 − unpaid invoices 0.00 − used
    ESC[38;2;242;161;0m▌ESC[0m by other divisions 0.00
    ESC[38;2;242;161;0m▌ESC[0m Ask Finance for a purchase order; a PO takes five working days.
    ESC[38;2;242;161;0m▌ESC[0m ESC[2mESC[4m[Deposit funds]ESC[0mESC[2m   rule available-funds · next reminder Tue 24 Nov,ESC[0m
    ESC[38;2;242;161;0m▌ESC[0m ESC[2m09:15ESC[0m
    ");
    let mut plain = String::new();
    let mut parts = picture.split('\u{1b}');
    plain.push_str(parts.next().unwrap());
    parts.for_each(|part| plain.push_str(part.split_once('m').unwrap().1));
    assert_eq!(plain, slack(&rendered_message(&["History department"]), STYLE));
}

#[test]
fn mrkdwn_is_drawn_as_slack_shows_it() {
    for (written, shown) in [
        ("*bold* and _italic_, *both _of them_*", "bold and italic, both of them"),
        ("2*3*4 snake_case_name * a * _ _ **", "2*3*4 snake_case_name * a * _ _ **"),
        ("<https://x.example/?a=1&amp;b=2|Deposit funds>", "[Deposit funds]"),
        ("<https://x.example/?a=1&amp;b=2>", "https://x.example/?a=1&b=2"),
        ("<!here> <!channel> <@U123> <@U123|ann> <!subteam^S1|@pki> <#C1|ops>", "@here @channel @U123 @ann @pki #ops"),
        ("&lt;!here&gt; &amp;lt; &amp;amp; &quot; a < b", "<!here> &lt; &amp; &quot; a < b"),
        ("a<> <|> <|x> <<x>", "a [] [x] <x"),
    ] {
        assert_eq!(line(written), format!("{shown}\n"), "{written}");
    }
    let seen = coloured("*b* _i_ <x|l> *_bi_*").replace('\u{1b}', "^");
    assert_eq!(seen, "^[1mb^[0m ^[3mi^[0m ^[4m[l]^[0m ^[1m^[3mbi^[0m\n");
}

#[test]
fn lines_break_at_spaces_by_display_width() {
    let narrow = |text: &str| slack(&slack_message(json!({ "text": text })), DrawStyle { colour: false, width: 20 });
    assert_eq!(narrow("aaaa bbbb cccc dddd eeee"), "aaaa bbbb cccc dddd\neeee\n");
    assert_eq!(narrow(&"漢字".repeat(6)), format!("{}\n漢字\n", "漢字".repeat(5)));
    assert_eq!(narrow(&"x".repeat(45)), format!("{0}\n{0}\nxxxxx\n", "x".repeat(20)));
    assert_eq!(narrow("e\u{301}".repeat(20).as_str()), format!("{}\n", "e\u{301}".repeat(20)));
    assert_eq!(narrow("  two   in   front   "), "  two   in   front\n");
    assert_eq!(narrow(&format!("{}      y", "x".repeat(19))), format!("{}\ny\n", "x".repeat(19)));
    assert_eq!(slack(&slack_message(json!({ "text": "x" })), DrawStyle { colour: false, width: 0 }), "x\n");
}

#[test]
fn malformed_messages_are_drawn_as_far_as_possible() {
    for body in [json!(null), json!(7), json!({ "text": 7, "attachments": 7, "blocks": { "a": 1 } }), json!([])] {
        assert_eq!(slack(&slack_message(body.clone()), STYLE).trim(), "", "{body}");
    }
    let body = json!({ "attachments": [{ "color": "#zzéé", "fallback": "old" }, { "color": "danger", "blocks": [
        { "type": "header", "text": { "type": "plain_text", "text": "*as it is* &amp;" } },
        { "type": "divider" },
        { "type": "section", "fields": [{ "type": "mrkdwn", "text": "field" }] },
    ] }] });
    assert_eq!(slack(&slack_message(body), STYLE), "▌ old\n\n▌ *as it is* &\n▌ field\n");
}

proptest! {
    #[test]
    fn no_outside_text_controls_the_terminal_or_breaks_the_margin(
        text in "([*_<>|!@# \n\t\u{1b}\u{7}\u{9b}\u{202e}&a漢;]|&lt;|<http://x\\|){0,80}",
        width in 0..90_usize,
    ) {
        let style = DrawStyle { colour: false, width };
        let context = json!({ "type": "context", "elements": [{ "type": "mrkdwn", "text": text }] });
        let body = json!({ "text": text, "attachments": [{ "color": text, "blocks": [context] }] });
        let picture = slack(&slack_message(body), style);
        prop_assert!(!picture.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{picture:?}");
        prop_assert!(picture.lines().all(|line| line.width() <= width.max(20)), "{picture:?}");
    }
}
