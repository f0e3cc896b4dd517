//! The walk: one settled cycle a step, of every step at which something can change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Fund, Happened, Life, Part, Past, Rehearsed, Script, Skipped};
use crate::alerting::evaluate::{Blind, evaluate};
use crate::alerting::process::settle;
use crate::alerting::state::State;
use crate::backtest::past_forecasts::Hindsight;
use crate::certcentral::{BalanceSource, ListedDivision, ReadError, ReadErrorKind};
use crate::domain::alert::{Alert, Kind, Latch};
use crate::domain::balance::Balance;
use crate::domain::event::Subject;
use crate::domain::rule::{Metric, Rule, Severity, UnreadablePolicy};
use crate::domain::{Division, Name, Time};
use crate::polling::poller::{Harvest, Read, Scope, Watch};

/// Replays what the script says. `progress` hears of each step.
///
/// Steps at which nothing can change are passed over: between two changes of the ledger, two looks ahead, the end of a `for` and
/// a reminder that is due, every cycle reads what the one before it read, and moves nothing.
pub fn replay(script: &Script<'_>, progress: &mut dyn FnMut(Time)) -> Rehearsed {
    walk(script, Pace::Changes, progress)
}

/// The same, at every single step of the schedule: slow, and what [`replay`] is held against.
pub fn replay_every_step(script: &Script<'_>) -> Rehearsed {
    walk(script, Pace::Everything, &mut |_| {})
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Changes,
    Everything,
}

fn walk(script: &Script<'_>, pace: Pace, progress: &mut dyn FnMut(Time)) -> Rehearsed {
    let pasts: Vec<Past> = script.funds.iter().map(Past::of).collect();
    let (mut stage, skipped) = Stage::new(script, &pasts);
    let mut changes = stage.changes();
    changes.reverse();
    let mut step = Some(script.from);
    while let Some(now) = step.filter(|now| *now <= script.to) {
        progress(now);
        stage.settle(now);
        let next = match pace {
            Pace::Everything => script.schedule.next_after(now),
            Pace::Changes => {
                while changes.last().is_some_and(|at| *at <= now) {
                    changes.pop();
                }
                // Whatever was due by now has been done, or waits for a reading that can be judged: that takes a change.
                let soonest = stage.appointments().filter(|at| *at > now).chain(changes.last().copied()).min();
                soonest.and_then(|at| match script.schedule.first_from(script.from, at) {
                    Some(at) if at > now => Some(at),
                    _ => script.schedule.next_after(now),
                })
            }
        };
        step = next.filter(|next| *next > now);
    }
    stage.curtain(skipped)
}

/// Everything that a walk moves.
struct Stage<'a> {
    script: &'a Script<'a>,
    pasts: &'a [Past],
    hindsights: Vec<Option<Hindsight<'a>>>,
    watch: Watch,
    state: State,
    lives: BTreeMap<(Division, Name), Vec<Life>>,
    /// What is not yet known now, and was not at any step so far.
    unknown: Why,
    rehearsed: Rehearsed,
}

type Why = BTreeMap<(Division, Name), Skipped>;

impl<'a> Stage<'a> {
    fn new(script: &'a Script<'a>, pasts: &'a [Past]) -> (Self, Why) {
        let (mut skipped, mut unknown) = (Why::new(), Why::new());
        let mut hindsights = Vec::new();
        for (fund, past) in script.funds.iter().zip(pasts) {
            let watching = script.rules.iter().filter(|rule| rule.watches(script.account, fund.division));
            let (mut rules, mut blind) = (watching.clone().collect::<Vec<_>>(), Vec::new());
            let mut hindsight = Hindsight::new(fund, past, script, rules.clone());
            rules.retain(|rule| {
                let why = why_not(rule, fund, past, hindsight.as_mut(), script.to);
                let key = (fund.division, rule.name.clone());
                match why {
                    None => return true,
                    // It may have been known before: that shows on the way.
                    Some(why @ Skipped::NotYetKnown(_)) => {
                        unknown.insert(key, why);
                        return true;
                    }
                    Some(why) => blind.push((key, why)),
                }
                false
            });
            if !blind.is_empty() {
                hindsight = Hindsight::new(fund, past, script, rules);
            }
            skipped.extend(blind);
            hindsights.push(hindsight);
        }
        let stage = Self {
            script,
            pasts,
            hindsights,
            watch: watch(script, &skipped),
            state: State::default(),
            lives: BTreeMap::new(),
            unknown,
            rehearsed: Rehearsed::default(),
        };
        (stage, skipped)
    }

