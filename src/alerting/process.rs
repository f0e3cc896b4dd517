//! (state, harvest, now) → (state, news): the pure middle of a cycle, and the one place where a reading becomes an event.
//!
//! No I/O, no clock, no logging: what happened comes back as [`News`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::alerting::evaluate::{Blind, LevelVerdict, Standing, Verdict, evaluate_in};
use crate::alerting::state::{NewEvent, OwedIndex, Remembered, State};
use crate::domain::alert::{AlertKey, Kind, Move, Status, transition};
use crate::domain::balance::{Balance, Outlook, Reading, Unreadable};
use crate::domain::event::{Subject, Threshold, ThresholdEvent, UnreadableEvent, Value};
use crate::domain::money::Currency;
use crate::domain::rule::{Rule, Severity, UNREADABLE};
use crate::domain::silence::{Note, Silence, hear};
use crate::domain::{Division, Name, Time};
use crate::polling::poller::{CycleTime, Harvest, Read, Scope, Watch};

/// One line of news for the log.
pub struct News {
    /// The event's name.
    pub kind: &'static str,
    /// `rule/account/division`.
    pub alert: String,
    /// Whether it is about a balance that cannot be read.
    pub of_unreadable: bool,
    /// The level, or `-`.
    pub level: String,
    /// A sentence.
    pub text: &'static str,
}

impl News {
    /// The name that the event is counted under: that an account is unreadable is another thing than that it is low.
    pub fn counted_as(&self) -> String {
        if self.of_unreadable { format!("unreadable_{}", self.kind) } else { self.kind.to_owned() }
    }
}

/// What settling did.
pub struct Settled {
    /// The events.
    pub news: Vec<News>,
    /// Whether the state changed.
    pub changed: bool,
    /// Whether everything that the rules look at could be read and evaluated.
    pub good: bool,
}

/// Applies a harvest to the state: judges every rule, moves every alert, owes every event. At most one event an alert.
pub fn settle(state: &mut State, watch: &Watch, harvest: &Harvest, time: impl Into<CycleTime>) -> Settled {
    let CycleTime { planned: now, settled: queued_at } = time.into();
    let changed = state.drop_ended_silences(now);
    let (unreadable, good) = (UNREADABLE.into(), harvest.listing_failure.is_none());
    let mut desk = Desk { state, watch, now, queued_at, news: Vec::new(), changed, good, unreadable, owed: None };
    if let Some(active) = &harvest.active {
        desk.end_gone_divisions(active);
    }
    if matches!(watch.scope, Scope::All(_)) {
        let blind = harvest.reads.is_empty();
        let known =
            Known { reason: harvest.listing_failure.as_ref().map(|why| why.reason.clone()), ..Known::default() };
        desk.settle_unreadable(None, known, harvest.listing_failure.as_ref(), |key| {
            blind && key.account == watch.account
        });
    }
    for read in &harvest.reads {
        desk.settle_read(read);
    }
    Settled { news: desk.news, changed: desk.changed, good: desk.good }
}

/// The state on the table while one harvest is settled.
struct Desk<'a> {
    state: &'a mut State,
    watch: &'a Watch,
    /// What alerts are judged by.
    now: Time,
    /// What events are stamped with.
    queued_at: Time,
    news: Vec<News>,
    changed: bool,
    good: bool,
    /// The name of the unreadable alert, to share.
    unreadable: Name,
    /// What is owed, once anything is.
    owed: Option<OwedIndex>,
}

/// What is remembered of an alert beside its life.
#[derive(Default)]
struct Known<'a> {
    /// The division's name.
    name: Option<&'a str>,
    /// Why it is unreadable.
    reason: Option<String>,
    /// The rules that cannot be judged though the balance was read.
    blind: Vec<Name>,
    /// The currency of the reading.
    currency: Option<Currency>,
}

