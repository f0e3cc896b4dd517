//! The real binary between a `CertCentral` and a Slack that a test controls. Nothing leaves this machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

/// The API key of every account here.
pub const KEY: &str = "KEY-0123456789-abcdefghij";
/// The part of the webhook's address that is its credential.
pub const TOKEN: &str = "secretsecretsecret";
/// One rule with both levels.
pub const FUNDS: &str = "rules:\n  funds:\n    metric: available_funds\n    warning: { below: 2000 }\n    critical: { below: 500 }\n    notify: [slack]\n";
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the servers answer, and what they were asked.
#[derive(Default)]
struct Scene {
    balances: BTreeMap<Option<u64>, ResponseTemplate>,
    listing: Option<ResponseTemplate>,
    slack: Option<ResponseTemplate>,
    reads: BTreeMap<Option<u64>, usize>,
    told: Vec<Value>,
}

type Shared = Arc<Mutex<Scene>>;

/// `GET /finance/balance`.
struct Balances(Shared);
/// `GET /container`.
struct Listing(Shared);
/// The webhook.
struct Slack(Shared);

impl Respond for Balances {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let division = request.url.query_pairs().find(|(name, _)| name == "container_id");
        let division = division.map(|(_, id)| id.parse().unwrap());
        let mut scene = self.0.lock().unwrap();
        *scene.reads.entry(division).or_default() += 1;
        scene.balances.get(&division).cloned().unwrap_or_else(|| ResponseTemplate::new(404))
    }
}

impl Respond for Listing {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        self.0.lock().unwrap().listing.clone().unwrap_or_else(|| ResponseTemplate::new(404))
    }
}

impl Respond for Slack {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut scene = self.0.lock().unwrap();
        scene.told.push(serde_json::from_slice(&request.body).expect("Slack is sent JSON"));
        scene.slack.clone().unwrap_or_else(|| ResponseTemplate::new(200).set_body_string("ok"))
    }
}

/// A folder, a `CertCentral` and a Slack.
pub struct World {
    pub folder: TempDir,
    certcentral: MockServer,
    slack: MockServer,
    scene: Shared,
}

impl World {
    /// Begins with USD 10,000.00 in an account without divisions, and a configuration with the rule [`FUNDS`].
    pub async fn new() -> Self {
        let scene = Shared::default();
        let certcentral = MockServer::builder().start().await;
        let slack = MockServer::builder().start().await;
        let serve = |at: &'static str| Mock::given(method("GET")).and(path(at));
        serve("/finance/balance").respond_with(Balances(Arc::clone(&scene))).mount(&certcentral).await;
        serve("/container").respond_with(Listing(Arc::clone(&scene))).mount(&certcentral).await;
        let webhook = Mock::given(method("POST")).and(path(format!("/services/T/B/{TOKEN}")));
        webhook.respond_with(Slack(Arc::clone(&scene))).mount(&slack).await;
        let world = Self { folder: tempfile::tempdir().unwrap(), certcentral, slack, scene };
        world.funds("10000.00");
        world.config(FUNDS);
        world
    }

    /// Answers GET at another place of the API.
    pub async fn serve(&self, at: &str, answer: impl Respond + 'static) {
        Mock::given(method("GET")).and(path(at)).respond_with(answer).mount(&self.certcentral).await;
    }

    /// How often another place of the API was asked.
    pub async fn asked(&self, at: &str) -> usize {
        let requests = self.certcentral.received_requests().await.unwrap();
        requests.iter().filter(|request| request.url.path() == at).count()
    }

    /// Writes alerts.yaml; `extra` begins at the left margin and holds the rules.
    pub fn config(&self, extra: &str) {
        self.config_with("", extra);
    }

    /// Writes alerts.yaml with one more line in the account.
    pub fn config_with(&self, account: &str, extra: &str) {
        let text = format!(
            "schedule: every 1s\nstate: state.json\naccounts:\n  acme:\n    api_key: {KEY}\n    base_url: {}\n    {account}\nnotifiers:\n  slack:\n    type: slack\n    webhook_url: {}\n{extra}",
            self.certcentral.uri(),
            self.webhook(),
        );
        std::fs::write(self.path("alerts.yaml"), text).unwrap();
    }

