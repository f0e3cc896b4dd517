//! `lowtide demo`: runs the real service against the sandbox, with sinks for Slack and email, all on loopback.
//!
//! The service is the one that `lowtide run` starts: it loads a configuration file and uses real HTTP and SMTP. Only its clock is
//! simulated. It stands still while any task works, and then moves on to the next time that a task waits for, at the speed of
//! the demo.

mod configuration;
mod line;
mod screen;
mod timing;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use anyhow::Context as _;
use rust_decimal::Decimal;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::screen::{DemoScreen, DemoSummary};
use self::timing::DemoTiming;
use super::args::SimulationArgs;
use super::{CommandContext, Exit, sandbox};
use crate::app::{self, RunError, RunOptions};
use crate::cli::output::print_error;
use crate::config::{self, Environment};
use crate::domain::Time;
use crate::sandbox::clock::SteppedClock;
use crate::sandbox::mail_sink::MailSink;
use crate::sandbox::scenario::{ApiFaultKind, Scenario};
use crate::sandbox::server::SandboxServer;
use crate::sandbox::slack_sink::SlackSink;
use crate::sandbox::world::SimulatedWorld;
use crate::status::control;
use crate::status::control::{ControlRequest, ServiceCounters, ServiceStatus};
use crate::util::clock::Clock;

/// Simulated start of every run, a Monday, so that the same seed gives the same run.
const DEMO_START: &str = "2026-11-02T08:00:00Z";
/// Time limit of a run without one.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Longest time without any activity, and longest time for the service to stop, in real time.
const STALL_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) async fn run(
    context: &CommandContext,
    simulation: &SimulationArgs,
    speed: Option<u32>,
    seconds: Option<u32>,
) -> Exit {
    let scenario = match sandbox::find(simulation) {
        Ok(scenario) => scenario,
        Err(exit) => return exit,
    };
    let stop = match super::stop_signal() {
        Ok(stop) => stop,
        Err(exit) => return exit,
    };
    match play_demo(context, scenario, simulation.seed, speed, seconds, stop).await {
        Ok(()) => Exit::Success,
        Err(error) => {
            print_error!("lowtide: the demo failed: {error:#}");
            Exit::Failure
        }
    }
}

async fn play_demo(
    context: &CommandContext,
    scenario: Scenario,
    seed: u64,
    speed: Option<u32>,
    seconds: Option<u32>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let timing = DemoTiming::new(&scenario, speed, seconds);
    let mut demo = DemoRun::start(context, scenario, seed, &timing).await?;
    let may_redraw = context.environment.get("TERM") != Some("dumb");
    let mut screen = DemoScreen::new(context.colour, may_redraw);
    screen.open(&demo.scenario, seed, &timing, &demo.folder);
    tokio::pin!(stop);
    let played = demo.play(&timing, &mut screen, stop.as_mut()).await;
    let closed = demo.stop(&mut screen).await;
    // The reason why the service ended says more than the fact that it did.
    closed?;
    played?;
    let summary = DemoSummary {
        counts: &demo.counts,
        passed: (demo.clock.now() - demo.start).to_std().unwrap_or_default(),
        messages: demo.messages,
        mails: demo.mails,
        scenario: &demo.scenario,
    };
    screen.close(&summary, &demo.folder);
    Ok(())
}

/// A running demo: the simulated account, the sinks, and the real service.
struct DemoRun {
    scenario: Scenario,
    folder: PathBuf,
    state: PathBuf,
    start: Time,
    clock: Arc<SteppedClock>,
    world: Arc<SandboxServer>,
    slack: SlackSink,
    mail: MailSink,
    service: Option<JoinHandle<Result<(), RunError>>>,
    stop: CancellationToken,
    messages: usize,
    mails: usize,
    counts: ServiceCounters,
    /// Number of ledger entries that were shown.
    entries: usize,
    /// Fault of the simulated API that was last shown.
    fault: Option<ApiFaultKind>,
    /// Unpaid invoices of each division that were last shown.
    unpaid: BTreeMap<u64, Decimal>,
}

fn unpaid(world: &SimulatedWorld, division: u64) -> Decimal {
    world.sheet(division).map_or(Decimal::ZERO, |sheet| sheet.unpaid_invoices)
}