/// What keeps the rules of one division from being evaluated.
#[derive(Default)]
struct Problems {
    failures: Vec<Unreadable>,
    /// Rules of which a level, or all, cannot be evaluated.
    blind: BTreeSet<Name>,
    /// Those of them whose alerts stand still.
    still: BTreeSet<Name>,
    /// Something is being read for the first time: whether it can be is not known, so nothing is readable *again*.
    in_the_dark: bool,
}

/// What somebody is told of one alert.
struct Telling {
    /// What happened, as those who are told see it.
    moved: Move,
    /// Who is told.
    recipients: BTreeSet<Name>,
    /// Who must not be told, not even in place of another.
    kept_from: BTreeSet<Name>,
    /// The threads of those who were told before.
    threads: BTreeMap<Name, Option<String>>,
    /// The silence that the message shows.
    silence: Option<Note>,
}

impl Desk<'_> {
    fn key(&self, division: Division, rule: &Name) -> AlertKey {
        AlertKey { account: self.watch.account.clone(), division, rule: rule.clone() }
    }

    /// The alerts of a division, or (`None`) of the whole account, without a look at all the others.
    fn alerts_below(&self, division: Division) -> impl Iterator<Item = (&AlertKey, &Remembered)> {
        let account = self.watch.account.clone();
        let first = AlertKey { account: account.clone(), division, rule: "".into() };
        let below = move |key: &AlertKey| key.account == account && (division.is_none() || key.division == division);
        self.state.alerts.range(first..).take_while(move |(key, _)| below(key))
    }

    fn settle_read(&mut self, read: &Read) {
        let mut problems = Problems::default();
        let rules = Arc::clone(&self.watch.rules);
        match &read.balance {
            Err(why) => problems.failures.push(why.clone()),
            Ok(balance) => {
                for rule in rules.iter().filter(|rule| rule.watches(&self.watch.account, read.division)) {
                    self.judge(rule, read, balance, &mut problems);
                }
            }
        }
        let Problems { failures, blind, still, in_the_dark } = problems;
        let all_blind = read.balance.is_err();
        let account = self.watch.account.clone();
        let stands_still = |key: &AlertKey| {
            key.account == account && key.division == read.division && (all_blind || still.contains(&key.rule))
        };
        let failure = worst(failures);
        self.good &= failure.is_none();
        if failure.is_none() && in_the_dark {
            return;
        }
        if self.watch.scope == Scope::Undivided || read.division.is_some() {
            let known = Known {
                name: read.name.as_deref(),
                reason: failure.as_ref().map(|why| why.reason.clone()),
                blind: blind.into_iter().collect(),
                currency: None,
            };
            self.settle_unreadable(read.division, known, failure.as_ref(), stands_still);
        }
    }

    /// Settles what one rule makes of a balance, and notes what keeps it from that.
    fn judge(&mut self, rule: &Rule, read: &Read, balance: &Balance, problems: &mut Problems) {
        let reading = read.reading(rule);
        let (problem, stands_still) = match evaluate_in(rule, &reading, self.alerted_in(rule, read)) {
            Ok(verdict) => {
                self.settle_rule(rule, read, balance, &reading, &verdict);
                let still = verdict.problem.is_some() && self.fires_unevaluated(rule, read, &verdict);
                (verdict.problem.map(|why| *why), still)
            }
            Err(Blind::Unreadable(why)) => (Some(why), true),
            Err(Blind::NotYetKnown(_)) => (None, false),
            Err(Blind::NotYetRead(_)) => {
                problems.in_the_dark = true;
                (None, false)
            }
        };
        let Some(why) = problem else { return };
        problems.failures.push(why);
        problems.blind.insert(rule.name.clone());
        if stands_still {
            problems.still.insert(rule.name.clone());
        }
    }

    /// Whether the level that a rule's alert fires at is one that could not be evaluated.
    fn fires_unevaluated(&self, rule: &Rule, read: &Read, verdict: &Verdict) -> bool {
        let known = self.state.alerts.get(&self.key(read.division, &rule.name));
        known.and_then(|known| known.alert.firing()).is_some_and(|level| !verdict.is_evaluated(level))
    }

    /// The currency of the amounts that a rule's alert fires on, while it does.
    fn alerted_in(&self, rule: &Rule, read: &Read) -> Option<Currency> {
        let known = self.state.alerts.get(&self.key(read.division, &rule.name))?;
        known.currency.filter(|_| known.alert.firing().is_some())
    }

    fn settle_rule(&mut self, rule: &Rule, read: &Read, balance: &Balance, reading: &Reading, verdict: &Verdict) {
        let remind = |severity| rule.level(severity).and_then(|level| level.remind_every);
        let key = self.key(read.division, &rule.name);
        let (value, currency) = match reading {
            Reading::Amount(money) => (Value::Amount(*money), Some(money.currency)),
            Reading::Time(lasts) => (Value::Time(*lasts), None),
            Reading::Unlimited | Reading::NotYetKnown(_) | Reading::NotYetRead(_) | Reading::Unreadable(_) => {
                (Value::Unlimited, None)
            }
        };
        // A level that was not evaluated fires on the amount of before.
        let before = verdict.problem.as_ref().and_then(|_| self.alerted_in(rule, read));
        let known = Known { name: read.name.as_deref(), currency: before.or(currency), ..Known::default() };
        let notify = |severity| rule.level(severity).map(|level| level.notify.as_slice()).unwrap_or_default();
        let Some(telling) = self.advance(&key, known, verdict, remind, notify) else { return };
        let moved = telling.moved;
        // What is over is over for both levels: the milder threshold is the one that the reader wants to be back above.
        let evaluated = |severity| rule.level(severity).filter(|_| verdict.is_evaluated(severity));
        let milder = evaluated(Severity::Warning).filter(|_| moved.kind == Kind::Resolved);
        let goes_on = moved.kind != Kind::Resolved;
        let judged_by = milder.or_else(|| evaluated(moved.level));
        let subject = Subject::Threshold(ThresholdEvent {
            division_name: read.name.clone(),
            kind: moved.kind,
            level: moved.level,
            since: moved.since,
            metric: rule.metric,
            within: rule.within(),
            value,
            threshold: judged_by.map(|level| Threshold {
                side: level.side(),
                // The level's own currency is that of the reading, or there is none in the reading.
                bound: level.threshold().or_in(currency.or(level.currency())),
            }),
            breakdown: balance.breakdown(),
            next_reminder: self.next_reminder(moved, remind(moved.level)),
            ahead: read.prospect.as_ref().filter(|_| goes_on).and_then(|it| it.ahead(rule)).map(Box::new),
            chart: read.prospect.as_ref().filter(|_| goes_on).and_then(|it| it.chart(rule)).map(Arc::new),
            key,
        });
        self.owe(subject, telling);
    }

    /// The alert of its own about what cannot be read. `stands_still` tells which alerts it keeps from moving.
    fn settle_unreadable(
        &mut self,
        division: Division,
        known: Known,
        failure: Option<&Unreadable>,
        stands_still: impl Fn(&AlertKey) -> bool,
    ) {
        let policy = Arc::clone(&self.watch.unreadable);
        let standing = if failure.is_some() { Standing::Breached } else { Standing::Clear };
        let at_once = failure.is_some_and(|why| why.outlook == Outlook::NeedsAction);
        let hold = if at_once { Duration::ZERO } else { policy.after };
        let verdict = Verdict::single(policy.level, LevelVerdict { standing, hold });
        let key = self.key(division, &self.unreadable);
        self.move_to_level(&key, policy.level);
        let (name, reason) = (known.name, known.reason.clone());
        // It is about such rules once it ever was: what ends it speaks for both.
        let before = || self.state.alerts.get(&key).map(|before| before.blind.clone());
        let blind = if failure.is_some() { known.blind.clone() } else { before().unwrap_or_default() };
        let (remind, notify) = (|_| policy.remind_every, |_| policy.notify.as_slice());
        let Some(telling) = self.advance(&key, known, &verdict, remind, notify) else { return };
        let moved = telling.moved;
        let standing_still = self
            .alerts_below(division)
            .filter(|(key, _)| failure.is_some() && *key.rule != *UNREADABLE && stands_still(key));
        let standing_still =
            standing_still.filter_map(|(key, known)| Some((key.clone(), known.alert.firing()?))).collect();
        let subject = Subject::Unreadable(UnreadableEvent {
            division_name: name.map(str::to_owned),
            kind: moved.kind,
            level: moved.level,
            since: moved.since,
            reason,
            outlook: failure.map(|why| why.outlook),
            standing_still,
            blind,
            next_reminder: self.next_reminder(moved, policy.remind_every),
            key,
        });
        self.owe(subject, telling);
    }

    /// `unreadable.level` was edited while the alert lives: it goes on at the new level, which is no news.
    fn move_to_level(&mut self, key: &AlertKey, level: Severity) {
        let Some(known) = self.state.alerts.get_mut(key) else { return };
        let alert = &mut known.alert;
        let (from, to) = match level {
            Severity::Warning => (&mut alert.critical, &mut alert.warning),
            Severity::Critical => (&mut alert.warning, &mut alert.critical),
        };
        if let Some(latch) = from.take() {
            self.changed = true;
            to.get_or_insert(latch);
        }
    }

    /// Moves one alert, whatever silences there are, and remembers it. Returns what somebody is told of it.
    fn advance<'n>(
        &mut self,
        key: &AlertKey,
        known: Known,
        verdict: &Verdict,
        remind: impl Fn(Severity) -> Option<Duration>,
        notify: impl Fn(Severity) -> &'n [Name],
    ) -> Option<Telling> {
        let before = self.state.alerts.get(key).cloned().unwrap_or_default();
        let (mut alert, moved) = transition(&before.alert, verdict, remind, self.now);
        let silences = self.silences(key);
        let hearing = hear(before.hushed.as_ref(), &before.alert, &alert, moved, &silences, self.now);
        if hearing.told.is_some() && self.owed.is_none() {
            self.owed = Some(OwedIndex::of(self.state));
        }
        let telling = hearing.told.map(|moved| {
            let (recipients, kept_from) = self.recipients(key, moved, &notify);
            Telling { moved, recipients, kept_from, threads: before.alert.told.clone(), silence: hearing.note }
        });
        self.report(key, moved, telling.as_ref().map(|telling| telling.moved));
        if telling.is_some() && alert.firing().is_some() {
            alert.last_event = Some(self.now);
        }
        if alert.status() == Status::Ok {
            self.changed |= self.state.alerts.remove(key).is_some();
        } else {
            let division_name = known.name.map(str::to_owned).or_else(|| before.division_name.clone());
            let currency = known.currency.or(before.currency);
            let blind = if known.blind.is_empty() { before.blind.clone() } else { known.blind };
            let (reason, hushed) = (known.reason, hearing.hushed);
            let after = Remembered { alert, division_name, reason, blind, currency, hushed };
            if after != before {
                self.changed = true;
                self.state.alerts.insert(key.clone(), after);
            }
        }
        telling
    }

    /// The silences in force that are about this alert.
    fn silences(&self, key: &AlertKey) -> Vec<&Silence> {
        let all = self.state.silences.values().chain(self.watch.silences.iter());
        all.filter(|silence| silence.matches(key) && silence.in_force(self.now)).collect()
    }

    /// The notifiers of the level, or those that were notified before; of an easing both, since it may be the first that
    /// warning's notifiers hear of the alert. And those that it is kept from: an easing would open an incident anew, and page
    /// again, where somebody has closed it.
    fn recipients<'n>(
        &self,
        key: &AlertKey,
        moved: Move,
        notify: impl Fn(Severity) -> &'n [Name],
    ) -> (BTreeSet<Name>, BTreeSet<Name>) {
        let of_the_level: BTreeSet<Name> = notify(moved.level).iter().cloned().collect();
        match moved.kind {
            Kind::Raised | Kind::Escalated | Kind::Reminder => (of_the_level, BTreeSet::new()),
            Kind::Resolved => (self.told_or_owed(key), BTreeSet::new()),
            Kind::Eased => {
                let kept_from = &*self.watch.incident_notifiers - &of_the_level;
                (&(&self.told_or_owed(key) | &of_the_level) - &kept_from, kept_from)
            }
        }
    }

    /// Where nothing of an alert is owed, nobody need look for it.
    fn told_or_owed(&self, key: &AlertKey) -> BTreeSet<Name> {
        let may_owe = self.owed.as_ref().is_none_or(|owed| owed.may_owe(key));
        if may_owe { self.state.told_or_owed(key) } else { self.state.told(key).collect() }
    }

    /// A line for the log: what happened to the alert, and whether people hear of it.
    fn report(&mut self, key: &AlertKey, moved: Option<Move>, told: Option<Move>) {
        let Some(line) = moved.or(told) else { return };
        let text = match (moved.map(|moved| moved.kind), told.is_some()) {
            (None, _) => "silence is over: alert still fires",
            (Some(Kind::Raised), true) => "alert raised",
            (Some(Kind::Escalated), true) => "alert escalated",
            (Some(Kind::Eased), true) => "alert eased",
            (Some(Kind::Reminder), true) => "alert still fires",
            (Some(Kind::Resolved), _) => "alert resolved",
            (Some(Kind::Raised), false) => "alert raised, but silenced: nobody is told",
            (Some(Kind::Escalated), false) => "alert escalated, but silenced: nobody is told",
            (Some(Kind::Eased), false) => "alert eased, but silenced: nobody is told",
            (Some(Kind::Reminder), false) => "alert still fires, but silenced: nobody is told",
        };
        let (kind, level) = (line.kind.name(), line.level.to_string());
        self.news.push(News { kind, alert: label(key), of_unreadable: *key.rule == *UNREADABLE, level, text });
        self.changed = true;
    }

    fn next_reminder(&self, moved: Move, every: Option<Duration>) -> Option<Time> {
        let every = every.filter(|_| moved.kind != Kind::Resolved)?;
        self.now.checked_add_signed(chrono::Duration::from_std(every).ok()?)
    }

    fn owe(&mut self, subject: Subject, telling: Telling) {
        let Telling { recipients, kept_from, threads, silence, .. } = telling;
        let owed = self.owed.get_or_insert_with(|| OwedIndex::of(self.state));
        let (recipients, threads) = (&recipients, &threads);
        let (at, judged_at) = (self.queued_at, Some(self.now));
        self.state.enqueue(NewEvent { subject, at, judged_at, recipients, threads, silence, kept_from }, owed);
    }

    /// A division that is gone from a good listing ends its alerts, with one notice to those who were told.
    fn end_gone_divisions(&mut self, active: &BTreeSet<u64>) {
        let account = self.watch.account.clone();
        let gone = |key: &AlertKey| key.account == account && key.division.is_some_and(|id| !active.contains(&id));
        let keys: Vec<AlertKey> = self.state.alerts.keys().filter(|key| gone(key)).cloned().collect();
        let divisions: BTreeSet<Division> = keys.iter().map(|key| key.division).collect();
        for division in divisions {
            let (mut recipients, mut rules, mut division_name) = (BTreeSet::new(), Vec::new(), None);
            for key in keys.iter().filter(|key| key.division == division) {
                let incidents = &self.watch.incident_notifiers;
                let owed = self.owed.get_or_insert_with(|| OwedIndex::of(self.state));
                let ended = end_alert(self.state, owed, key, incidents, self.queued_at);
                let Some((known, notified)) = ended else { continue };
                recipients.extend(notified);
                self.changed = true;
                division_name = division_name.or(known.division_name);
                if known.alert.firing().is_some() {
                    rules.push(key.rule.clone());
                }
            }
            let alert = label(&AlertKey { account: account.clone(), division, rule: "*".into() });
            let text = "division is gone from CertCentral's list: no longer watched";
            self.news.push(News { kind: "unwatched", alert, of_unreadable: false, level: "-".to_owned(), text });
            let subject = Subject::Unwatched { account: account.clone(), division, division_name, rules };
            let owed = self.owed.get_or_insert_with(|| OwedIndex::of(self.state));
            self.state.enqueue_notice(subject, self.queued_at, &recipients, owed);
        }
    }
}