    /// The webhook's address.
    pub fn webhook(&self) -> String {
        format!("{}/services/T/B/{TOKEN}", self.slack.uri())
    }

    /// A file in the world's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The account without divisions has so many US dollars, and no credit limit.
    pub fn funds(&self, amount: &str) {
        self.division_funds(None, amount);
    }

    /// A division has so many US dollars.
    pub fn division_funds(&self, division: impl Into<Option<u64>>, amount: &str) {
        let body = json!({ "balance": amount, "currency": "USD", "negative_balance_limit": "0.00" });
        self.answer(division, ResponseTemplate::new(200).set_body_json(body));
    }

    /// What asking for a balance gets from now on.
    pub fn answer(&self, division: impl Into<Option<u64>>, answer: ResponseTemplate) {
        self.scene.lock().unwrap().balances.insert(division.into(), answer);
    }

    /// The divisions: id, name, whether it is active.
    pub fn list(&self, divisions: &[(u64, &str, bool)]) {
        let item = |(id, name, active): &(u64, &str, bool)| json!({ "id": id, "name": name, "parent_id": 0, "is_active": active });
        let body = json!({ "containers": divisions.iter().map(item).collect::<Vec<_>>() });
        self.scene.lock().unwrap().listing = Some(ResponseTemplate::new(200).set_body_json(body));
    }

    /// What Slack answers from now on.
    pub fn slack_answers(&self, answer: ResponseTemplate) {
        self.scene.lock().unwrap().slack = Some(answer);
    }

    /// How often a balance was asked for.
    pub fn reads(&self, division: impl Into<Option<u64>>) -> usize {
        self.scene.lock().unwrap().reads.get(&division.into()).copied().unwrap_or_default()
    }

    /// What Slack was sent, as text.
    pub fn told(&self) -> Vec<String> {
        self.scene.lock().unwrap().told.iter().map(Value::to_string).collect()
    }

    /// What Slack was sent.
    pub fn slack_bodies(&self) -> Vec<Value> {
        self.scene.lock().unwrap().told.clone()
    }

    /// Waits until Slack was sent so many messages; the last of them.
    pub fn wait_told(&self, messages: usize) -> String {
        wait_until(&format!("message {messages} to Slack"), || self.told().len() >= messages);
        let told = self.told();
        assert_eq!(told.len(), messages, "too much was told: {told:#?}");
        told[messages - 1].clone()
    }

    /// Lets at least one whole further cycle pass, and what it owes be sent.
    pub fn let_a_cycle_pass(&self) {
        let total = || self.scene.lock().unwrap().reads.values().min().copied().unwrap_or_default();
        let before = total();
        wait_until("two more readings", || total() >= before + 2);
        std::thread::sleep(Duration::from_millis(150));
    }

    /// The state file's text; empty while there is none.
    pub fn state(&self) -> String {
        std::fs::read_to_string(self.path("state.json")).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lowtide"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.current_dir(self.folder.path()).args(args).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, &[])
    }

    /// Runs a command with more in its environment.
    pub fn run_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Ran {
        let output = self.command(args).envs(environment.iter().copied()).output().unwrap();
        Ran::from(output)
    }

    /// Starts `lowtide run`, with its log as JSON.
    pub fn start(&self) -> Service {
        self.start_with(&["run", "--log-format", "json"])
    }

    /// Starts the service in another way.
    pub fn start_with(&self, args: &[&str]) -> Service {
        Self::spawn(self.command(args))
    }

    /// Starts the service from a shell that runs `first` before it becomes the service.
    pub fn start_after(&self, first: &str) -> Service {
        let binary = env!("CARGO_BIN_EXE_lowtide");
        let mut command = self.command(&[]);
        let line = format!("{first}; exec \"$0\" run --log-format json");
        let mut shell = Command::new("sh");
        shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.current_dir(self.folder.path()).args(["-c", &line, binary]).stdin(Stdio::null());
        command = shell;
        Self::spawn(command)
    }

