//! Custom templates, with the real binary: shown, sent, rejected on load, and replaced by the built-in text if they fail.

use crate::support::bin::{FUNDS, World};

const MAIL: &str = "  mail: { type: email, host: mx.example.com, from: lowtide@example.com, to: [finance@example.com]";

fn config(world: &World, slack: &str, mail: &str) {
    let rules = FUNDS.replace("[slack]", "[slack, mail]");
    world.config(&format!("    template: {{ slack: \"{slack}\" }}\n{MAIL}, template: {{ {mail} }} }}\n{rules}"));
}

#[tokio::test]
async fn custom_templates_are_shown_and_sent() {
    let world = World::new().await;
    world.funds("1431.00");
    config(
        &world,
        "Low: {{ amount }} of {{ threshold }}\\nMissing *{{ missing }}*\\n<{{ console_url }}|Pay>",
        "subject: \"{{ account }}\\n{{ level }}\", text: '{{ missing }}', html: '<b>{{ headline }}</b>'",
    );
    let shown = world.run(&["preview", "-o", "json"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let shown = shown.json();
    let mail = &shown["notifiers"]["mail"];
    assert_eq!((mail["subject"].as_str(), mail["text"].as_str()), (Some("acme warning"), Some("USD 569.00\n")));
    let html = mail["html"].as_str().unwrap();
    assert!(html.contains("<b>acme: USD 1,431.00 left (warning below USD 2,000.00)</b>") && html.contains("<html"));
    let body = &shown["notifiers"]["slack"]["body"];
    assert_eq!(body["text"], "Low: USD 1,431.00 of USD 2,000.00");
    let text = &body["attachments"][0]["blocks"][0]["text"]["text"];
    assert_eq!(text, "Missing *USD 569.00*\n<https://www.digicert.com/secure/|Pay>");
    assert_eq!(body["attachments"][0]["color"], "#f2a100");

    let service = world.start();
    world.wait_told(1);
    assert_eq!(service.stop(), Some(0));
    assert_eq!(&world.slack_bodies()[0], body, "what was shown is what is sent");
    let test = world.run(&["preview", "--event", "test", "-o", "json"]).json();
    assert!(test["notifiers"]["slack"]["text"].as_str().unwrap().starts_with("TEST: This is a test"));
}

#[tokio::test]
async fn a_template_that_fails_while_rendering_is_replaced_by_the_built_in_text() {
    let world = World::new().await;
    world.funds("431.00");
    let bomb = "{% if amount == 'USD 431.00' %}{{ 1 // 0 }}{% endif %}x";
    config(&world, bomb, &format!("subject: \"{bomb}\", text: 'own text', html: \"{bomb}\""));
    let service = world.start();
    let sent = world.wait_told(1);
    assert!(sent.contains("acme: USD 431.00 left (critical below USD 500.00)"), "{sent}");
    assert!(sent.contains("A template of this notifier failed, so the built-in text is used: slack: line 1"), "{sent}");
    assert!(service.log().contains("template failed, using the built-in text"), "{}", service.log());
    assert_eq!(service.stop(), Some(0));
    let mail = &world.run(&["preview", "-o", "json"]).json()["notifiers"]["mail"];
    assert_eq!(mail["subject"], "[critical] acme: USD 431.00 left (critical below USD 500.00)");
    let text = mail["text"].as_str().unwrap();
    assert!(
        text.starts_with("own text\n") && text.contains("subject: line 1") && text.contains("html: line 1"),
        "{text}"
    );
    assert!(mail["html"].as_str().unwrap().contains("so the built-in text is used"));
}

#[tokio::test]
async fn mistakes_are_reported_at_load_with_their_places() {
    let world = World::new().await;
    config(&world, "{{ amountt }}", "subject: '{{ level', text: '{{ breakdown.x }}', slack: x, htlm: x");
    let ran = world.run(&["validate"]);
    assert_eq!(ran.code, Some(78));
    for said in [
        "error: the template fails: undefined variable `amountt`; did you mean `amount`?",
        "alerts.yaml:12:24  notifiers.slack.template.slack",
        "the template fails: line 1 of the template: syntax error",
        "the template fails: line 1 of the template: `breakdown.x` is undefined",
        "`slack` is not a key of an email template",
        "expected only `subject`, `text` and `html` for a notifier of this type",
        "unknown key `htlm`",
        "did you mean `html`?",
    ] {
        assert!(ran.stdout.contains(said), "{said} is not in {}", ran.stdout);
    }
}
