//! The demo and the sandbox as a user runs them: the real binary, its real service, and nothing beyond loopback.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lowtide::config::scenario;
use lowtide::domain::Time;
use lowtide::sandbox::scenario::{SHIPPED, Scenario};
use lowtide::sandbox::world::SimulatedWorld;
use rust_decimal::Decimal;
use serde_json::Value;

/// Start of every run of the demo.
const START: &str = "2026-11-02T08:00:00Z";
/// Period of the demo's service.
const PERIOD: Duration = Duration::from_secs(2 * 3600);

fn lowtide(args: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lowtide"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TMPDIR", folder);
    command.current_dir(folder).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Output of a demo that was played to its end.
struct DemoOutput {
    /// Standard output, with the demo's folder as `FOLDER`.
    text: String,
    /// Requests to Slack, in order.
    slack: Vec<Value>,
    /// Emails in their order.
    mails: Vec<String>,
    /// Folder of the run, deleted when dropped.
    _folder: tempfile::TempDir,
}

impl DemoOutput {
    fn run(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::run_in(folder, args)
    }

    fn run_in(folder: tempfile::TempDir, args: &[&str]) -> Self {
        let ran = lowtide(&[&["demo"], args].concat(), folder.path()).output().unwrap();
        let (stdout, stderr) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
        assert_eq!(ran.status.code(), Some(0), "{stdout}\n{stderr}");
        assert_eq!(stderr, "");
        let made: Vec<PathBuf> = files(folder.path()).into_iter().filter(|path| path.is_dir()).collect();
        assert_eq!(made.len(), 1, "{made:?}");
        let read = |name: &str, suffix: &str| -> Vec<String> {
            let all = files(&made[0].join(name));
            let matching = all.iter().filter(|path| path.to_str().unwrap().ends_with(suffix));
            matching.map(|path| std::fs::read_to_string(path).unwrap()).collect()
        };
        let slack = read("slack", ".json").iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        let text = stdout.replace(made[0].to_str().unwrap(), "FOLDER");
        let (mails, pages) = (read("mail", ".eml"), read("mail", ".html"));
        assert_eq!(mails.len(), pages.len());
        assert!(pages.iter().all(|page| page.contains("<html")), "{pages:?}");
        Self { text, slack, mails, _folder: folder }
    }

