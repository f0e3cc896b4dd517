//! Speed of the demo: the real time at which each simulated time is due. Pure.

use std::time::Duration;

use crate::sandbox::scenario::{ApiFaultKind, Scenario};

/// Default length of the demo, in real time.
const DEFAULT_SECONDS: u32 = 60;
/// Extra time that a slow machine gets.
const OVERTIME: Duration = Duration::from_secs(60);
/// Timeout of the service's requests, unless many of them will time out.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Lower bound of the timeout, within which a loaded machine still answers.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(200);
/// Average time between two requests for a division's ledger during an outage: every ten minutes with one retry.
const LEDGER_REQUEST_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Divisor that gives the part of the run that timeouts may take.
const MAX_TIMEOUT_FRACTION: u32 = 4;

/// The speed of simulated time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DemoSpeed {
    /// A multiple of real time.
    Multiple(u32),
    /// A speed with which the run ends after this real time.
    Within(Duration),
}

/// Speed of simulated time, and the latest end of the run.
#[derive(Debug)]
pub(super) struct DemoTiming {
    pub(super) speed: DemoSpeed,
    /// Simulated length of the scenario.
    pub(super) length: Duration,
    /// Latest end of the run, in real time since its start.
    pub(super) limit: Option<Duration>,
    /// Timeout of the service's requests. Timeouts take real time, during which the simulated clock stands still.
    pub(super) timeout: Duration,
    /// Periods in which requests get no response.
    hangs: Vec<(Duration, Duration)>,
    divisions: u32,
}

impl DemoTiming {
    pub(super) fn new(scenario: &Scenario, speed: Option<u32>, seconds: Option<u32>) -> Self {
        let length = scenario.length;
        let within = |seconds: u32| Duration::from_secs(u64::from(seconds));
        let demo_speed =
            speed.map_or_else(|| DemoSpeed::Within(within(seconds.unwrap_or(DEFAULT_SECONDS))), DemoSpeed::Multiple);
        let (target, limit) = match demo_speed {
            DemoSpeed::Multiple(speed) => (length / speed.max(1), seconds.map(within)),
            DemoSpeed::Within(target) => (target, Some(target + OVERTIME)),
        };
        let hangs = scenario.faults.iter().filter(|fault| fault.kind == ApiFaultKind::Hang);
        let hangs = hangs.map(|fault| (fault.from.min(length), (fault.from + fault.length).min(length))).collect();
        let divisions = u32::try_from(scenario.divisions.len()).unwrap_or(u32::MAX);
        let mut timing = Self { speed: demo_speed, length, limit, timeout: LONGEST_TIMEOUT, hangs, divisions };
        if let Some(each) = (target / MAX_TIMEOUT_FRACTION).checked_div(timing.unanswered(Duration::ZERO)) {
            timing.timeout = each.clamp(SHORTEST_TIMEOUT, LONGEST_TIMEOUT);
        }
        timing
    }

    /// Returns the real time at which the simulated time `next` is due, if the simulated time `now` was reached at the real
    /// time `reached`. All times count from the start.
    pub(super) fn due(&self, reached: Duration, now: Duration, next: Duration) -> Duration {
        let target = match self.speed {
            DemoSpeed::Multiple(speed) => return next / speed.max(1),
            DemoSpeed::Within(target) => target,
        };
        // The remaining real time is spread evenly over the remaining simulated time, so later steps make up for a slow one.
        let waiting = self.timeout.saturating_mul(self.unanswered(now));
        let left = target.saturating_sub(reached + waiting);
        let (step, remaining) = (next.saturating_sub(now), self.length.saturating_sub(now));
        if step < remaining {
            reached + left.mul_f64(step.as_secs_f64() / remaining.as_secs_f64())
        } else {
            reached + left
        }
    }

    /// Estimates the number of requests from `now` on that get no response.
    fn unanswered(&self, now: Duration) -> u32 {
        let outage: Duration = self.hangs.iter().map(|(from, to)| to.saturating_sub(*from.max(&now))).sum();
        let each = u32::try_from(outage.as_secs() / LEDGER_REQUEST_INTERVAL.as_secs()).unwrap_or(u32::MAX);
        each.saturating_mul(self.divisions)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::scenario;
    use crate::sandbox::scenario::SHIPPED;

    const WORK: Duration = Duration::from_millis(3);
    const STEP: Duration = Duration::from_secs(10 * 60);

    fn timing(yaml: &str, speed: Option<u32>, seconds: Option<u32>) -> DemoTiming {
        DemoTiming::new(&scenario::parse("scenario.yaml", yaml).unwrap(), speed, seconds)
    }

    /// Plays a scenario step by step. Each step takes a little work, and more if requests get no response. Returns the total
    /// time and the time spent on work.
    fn play(timing: &DemoTiming) -> (Duration, Duration) {
        let (mut reached, mut worked, mut now) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        while now < timing.length {
            let next = (now + STEP).min(timing.length);
            let work = WORK + timing.timeout * (timing.unanswered(now) - timing.unanswered(next));
            (reached, worked) = ((reached + work).max(timing.due(reached, now, next)), worked + work);
            now = next;
        }
        (reached, worked)
    }

    #[test]
    fn every_scenario_ends_on_time_or_when_its_work_is_done() {
        for (name, yaml) in SHIPPED {
            for seconds in [1, 5, 20, 60, 600] {
                let timing = timing(yaml, None, Some(seconds));
                let target = Duration::from_secs(u64::from(seconds));
                let (took, worked) = play(&timing);
                let latest = target.max(worked).mul_f64(1.1) + Duration::from_secs(1);
                assert!(took >= target && took <= latest, "{name} in {target:?}: {took:?} with {worked:?} of work");
                assert!(timing.limit.unwrap() > took, "{name} in {target:?} is cut off");
            }
        }
    }

    #[test]
    fn later_steps_make_up_for_a_slow_one() {
        let timing = timing(SHIPPED[0].1, None, Some(28));
        let day = Duration::from_secs(24 * 3600);
        let seconds = Duration::from_secs;
        assert_eq!(timing.due(seconds(0), Duration::ZERO, day), seconds(1));
        // Ten seconds were lost after two days; the other 26 days share the remaining time.
        assert_eq!(timing.due(seconds(12), day * 2, day * 15), seconds(20));
        assert_eq!(timing.due(seconds(40), day * 20, day * 21), seconds(40), "a time that has passed is due at once");
        assert_eq!(timing.due(seconds(20), day * 27, day * 28), seconds(28));
    }

    #[test]
    fn a_given_speed_is_kept_and_timeouts_fit_the_length_of_the_demo() {
        let outage = SHIPPED.iter().find(|(name, _)| *name == "outage").unwrap().1;
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(
            timing(outage, Some(86_400), None).due(Duration::from_secs(99), day, day * 2),
            Duration::from_secs(2)
        );
        assert_eq!(timing(outage, Some(86_400), Some(5)).limit, Some(Duration::from_secs(5)));
        assert_eq!(timing(outage, None, Some(20)).timeout.as_millis(), 208);
        assert_eq!(timing(outage, None, None).timeout.as_millis(), 625);
        assert_eq!(timing(outage, None, Some(600)).timeout, LONGEST_TIMEOUT);
        assert_eq!(timing(outage, Some(1_000_000), None).timeout, SHORTEST_TIMEOUT);
        assert_eq!(timing(SHIPPED[0].1, None, Some(1)).timeout, LONGEST_TIMEOUT, "every request gets a response");
    }
}
