//! `lowtide run`: the service, until SIGTERM or SIGINT.

use std::sync::Arc;

use super::{Context, Exit};
use crate::app;
use crate::clock::SystemClock;

pub(super) async fn run(context: &Context) -> Exit {
    let config = match context.load_or_report() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let stop = match super::stop_signal() {
        Ok(stop) => stop,
        Err(exit) => return exit,
    };
    match app::run(&config, &context.redactor, Arc::new(SystemClock), stop).await {
        Ok(()) => Exit::Success,
        Err(error) => {
            tracing::error!("{error}");
            Exit::Failure
        }
    }
}
