//! `lowtide run`: the service, until SIGTERM or SIGINT. SIGHUP makes it read its configuration again.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::{CommandContext, Exit};
use crate::app::{self, ConfigSource, RunOptions};
use crate::status::systemd::Supervisor;
use crate::util::clock::SystemClock;

pub(super) async fn run(context: &CommandContext) -> Exit {
    // Before anything else: from now on a hangup is a request, and no longer the end.
    let hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::error!(%error, "signals cannot be listened to");
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