impl DemoRun {
    async fn start(
        context: &CommandContext,
        mut scenario: Scenario,
        seed: u64,
        timing: &DemoTiming,
    ) -> anyhow::Result<Self> {
        // Rate limits are in real time, but simulated days pass in seconds.
        scenario.rate_limit.clear();
        let start: Time = DEMO_START.parse().context("the start of the demo is not a time")?;
        let clock = SteppedClock::new(start);
        let (api, hook, smtp) = (port().await?, port().await?, port().await?);
        let world = SandboxServer::new(scenario.clone(), seed, Arc::clone(&clock) as _, Arc::clone(&clock) as _);
        let address = api.local_addr()?;
        tokio::spawn(Arc::clone(&world).serve(api));
        let slack = SlackSink::start(hook, Arc::clone(&clock) as _)?;
        let mail = MailSink::start(smtp, Arc::clone(&clock) as _)?;
        let folder = folder()?;
        let text = configuration::text(&scenario, address, &slack.url(), mail.address());
        let file = write_private(&folder, "alerts.yaml", &text)?;
        // The environment may hold overrides that are meant for a real service.
        let loaded = config::load(&file, &Environment::new(std::iter::empty()));
        loaded.secrets.iter().for_each(|secret| context.redactor.learn(secret));
        let mut config = loaded.config.context("the demo's own configuration is invalid")?;
        config.accounts.values_mut().for_each(|account| account.connection.timeout = timing.timeout);
        let stop = CancellationToken::new();
        let state = config.state.clone();
        let (redactor, service_clock, stopped) =
            (context.redactor.clone(), Arc::clone(&clock), stop.clone().cancelled_owned());
        let service =
            tokio::spawn(
                async move { app::run(&config, &redactor, service_clock, RunOptions::default(), stopped).await },
            );
        Ok(Self {
            scenario,
            folder,
            state,
            start,
            clock,
            world,
            slack,
            mail,
            service: Some(service),
            stop,
            messages: 0,
            mails: 0,
            counts: ServiceCounters::default(),
            entries: 0,
            fault: None,
            unpaid: BTreeMap::new(),
        })
    }

    /// Moves the clock to each time that a task waits for, until the scenario is over or `stop` completes.
    async fn play(
        &mut self,
        timing: &DemoTiming,
        screen: &mut DemoScreen,
        mut stop: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> anyhow::Result<()> {
        let end = self.start + timing.length;
        let deadline = timing.limit.map(|limit| Instant::now() + limit);
        let mut began = None;
        // Real time of the last move of the clock, since the start.
        let mut reached = Duration::ZERO;
        let over = async { tokio::time::sleep_until(deadline.unwrap_or_else(|| Instant::now() + FOREVER)).await };
        tokio::pin!(over);
        loop {
            tokio::select! {
                settled = self.wait_until_idle(screen) => settled?,
                () = &mut over => return Ok(()),
                () = &mut stop => return Ok(()),
            }
            let began = *began.get_or_insert_with(Instant::now);
            let Some(next) = self.clock.next() else { continue };
            if next > end {
                return Ok(());
            }
            let since_start = |at: Time| (at - self.start).to_std().unwrap_or_default();
            let due = began + timing.due(reached, since_start(self.clock.now()), since_start(next));
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = &mut over => return Ok(()),
                () = &mut stop => return Ok(()),
            }
            reached = began.elapsed();
            self.clock.advance(next);
        }
    }