    /// When something may change by itself: lines of the ledgers, and looks ahead.
    fn changes(&self) -> Vec<Time> {
        let (from, to) = (self.script.from, self.script.to);
        let lines = self.pasts.iter().flat_map(|past| past.changes(from, to));
        let looks = self.hindsights.iter().flatten().flat_map(Hindsight::looks);
        let all: BTreeSet<Time> = lines.chain(looks).copied().collect();
        all.into_iter().collect()
    }

    /// When an alert may move though nothing changes: the end of its `for`, and its reminder.
    fn appointments(&self) -> impl Iterator<Item = Time> {
        self.state.alerts.iter().flat_map(|(key, known)| {
            let rule = self.watch.rules.iter().find(|rule| rule.name == key.rule);
            rule.into_iter().flat_map(|rule| due(&known.alert, rule))
        })
    }

    fn settle(&mut self, now: Time) {
        let funds = self.script.funds.iter().zip(self.pasts).zip(&mut self.hindsights);
        let read = |((fund, past), hindsight): ((&Fund, &Past), &mut Option<Hindsight<'_>>)| Read {
            division: fund.division,
            name: fund.name.clone(),
            balance: Ok(past.balance(now)),
            prospect: hindsight.as_mut().and_then(|hindsight| hindsight.at(now)),
        };
        let harvest = Harvest { reads: funds.map(read).collect(), listing_failure: None, active: None };
        let (rules, reads) = (&self.watch.rules, &harvest.reads);
        self.unknown.retain(|(division, name), _| {
            let rule = rules.iter().find(|rule| rule.name == *name);
            let read = reads.iter().find(|read| read.division == *division);
            rule.zip(read).is_none_or(|(rule, read)| evaluate(rule, &read.reading(rule)).is_err())
        });
        settle(&mut self.state, &self.watch, &harvest, now);
        self.tell();
    }

    /// Everything that is owed is delivered at once: one message a notifier.
    fn tell(&mut self) {
        let mut mail: BTreeMap<Name, BTreeSet<String>> = BTreeMap::new();
        for owed in &self.state.owed {
            for name in owed.to.keys() {
                mail.entry(name.clone()).or_default().insert(owed.event.id.clone());
            }
            let Subject::Threshold(event) = &owed.event.subject else { continue };
            let lives = self.lives.entry((event.key.division, event.key.rule.clone())).or_default();
            if event.kind == Kind::Raised || lives.is_empty() {
                lives.push(Life::default());
            }
            let happened = Happened {
                at: owed.event.at,
                kind: event.kind,
                level: event.level,
                since: event.since,
                value: event.value,
                threshold: event.threshold,
                told: owed.event.audience.clone(),
            };
            if let Some(life) = lives.last_mut() {
                life.events.push(happened);
            }
        }
        for (name, ids) in mail {
            let told = self.rehearsed.told.entry(name.clone()).or_default();
            told.messages += 1;
            told.events += u64::try_from(ids.len()).unwrap_or(u64::MAX);
            self.state.delivered(&name, &ids, None, &[]);
        }
        // What nobody is to be told is not owed either.
        self.state.owed.clear();
    }

    fn curtain(mut self, mut skipped: Why) -> Rehearsed {
        skipped.append(&mut self.unknown);
        for fund in self.script.funds {
            let rules = self.script.rules.iter().filter(|rule| rule.watches(self.script.account, fund.division));
            for rule in rules {
                let key = (fund.division, rule.name.clone());
                let lives = match skipped.remove(&key) {
                    Some(why) => Err(why),
                    None => Ok(self.lives.remove(&key).unwrap_or_default()),
                };
                self.rehearsed.parts.push(Part { rule: rule.name.clone(), division: fund.division, lives });
            }
        }
        self.rehearsed
    }
}