    /// Starts the service as the user who owns nothing but the world's folder: for root, permissions mean nothing.
    pub fn start_unprivileged(&self) -> Service {
        use std::os::unix::fs::{MetadataExt, chown};
        use std::os::unix::process::CommandExt;
        let mut command = self.command(&["run", "--log-format", "json"]);
        if std::fs::metadata(self.folder.path()).unwrap().uid() == 0 {
            chown(self.folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        Self::spawn(command)
    }

    /// Starts `lowtide run` with its standard error somewhere else: its log is not seen.
    pub fn start_with_stderr(&self, stderr: impl Into<Stdio>) -> Service {
        let mut command = self.command(&["run", "--log-format", "json"]);
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        Service { child, log: Arc::default(), reader: None }
    }

    /// Starts a command whose output nobody wants.
    pub fn start_command(&self, args: &[&str]) -> Service {
        let mut command = self.command(args);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Service { child, log: Arc::default(), reader: None }
    }

    /// Starts a command that prints everything to `output`.
    pub fn start_command_to(&self, args: &[&str], output: std::io::PipeWriter) -> Service {
        let mut command = self.command(args);
        let child = command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        Service { child, log: Arc::default(), reader: None }
    }

    fn spawn(mut command: Command) -> Service {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, to) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        let reader = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                to.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Service { child, log, reader: Some(reader) }
    }
}

/// A user without rights.
pub const NOBODY: u32 = 65534;

/// Whether the test runs as root, for whom permissions mean nothing.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(tempfile::tempdir().unwrap().path()).unwrap().uid() == 0
}

/// What a command ended with.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Ran {
    /// Everything that it printed.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Its standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A running service; killed when it is dropped.
pub struct Service {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Service {
    /// Its log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The events in its log so far: `raised funds/acme`.
    pub fn events(&self) -> Vec<String> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|line| Some(format!("{} {}", line["event"].as_str()?, line["alert"].as_str()?))).collect()
    }

    /// Waits until so many events are in its log, and expects these, in whatever order.
    pub fn expect_events(&self, expected: &[&str]) {
        wait_until(&format!("{expected:?}"), || self.events().len() >= expected.len());
        let (mut events, mut expected) = (self.events(), expected.to_vec());
        events.sort();
        expected.sort_unstable();
        assert_eq!(events, expected);
    }

    /// Waits for an event in its log.
    pub fn wait_event(&self, event: &str) {
        wait_until(event, || self.events().iter().any(|it| it == event));
    }

    /// How many cycles have ended.
    pub fn cycles(&self) -> usize {
        self.log().matches("cycle done").count()
    }

    /// Waits until so many cycles have ended.
    pub fn wait_cycles(&self, cycles: usize) {
        wait_until(&format!("{cycles} cycles"), || self.cycles() >= cycles);
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Asks it to read its configuration again.
    pub fn hangup(&self) {
        self.signal("-HUP");
    }

    /// Asks it to stop, with SIGTERM, and waits. Its exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal("-TERM");
        self.wait()
    }

    /// Asks it to stop, and waits for a good end. Its whole log.
    pub fn stop_with_log(mut self) -> String {
        self.signal("-TERM");
        assert_eq!(self.wait(), Some(0));
        self.log()
    }

    /// Asks it to stop, with SIGINT, and waits. Its exit code.
    pub fn interrupt(mut self) -> Option<i32> {
        self.signal("-INT");
        self.wait()
    }

    /// Waits until SIGTERM and SIGINT would not end it any more without its doing.
    pub fn wait_until_signals_are_caught(&self) {
        let status = || std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok();
        if status().is_none() {
            return std::thread::sleep(Duration::from_secs(3)); // a system without /proc
        }
        wait_until("the signals to be caught", || {
            let status = status().unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default().trim();
            let wanted = 1 << (15 - 1) | 1 << (2 - 1);
            u64::from_str_radix(caught, 16).unwrap_or_default() & wanted == wanted
        });
    }

    /// Sends it a signal, and waits. Its exit code; `None` if the signal itself has ended it.
    pub fn end(mut self, signal: &str) -> Option<i32> {
        self.signal(signal);
        self.wait()
    }

    /// Ends it without asking.
    pub fn kill(mut self) {
        self.signal("-KILL");
        assert_eq!(self.wait(), None);
    }

    /// Waits for its end. Its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the end of the service", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status.unwrap().code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the service\n{}---", self.log());
        }
    }
}

/// Waits until a condition holds; fails the test if it does not come true.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
