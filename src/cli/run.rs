//! `lowtide run`: runs the service until SIGTERM or SIGINT. SIGHUP reloads its configuration.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::{CommandContext, Exit};
use crate::app::{self, ConfigSource, RunOptions};
use crate::status::systemd::Supervisor;
use crate::util::clock::SystemClock;

pub(super) async fn run(context: &CommandContext) -> Exit {
    // First of all: from now on SIGHUP is a request to reload and no longer ends the process.
    let hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::error!(%error, "cannot listen for signals");
            return Exit::Failure;
        }
    };
    let loaded = context.load();
    let sources = loaded.sources.clone();
    let config = match context.report(loaded) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let stop = match super::stop_signal() {
        Ok(stop) => stop,
        Err(exit) => return exit,
    };
    let source = ConfigSource::new(context.file.clone(), context.environment.clone(), sources, hangup);
    let variable = |name| context.environment.get(name);
    let supervisor = Supervisor::new(variable("NOTIFY_SOCKET"), variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
    let options = RunOptions { source: Some(source), supervisor };
    match app::run(&config, &context.redactor, Arc::new(SystemClock), options, stop).await {
        Ok(()) => Exit::Success,
        Err(error) => {
            tracing::error!("{error}");
            Exit::Failure
        }
    }
}