/// Removes an alert that nothing evaluates any more. Notifiers that keep incidents are told to resolve theirs. Returns what
/// was known of it, and the others that were notified.
fn end_alert(
    state: &mut State,
    owed: &mut OwedIndex,
    key: &AlertKey,
    incident_notifiers: &BTreeSet<Name>,
    queued_at: Time,
) -> Option<(Remembered, BTreeSet<Name>)> {
    let notified = state.told_or_owed(key);
    let known = state.alerts.remove(key)?;
    // What is pending for others still goes out, but must not open an incident in their place: nothing would resolve it.
    for owed in state.owed.iter_mut().filter(|owed| owed.event.alert() == Some(key)) {
        Arc::make_mut(&mut owed.event).audience.extend(incident_notifiers.iter().cloned());
    }
    if let Some(level) = known.alert.firing() {
        let subject = Subject::AlertEnded { key: key.clone(), level };
        state.enqueue_notice(subject, queued_at, &(&notified & incident_notifiers), owed);
    }
    Some((known, &notified - incident_notifiers))
}

/// Several failures are one: what needs action decides, and every different reason is told.
fn worst(failures: Vec<Unreadable>) -> Option<Unreadable> {
    let outlook = failures.iter().map(|it| it.outlook).max_by_key(|it| *it == Outlook::NeedsAction)?;
    let mut reasons: Vec<String> = Vec::new();
    for failure in failures {
        if !reasons.contains(&failure.reason) {
            reasons.push(failure.reason);
        }
    }
    Some(Unreadable { outlook, reason: reasons.join("; ") })
}