/// When this alert may move though its readings stay.
fn due(alert: &Alert, rule: &Rule) -> Vec<Time> {
    let after = |at: Time, pause: Duration| {
        chrono::Duration::from_std(pause).ok().and_then(|pause| at.checked_add_signed(pause))
    };
    let latch = |severity, latch: Option<Latch>| {
        let latch = latch.filter(|latch| !latch.firing)?;
        after(latch.since, rule.level(severity)?.hold)
    };
    let reminder = || after(alert.last_event?, rule.level(alert.firing()?)?.remind_every?);
    [latch(Severity::Warning, alert.warning), latch(Severity::Critical, alert.critical), reminder()]
        .into_iter()
        .flatten()
        .collect()
}

/// Why this rule cannot be rehearsed on this fund, as far as the present tells.
fn why_not(rule: &Rule, fund: &Fund, past: &Past, hindsight: Option<&mut Hindsight<'_>>, to: Time) -> Option<Skipped> {
    match rule.metric {
        Metric::UnpaidInvoices => return Some(Skipped::NoHistory("unpaid invoices")),
        Metric::UsedCredit => return Some(Skipped::NoHistory("the credit that other divisions use")),
        _ => {}
    }
    let read = Read {
        division: fund.division,
        name: None,
        balance: Ok(past.balance(to)),
        prospect: hindsight.and_then(|hindsight| hindsight.at(to)),
    };
    let reading = read.reading(rule);
    match evaluate(rule, &reading) {
        Err(Blind::Unreadable(why)) => Some(Skipped::Unreadable(why.reason)),
        Err(Blind::NotYetRead(why)) => Some(Skipped::Unreadable(why)),
        Err(Blind::NotYetKnown(why)) => Some(Skipped::NotYetKnown(why)),
        Ok(_) => None,
    }
}

/// A watch on these funds that reads nothing.
fn watch(script: &Script<'_>, skipped: &Why) -> Watch {
    let listed: Vec<u64> = script.funds.iter().filter_map(|fund| fund.division).collect();
    let sees = |rule: &Rule, division: Division| {
        rule.watches(script.account, division) && !skipped.contains_key(&(division, rule.name.clone()))
    };
    // A rule that cannot be rehearsed on one fund may be on its neighbour.
    let narrowed = |rule: &Rule| {
        let mut seen =
            script.funds.iter().map(|fund| fund.division).filter(|division| sees(rule, *division)).peekable();
        seen.peek()?;
        let divisions: BTreeSet<u64> = seen.flatten().collect();
        let mut rule = rule.clone();
        rule.divisions = if divisions.is_empty() { rule.divisions } else { Some(divisions) };
        Some(rule)
    };
    let rules: Vec<Rule> = script.rules.iter().filter_map(narrowed).collect();
    Watch {
        account: script.account.clone(),
        source: Arc::new(Nobody),
        scope: if listed.is_empty() { Scope::Undivided } else { Scope::Listed(listed) },
        rules: rules.into(),
        unreadable: Arc::new(UnreadablePolicy {
            after: Duration::MAX,
            level: Severity::Warning,
            remind_every: None,
            notify: Vec::new(),
        }),
        silences: Arc::new([]),
        incident_notifiers: Arc::new(script.incident_notifiers.clone()),
        library: None,
    }
}

/// Answers nothing: a rehearsal reads nothing.
struct Nobody;

impl Nobody {
    fn refuse() -> ReadError {
        ReadError { kind: ReadErrorKind::Refused, reason: "a rehearsal reads nothing".to_owned() }
    }
}

#[async_trait]
impl BalanceSource for Nobody {
    async fn balance(&self, _: Division) -> Result<Balance, ReadError> {
        Err(Self::refuse())
    }

    async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError> {
        Err(Self::refuse())
    }
}
