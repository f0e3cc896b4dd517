//! `lowtide sandbox`: a simulated CertCentral on loopback, until SIGTERM or SIGINT.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::args::Story;
use super::{Exit, report_problems};
use crate::cli::output::{grumble, say};
use crate::config::scenario;
use crate::sandbox::clock::FastClock;
use crate::sandbox::scenario::{SHIPPED, Scenario};
use crate::sandbox::server::{API_KEY, PATH, Sandbox};
use crate::util::clock::{Clock, SystemClock};
use crate::util::text::clean;

/// A shipped scenario by its name, or one of the user's own by its file.
pub(super) fn find(story: &Story) -> Result<Scenario, Exit> {
    let wanted = story.scenario.as_str();
    let (shown, found) = match SHIPPED.iter().find(|(name, _)| *name == wanted) {
        Some((name, text)) => (Path::new(name), scenario::parse(name, text)),
        None if wanted.contains(['/', '.']) || Path::new(wanted).exists() => {
            (Path::new(wanted), scenario::load(Path::new(wanted)))
        }
        None => {
            let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
            let near = crate::util::text::nearest(wanted, names.iter().copied());
            let near = near.map_or_else(String::new, |name| format!("; did you mean {name}?"));
            grumble!("lowtide: --scenario {}: no such scenario{near}", clean(wanted));
            grumble!("There are {}; or give the path of a file of your own.", names.join(", "));
            return Err(Exit::Usage);
        }
    };
    found.map_err(|problems| {
        report_problems(shown, &problems);
        Exit::Config
    })
}

pub(super) async fn run(listen: SocketAddr, story: &Story, speed: u32, passed: Duration) -> Exit {
    let scenario = match find(story) {
        Ok(scenario) => scenario,
        Err(exit) => return exit,
    };
    let stop = match super::stop_signal() {
        Ok(stop) => stop,
        Err(exit) => return exit,
    };
    let listener = match TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) => {
            grumble!("lowtide: cannot listen on {listen}: {error}; choose another address with --listen");
            return Exit::Failure;
        }
    };
    let address = listener.local_addr().unwrap_or(listen);
    let now = SystemClock.now();
    let clock: Arc<dyn Clock> = Arc::new(FastClock::new(now, speed));
    let sandbox = Sandbox::started(scenario.clone(), story.seed, now - passed, clock, Arc::new(()));
    introduce(&scenario, story.seed, speed, address);
    tokio::select! {
        () = stop => Exit::Success,
        served = sandbox.serve(listener) => {
            let why = served.err().map_or_else(String::new, |error| format!(": {error}"));
            grumble!("lowtide: the sandbox has ended{why}");
            Exit::Failure
        }
    }
}

/// The scenario, how fast it runs, and what happens in it.
fn title(scenario: &Scenario, seed: u64, speed: u32) -> String {
    let about = match scenario.about.as_str() {
        "" => ".".to_owned(),
        about => format!(": {}", clean(about)),
    };
    format!("Scenario {}, seed {seed}, {speed} times as fast as time{about}", clean(&scenario.name))
}

/// Where it is, and what a configuration needs to use it.
fn introduce(scenario: &Scenario, seed: u64, speed: u32, address: SocketAddr) {
    say!("A simulated CertCentral answers at http://{address}{PATH} until Ctrl-C.");
    say!("{}", title(scenario, seed, speed));
    say!("");
    say!("accounts:");
    say!("  sandbox:");
    say!("    api_key: {API_KEY}");
    say!("    base_url: http://{address}{PATH}");
    if scenario.divisions.len() > 1 {
        say!("    divisions: all");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::title;
    use crate::config::scenario::parse;

    #[test]
    fn a_scenario_is_introduced_with_what_it_is_about_if_it_says() {
        let said = |about: &str| {
            let text = format!("{about}divisions: {{ A: {{ id: 1, balance: 0 }} }}");
            title(&parse("mine", &text).unwrap(), 1, 60)
        };
        assert_eq!(said(""), "Scenario mine, seed 1, 60 times as fast as time.");
        assert_eq!(said("about: A wave.\n"), "Scenario mine, seed 1, 60 times as fast as time: A wave.");
    }
}