    /// Returns the figures of a line of the summary, such as `readings`.
    fn figures(&self, line: &str) -> Vec<u64> {
        let line =
            self.text.lines().find(|it| it.trim_start().starts_with(line)).unwrap_or_else(|| panic!("{}", self.text));
        let words = line.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty());
        words.map(|word| word.parse().unwrap()).collect()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Returns all text of a message.
fn text(message: &Value) -> String {
    match message {
        Value::String(text) => format!("{text}\n"),
        Value::Array(items) => items.iter().map(text).collect(),
        Value::Object(fields) => fields.values().map(text).collect(),
        _ => String::new(),
    }
}

#[test]
fn the_default_scenario_shows_every_event_and_matches_its_summary() {
    let output = DemoOutput::run(&["--speed", "1000000x"]);
    assert_eq!(output.figures("events"), [1, 1, 0, 2, 1], "{}", output.text);
    assert_eq!(output.figures("unreadable"), [1, 0, 1], "{}", output.text);
    assert_eq!(output.figures("messages"), [output.slack.len() as u64, output.mails.len() as u64]);
    // While CertCentral could not be read, nothing resolved.
    let order = [
        "WARNING",
        "Now critical",
        "CRITICAL",
        "UNREADABLE",
        "Open alerts stay open",
        "deposit arrives",
        "Resolved: acme: USD",
    ];
    let mut from = 0;
    for word in order {
        from += output.text[from..].find(word).unwrap_or_else(|| panic!("{word} is not in order:\n{}", output.text));
    }
    assert!(!output.text.contains('\u{1b}'), "no escape sequences in a pipe");
    expect_readme_matches(&output.text);
}

/// Asserts that the README shows lines that the demo prints, in order; `...` stands for omitted lines.
fn expect_readme_matches(text: &str) {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let shown =
        readme.split("```text\n").find(|block| block.starts_with("Funds run out")).expect("the demo in the README");
    let shown = shown
        .split("```")
        .next()
        .unwrap()
        .replace("/tmp/lowtide-demo-4711-1", "FOLDER")
        .replace(" in about 60 seconds.", " at 1000000 times real speed.");
    let mut from = 0;
    for line in shown.lines().filter(|line| !line.is_empty() && *line != "...") {
        let line = format!("{line}\n");
        from += text[from..].find(&line).unwrap_or_else(|| panic!("README: {line}{text}")) + line.len();
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_a_different_one() {
    let run =
        |seed: &'static str| std::thread::spawn(move || DemoOutput::run(&["--speed", "1000000x", "--seed", seed]));
    let (one, two, other) = (run("7"), run("7"), run("8"));
    let (one, two, other) = (one.join().unwrap(), two.join().unwrap(), other.join().unwrap());
    assert_eq!(one.text, two.text);
    assert_eq!(one.slack.iter().map(text).collect::<Vec<_>>(), two.slack.iter().map(text).collect::<Vec<_>>());
    assert_ne!(one.text, other.text);
}

#[test]
fn every_shipped_scenario_plays_to_its_end() {
    let outputs: BTreeMap<&str, DemoOutput> = std::thread::scope(|scope| {
        let run =
            |name: &'static str| scope.spawn(move || DemoOutput::run(&["--speed", "1000000x", "--scenario", name]));
        let runs: Vec<_> =
            SHIPPED.iter().filter(|(name, _)| *name != "drain").map(|(name, _)| (*name, run(name))).collect();
        runs.into_iter().map(|(name, run)| (name, run.join().unwrap())).collect()
    });
    // raised, escalated, eased, reminders, resolved.
    let events = |name: &str| outputs[name].figures("events");
    assert_eq!(events("steady"), [0; 5]);
    assert_eq!(events("unlimited")[0], 1, "only the invoice");
    assert!(outputs["unlimited"].text.contains("∞"));
    assert_eq!(events("renewal-wave")[1], 1, "escalated");
    assert_eq!((events("unpaid-invoices")[0], events("unpaid-invoices")[4]), (1, 1));
    assert!(events("divisions")[0] >= 2 && outputs["divisions"].text.contains("Physics department"));
    assert!(events("flapping")[0] >= 3, "one alert after another");
    // Funds were low before the outage and until the deposit on the day before the last: one alert, resolved once.
    let outage = events("outage");
    assert_eq!((outage[0], outage[4]), (1, 1));
    let [raised, _, resolved] = outputs["outage"].figures("unreadable")[..] else {
        panic!("{}", outputs["outage"].text)
    };
    assert!(raised >= 5 && raised == resolved, "{raised} {resolved}");
    for (name, output) in &outputs {
        assert_eq!(output.figures("messages"), [output.slack.len() as u64, output.mails.len() as u64], "{name}");
    }
}

#[test]
fn the_demo_ends_in_about_the_requested_seconds() {
    // One scenario without and one with requests that get no response.
    let quick = std::thread::spawn(|| {
        let began = std::time::Instant::now();
        let output = DemoOutput::run(&["--scenario", "steady", "--seconds", "6"]);
        assert!(output.text.contains("Played: 28 days of simulated time."), "{}", output.text);
        let took = began.elapsed().as_secs();
        assert!((5..30).contains(&took), "{took} s");
    });
    let output = DemoOutput::run(&["--scenario", "outage", "--seconds", "10"]);
    assert!(output.text.contains("Played: 14 days of simulated time."), "{}", output.text);
    quick.join().unwrap();
}

/// Scenario of one division with many orders in eight days.
const WEEK: &str = "
length: 8d
divisions:
  Main:
    id: 7
    balance: 1400
    credit_limit: 2000
    orders:
      - { product: Secure Site OV, price: 399, per_week: 14 }
      - { product: Basic DV, price: 21.80, per_week: 30 }
    deposits:
      - { on: 50h, amount: 1250, every: 20h }
    invoices:
      - { on: 1d, amount: 900, paid_after: 3d }
";

/// Computes the expected events from the simulated funds alone: time, event and funds.
fn crossings(scenario: &Scenario, seed: u64) -> Vec<(String, &'static str, Decimal)> {
    let start: Time = START.parse().unwrap();
    let mut world = SimulatedWorld::new(scenario, start, seed);
    let mut severity = 0;
    let mut crossings = Vec::new();
    let mut at = start;
    while at <= start + scenario.length {
        world.advance(at);
        let sheet = world.sheet(7).unwrap();
        let Some(funds) = sheet.available() else { panic!("this scenario has a limit") };
        let now = if funds < Decimal::from(500) { 2 } else { i32::from(funds < Decimal::from(2000)) };
        let event = match (severity, now) {
            (0, 1 | 2) => Some("raised"),
            (1, 2) => Some("Now critical"),
            (2, 1) => Some("Improved"),
            (1 | 2, 0) => Some("Resolved"),
            _ => None,
        };
        crossings.extend(event.map(|event| (at.format("%a %-d %b, %H:%M").to_string(), event, funds)));
        severity = now;
        at += PERIOD;
    }
    crossings
}

#[test]
fn in_a_simulated_week_every_crossing_is_notified_exactly_once() {
    for seed in ["1", "2", "3"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("week.yaml"), WEEK).unwrap();
        let scenario = scenario::parse("week.yaml", WEEK).unwrap();
        let expected = crossings(&scenario, seed.parse().unwrap());
        assert!(expected.len() >= 6, "too few crossings: {expected:?}");
        let output = DemoOutput::run_in(folder, &["--speed", "1000000x", "--scenario", "week.yaml", "--seed", seed]);
        let headline = |message: &Value| message["text"].as_str().unwrap().replace("<!here> ", "");
        // Reminders are not crossings.
        let messages: Vec<&Value> = output.slack.iter().filter(|it| !headline(it).starts_with("Still ")).collect();
        assert_eq!(messages.len(), expected.len(), "{messages:#?}\n{expected:#?}");
        for (message, (at, event, funds)) in messages.into_iter().zip(&expected) {
            let (headline, said) = (headline(message), text(message));
            let begin = if *event == "raised" { "acme: " } else { event };
            let figure = headline.replace(',', "");
            assert!(
                headline.starts_with(begin) && figure.contains(&format!("USD {funds:.2} left")),
                "{headline}: {expected:#?}"
            );
            let dated = said.contains(&format!("since {at}"));
            assert!(dated || matches!(*event, "Improved" | "Resolved"), "{said}: {expected:#?}");
        }
        let [raised, escalated, eased, _, resolved] = output.figures("events")[..] else { panic!("{}", output.text) };
        assert_eq!(raised + escalated + eased + resolved, expected.len() as u64);
    }
}

#[test]
fn ctrl_c_ends_the_demo_with_its_summary() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = lowtide(&["demo"], folder.path()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("ok")), "the first live line");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(rest.iter().any(|line| line.starts_with("Played:")), "{rest:?}");
}

