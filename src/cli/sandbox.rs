//! `lowtide sandbox`: runs a simulated CertCentral on loopback until SIGTERM or SIGINT.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::args::SimulationArgs;
use super::{Exit, report_problems};
use crate::cli::output::{print_error, print_line};
use crate::config::scenario;
use crate::sandbox::clock::FastClock;
use crate::sandbox::scenario::{SHIPPED, Scenario};
use crate::sandbox::server::{API_KEY, PATH, SandboxServer};
use crate::util::clock::{Clock, SystemClock};
use crate::util::text::clean;

/// Finds a shipped scenario by its name, or loads a custom one from its file.
pub(super) fn find(simulation: &SimulationArgs) -> Result<Scenario, Exit> {
    let name_or_path = simulation.scenario.as_str();
    let (shown, found) = match SHIPPED.iter().find(|(name, _)| *name == name_or_path) {
        Some((name, text)) => (Path::new(name), scenario::parse(name, text)),
        None if name_or_path.contains(['/', '.']) || Path::new(name_or_path).exists() => {
            (Path::new(name_or_path), scenario::load(Path::new(name_or_path)))
        }
        None => {
            let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
            let near = crate::util::text::nearest(name_or_path, names.iter().copied());
            let near = near.map_or_else(String::new, |name| format!("; did you mean {name}?"));
            print_error!("lowtide: --scenario {}: no such scenario{near}", clean(name_or_path));
            print_error!("There are {}; or give the path of a custom scenario.", names.join(", "));
            return Err(Exit::Usage);
        }
    };
    found.map_err(|problems| {
        report_problems(shown, &problems);
        Exit::Config
    })
}

pub(super) async fn run(listen: SocketAddr, simulation: &SimulationArgs, speed: u32, passed: Duration) -> Exit {
    let scenario = match find(simulation) {
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
            print_error!("lowtide: cannot listen on {listen}: {error}; choose another address with --listen");
            return Exit::Failure;
        }
    };
    let address = listener.local_addr().unwrap_or(listen);
    let now = SystemClock.now();
    let clock: Arc<dyn Clock> = Arc::new(FastClock::new(now, speed));
    let sandbox = SandboxServer::started(scenario.clone(), simulation.seed, now - passed, clock, Arc::new(()));
    print_introduction(&scenario, simulation.seed, speed, address);
    tokio::select! {
        () = stop => Exit::Success,
        served = sandbox.serve(listener) => {
            let reason = served.err().map_or_else(String::new, |error| format!(": {error}"));
            print_error!("lowtide: the sandbox stopped{reason}");
            Exit::Failure
        }
    }
}

/// Describes the scenario, its seed and its speed in one line.
fn title(scenario: &Scenario, seed: u64, speed: u32) -> String {
    let about = match scenario.about.as_str() {
        "" => ".".to_owned(),
        about => format!(": {}", clean(about)),
    };
    format!("Scenario {}, seed {seed}, at {speed} times real speed{about}", clean(&scenario.name))
}

/// Prints the address, and the part of a configuration that uses it.
fn print_introduction(scenario: &Scenario, seed: u64, speed: u32, address: SocketAddr) {
    print_line!("A simulated CertCentral answers at http://{address}{PATH} until Ctrl-C.");
    print_line!("{}", title(scenario, seed, speed));
    print_line!("");
    print_line!("accounts:");
    print_line!("  sandbox:");
    print_line!("    api_key: {API_KEY}");
    print_line!("    base_url: http://{address}{PATH}");
    if scenario.divisions.len() > 1 {
        print_line!("    divisions: all");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::title;
    use crate::config::scenario::parse;

    #[test]
    fn the_title_of_a_scenario_includes_its_description_if_any() {
        let title_of = |about: &str| {
            let text = format!("{about}divisions: {{ A: {{ id: 1, balance: 0 }} }}");
            title(&parse("mine", &text).unwrap(), 1, 60)
        };
        assert_eq!(title_of(""), "Scenario mine, seed 1, at 60 times real speed.");
        assert_eq!(title_of("about: A wave.\n"), "Scenario mine, seed 1, at 60 times real speed: A wave.");
    }
}