    /// Waits until the service waits for its next cycle without pending notifications, and shows the result of the last cycle.
    /// For this reason a slow machine shows the same run.
    async fn wait_until_idle(&mut self, screen: &mut DemoScreen) -> anyhow::Result<()> {
        self.show_world_events(screen);
        let settled = async {
            loop {
                self.clock.wait_until_quiet(1).await;
                // The socket appears shortly after the start of the service.
                if let Ok(report) = control::ask::<ServiceStatus>(&self.state, ControlRequest::Status).await
                    && report.pending.iter().all(|pending| pending.events == 0 || pending.failing_since.is_some())
                {
                    return report;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let report = tokio::select! {
            report = settled => report,
            error = self.failure() => return Err(error),
        };
        self.collect_messages(screen)?;
        // During a cycle that waits for a retry, the last reading is out of date.
        if !report.accounts.iter().any(|account| account.reading) {
            screen.status(self.clock.now(), &report);
        }
        self.counts = report.counts;
        Ok(())
    }

    /// Completes when the service has ended, or after too long without any activity.
    async fn failure(&self) -> anyhow::Error {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if self.service.as_ref().is_none_or(JoinHandle::is_finished) {
                return anyhow::anyhow!("the service ended");
            }
            if self.clock.quiet_time() > STALL_TIMEOUT {
                return anyhow::anyhow!("the service does not respond");
            }
        }
    }

    /// Shows the events of the simulated account, of which the service sees only the results.
    fn show_world_events(&mut self, screen: &mut DemoScreen) {
        let now = self.clock.now();
        let fault = self.world.fault();
        if fault != std::mem::replace(&mut self.fault, fault) {
            let event =
                fault.map_or_else(|| "CertCentral works again".to_owned(), |fault| format!("CertCentral: {fault}"));
            screen.show_world_event(now, &event);
        }
        let (shown, mut lines) = self.world.read_world(|world| {
            let entries = &world.entries()[self.entries..];
            let fresh = entries.iter().filter(|entry| entry.at > self.start && entry.kind != "Charge");
            (world.entries().len(), fresh.map(|entry| line::describe_entry(world, entry)).collect::<Vec<_>>())
        });
        self.entries = shown;
        let unpaid: BTreeMap<u64, Decimal> =
            self.world.read_world(|world| world.divisions().map(|(id, _)| (id, unpaid(world, id))).collect());
        for (id, amount) in &unpaid {
            let before = self.unpaid.get(id).copied().unwrap_or_default();
            lines.extend(self.world.read_world(|world| line::describe_invoices(world, *id, *amount - before)));
        }
        self.unpaid = unpaid;
        for line in &lines {
            screen.show_world_event(now, line);
        }
    }

    /// Shows the messages that arrived in the sinks, and writes them to files.
    fn collect_messages(&mut self, screen: &mut DemoScreen) -> anyhow::Result<()> {
        let now = self.clock.now();
        for message in self.slack.take() {
            self.messages += 1;
            write_private(&self.folder.join("slack"), &format!("{:03}.json", self.messages), &pretty(&message.body))?;
            screen.slack(now, &message);
        }
        for mail in self.mail.take() {
            self.mails += 1;
            let (_, html) =
                mail.write(&self.folder.join("mail"), self.mails).context("cannot write an email to a file")?;
            screen.mail(now, &mail, &html);
        }
        Ok(())
    }

    /// Stops the service in the way that SIGTERM would, and waits for it.
    async fn stop(&mut self, screen: &mut DemoScreen) -> anyhow::Result<()> {
        self.stop.cancel();
        if let Some(service) = self.service.take() {
            tokio::time::timeout(STALL_TIMEOUT, service).await.context("the service does not stop")???;
        }
        self.collect_messages(screen)
    }
}

/// Listens on a free port on loopback.
async fn port() -> anyhow::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0").await.context("cannot listen on a port on loopback")
}

/// Creates a new folder for this run, with subfolders for its messages. The folder stays, so that people can look into it.
fn folder() -> anyhow::Result<PathBuf> {
    let parent = std::path::absolute(std::env::temp_dir()).unwrap_or_else(|_| PathBuf::from("/tmp"));
    let mut tries = 1;
    let folder = loop {
        let folder = parent.join(format!("lowtide-demo-{}-{tries}", std::process::id()));
        match create_private(&folder) {
            Ok(()) => break folder,
            // An earlier process had the same id.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < 1000 => tries += 1,
            Err(error) => return Err(error).with_context(|| format!("cannot create a folder in {}", parent.display())),
        }
    };
    for subfolder in ["slack", "mail"].map(|name| folder.join(name)) {
        create_private(&subfolder).with_context(|| format!("cannot create the folder {}", subfolder.display()))?;
    }
    Ok(folder)
}

/// Creates a folder that only its owner can read.
fn create_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(folder)
}

fn write_private(folder: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = folder.join(name);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn pretty(json: &serde_json::Value) -> String {
    // Serializing a parsed value cannot fail.
    serde_json::to_string_pretty(json).unwrap_or_default() + "\n"
}
