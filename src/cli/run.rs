//! `lowtide run`: the service, until SIGTERM or SIGINT.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::{Context, Exit};
use crate::app;
use crate::clock::SystemClock;

pub(super) async fn run(context: &Context) -> Exit {
    let config = match context.load_or_report() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    // Listen before anything starts, so that no signal is missed.
    let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "signals cannot be listened to");
            return Exit::Failure;
        }
    };
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    match app::run(&config, &context.redactor, Arc::new(SystemClock), stop).await {
        Ok(()) => Exit::Success,
        Err(error) => {
            tracing::error!("{error}");
            Exit::Failure
        }
    }
}