/// `rule/account/division`, for logs.
pub fn label(key: &AlertKey) -> String {
    match key.division {
        Some(id) => format!("{}/{}/{id}", key.rule, key.account),
        None => format!("{}/{}", key.rule, key.account),
    }
}

/// Ends, without a message, every alert whose rule, account or division left the configuration. Returns them. Incidents that
/// were opened for them are resolved.
pub fn forget_unconfigured(state: &mut State, watches: &[&Watch], now: Time) -> Vec<AlertKey> {
    let configured = |key: &AlertKey| {
        let Some(watch) = watches.iter().find(|watch| watch.account == key.account) else { return false };
        let unreadable = *key.rule == *UNREADABLE;
        let in_scope = match (&watch.scope, key.division) {
            (Scope::Undivided, division) => division.is_none(),
            (Scope::Listed(ids), Some(id)) => ids.contains(&id),
            (Scope::All(exclude), Some(id)) => !exclude.contains(&id),
            (Scope::Listed(_), None) => false,
            (Scope::All(_), None) => unreadable,
        };
        let rule = watch.rules.iter().find(|rule| rule.name == key.rule);
        in_scope && (unreadable || rule.is_some_and(|rule| rule.watches(&key.account, key.division)))
    };
    let gone: Vec<AlertKey> = state.alerts.keys().filter(|key| !configured(key)).cloned().collect();
    let incident_notifiers = watches.first().map(|watch| Arc::clone(&watch.incident_notifiers)).unwrap_or_default();
    let mut owed = OwedIndex::of(state);
    for key in &gone {
        end_alert(state, &mut owed, key, &incident_notifiers, now);
    }
    gone
}
