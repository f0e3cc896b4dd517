//! `lowtide demo`: the real service against the sandbox, with sinks for Slack and mail, all on loopback; told as a story.
//!
//! The service is what `lowtide run` starts: it reads a configuration file, over real HTTP and SMTP. Only its clock is
//! simulated: it stands still while anybody works and then moves on to the next appointment, at the pace of the demo.

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

/// Every story begins on this Monday, so that the same seed tells the same one.
const DEMO_START: &str = "2026-11-02T08:00:00Z";
/// No limit.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long nothing may stir, or the service may take to stop, in real time.
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
    // Why the service ended says more than that it did.
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

/// Everything that plays: the simulated world, the sinks, and the real service in between.
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
    /// How much of the ledger has been told.
    entries: usize,
    /// What keeps CertCentral from working, as it was last told.
    fault: Option<ApiFaultKind>,
    /// What each division owes for invoices, as it was last told.
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
        // Limits are of real time, and this time is none.
        scenario.rate_limit.clear();
        let start: Time = DEMO_START.parse().context("the story's start")?;
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
        // The environment of whoever runs the demo may hold overrides for a service of theirs.
        let loaded = config::load(&file, &Environment::new(std::iter::empty()));
        loaded.secrets.iter().for_each(|secret| context.redactor.learn(secret));
        let mut config = loaded.config.context("the demo's own configuration is wrong")?;
        config.accounts.values_mut().for_each(|account| account.connection.timeout = timing.timeout);
        let stop = CancellationToken::new();
        let state = config.state.clone();
        let (redactor, its_clock, stopped) =
            (context.redactor.clone(), Arc::clone(&clock), stop.clone().cancelled_owned());
        let service =
            tokio::spawn(async move { app::run(&config, &redactor, its_clock, RunOptions::default(), stopped).await });
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

    /// Moves the clock from appointment to appointment until the story is over, or somebody ends it.
    async fn play(
        &mut self,
        timing: &DemoTiming,
        screen: &mut DemoScreen,
        mut stop: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> anyhow::Result<()> {
        let end = self.start + timing.length;
        let deadline = timing.limit.map(|limit| Instant::now() + limit);
        let mut began = None;
        // When the clock was last moved, in real time since then.
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

    /// Waits until the service waits for its next cycle and owes nothing, and shows what came of the last one. So the
    /// same story is told on a slow machine.
    async fn wait_until_idle(&mut self, screen: &mut DemoScreen) -> anyhow::Result<()> {
        self.show_world_events(screen);
        let settled = async {
            loop {
                self.clock.wait_until_quiet(1).await;
                // The socket appears a moment after the service.
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
            why = self.failure() => return Err(why),
        };
        self.collect_messages(screen)?;
        // In the middle of a cycle, which waits for a retry, the last reading is out of date.
        if !report.accounts.iter().any(|account| account.reading) {
            screen.status(self.clock.now(), &report);
        }
        self.counts = report.counts;
        Ok(())
    }

    /// Completes when the service has ended, or nothing has stirred for too long.
    async fn failure(&self) -> anyhow::Error {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if self.service.as_ref().is_none_or(JoinHandle::is_finished) {
                return anyhow::anyhow!("the service has ended");
            }
            if self.clock.quiet_time() > STALL_TIMEOUT {
                return anyhow::anyhow!("the service does not answer");
            }
        }
    }

    /// What happened in the simulated world: the service only sees what comes of it.
    fn show_world_events(&mut self, screen: &mut DemoScreen) {
        let now = self.clock.now();
        let fault = self.world.fault();
        if fault != std::mem::replace(&mut self.fault, fault) {
            screen.show_world_event(
                now,
                &fault.map_or_else(|| "CertCentral works again".to_owned(), |it| format!("CertCentral: {it}")),
            );
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

    /// What the sinks got goes to the screen and into files.
    fn collect_messages(&mut self, screen: &mut DemoScreen) -> anyhow::Result<()> {
        let now = self.clock.now();
        for message in self.slack.take() {
            self.messages += 1;
            write_private(&self.folder.join("slack"), &format!("{:03}.json", self.messages), &pretty(&message.body))?;
            screen.slack(now, &message);
        }
        for mail in self.mail.take() {
            self.mails += 1;
            let (_, html) = mail.write(&self.folder.join("mail"), self.mails).context("an e-mail cannot be written")?;
            screen.mail(now, &mail, &html);
        }
        Ok(())
    }

    /// Ends the service as SIGTERM would, and waits for it.
    async fn stop(&mut self, screen: &mut DemoScreen) -> anyhow::Result<()> {
        self.stop.cancel();
        if let Some(service) = self.service.take() {
            tokio::time::timeout(STALL_TIMEOUT, service).await.context("the service does not stop")???;
        }
        self.collect_messages(screen)
    }
}

/// A free port on loopback.
async fn port() -> anyhow::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0").await.context("no port on loopback can be listened on")
}

/// A new folder for this demo alone, with places for what it gets. It stays: people look into it afterwards.
fn folder() -> anyhow::Result<PathBuf> {
    let all = std::path::absolute(std::env::temp_dir()).unwrap_or_else(|_| PathBuf::from("/tmp"));
    let mut tries = 1;
    let folder = loop {
        let folder = all.join(format!("lowtide-demo-{}-{tries}", std::process::id()));
        match make(&folder) {
            Ok(()) => break folder,
            // Of an earlier process with the same number.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < 1000 => tries += 1,
            Err(error) => return Err(error).with_context(|| format!("no folder can be made in {}", all.display())),
        }
    };
    for place in ["slack", "mail"].map(|name| folder.join(name)) {
        make(&place).with_context(|| format!("the folder {} cannot be made", place.display()))?;
    }
    Ok(folder)
}

/// A folder that only its owner looks into.
fn make(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(folder)
}

fn write_private(folder: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = folder.join(name);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

fn pretty(json: &serde_json::Value) -> String {
    // A value that was parsed can be written.
    serde_json::to_string_pretty(json).unwrap_or_default() + "\n"
}