#[test]
fn a_wrong_scenario_seed_or_speed_is_refused_with_the_right_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wrong.yaml"), "divisions:\n  Main: { id: 1, balance: 5, credit_limt: 7 }\n")
        .unwrap();
    let run = |args: &[&str]| {
        let ran = lowtide(args, folder.path()).output().unwrap();
        assert_eq!(String::from_utf8(ran.stdout).unwrap(), "");
        (ran.status.code().unwrap(), String::from_utf8(ran.stderr).unwrap())
    };
    for command in ["demo", "sandbox"] {
        let (code, said) = run(&[command, "--scenario", "drian"]);
        assert_eq!(code, 64);
        assert!(said.contains("did you mean drain?") && said.contains("renewal-wave"), "{said}");
        let (code, said) = run(&[command, "--scenario", "./missing.yaml"]);
        assert_eq!(code, 78);
        assert!(said.contains("no such file"), "{said}");
        let (code, said) = run(&[command, "--scenario", "wrong.yaml"]);
        assert_eq!(code, 78);
        assert!(
            said.contains("wrong.yaml:2:30  divisions.Main.credit_limt")
                && said.contains("did you mean `credit_limit`?"),
            "{said}"
        );
        for wrong in [["--speed", "0x"], ["--speed", "fast"], ["--seed", "-1"]] {
            assert_eq!(run(&[&[command][..], &wrong].concat()).0, 64, "{wrong:?}");
        }
    }
    assert_eq!(run(&["sandbox", "--listen", "0.0.0.0:8099"]).0, 64);
    assert_eq!(run(&["demo", "--seconds", "0"]).0, 64);
    assert!(!files(folder.path()).iter().any(|path| path.is_dir()), "a refused demo creates no folder");
}

/// A running `lowtide sandbox`; killed when it is dropped.
struct RunningSandbox {
    child: Child,
    /// Standard output up to the address.
    introduction: String,
}

impl RunningSandbox {
    fn start(folder: &Path, args: &[&str]) -> Self {
        let mut child = lowtide(&[&["sandbox"], args].concat(), folder).spawn().unwrap();
        let mut introduction = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            introduction.push_str(&(line.clone() + "\n"));
            if line.contains("base_url") {
                break;
            }
        }
        Self { child, introduction }
    }

    fn address(&self) -> &str {
        let start = self.introduction.find("http://").unwrap();
        self.introduction[start + 7..].split('/').next().unwrap()
    }
}

impl Drop for RunningSandbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_configuration_that_the_sandbox_prints_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = RunningSandbox::start(folder.path(), &["--listen", "127.0.0.1:0", "--speed", "1x"]);
    let accounts = &sandbox.introduction[sandbox.introduction.find("accounts:").unwrap()..];
    let rest = "notifiers:\n  slack: { type: slack, webhook_url: \"http://127.0.0.1:9/x\" }\nrules:\n  funds: { metric: available_funds, warning: { below: 8000 }, critical: { below: 500 } }\n";
    std::fs::write(folder.path().join("alerts.yaml"), format!("{accounts}{rest}")).unwrap();
    let ran = lowtide(&["check"], folder.path()).output().unwrap();
    let table = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(ran.status.code(), Some(1), "{table}");
    assert!(table.contains("USD 6,200.00"), "{table}");

    let second = lowtide(&["sandbox", "--listen", sandbox.address()], folder.path()).output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains(sandbox.address()) && said.contains("choose another address with --listen"), "{said}");
}
