//! Builds pollers, clients and notifiers from a configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::channels;
use super::http_clients::http_client;
use crate::alerting::policy::{AccountPolicy, DivisionScope};
use crate::certcentral::{CertCentralClient, HistorySource, LimiterAccount, RateLimitWindow, RateLimiter};
use crate::config::{Account, ChannelConfig, Config, Divisions, NotifierConfig};
use crate::domain::{Name, Time};
use crate::forecast::Spending;
use crate::history::HistoryCache;
use crate::notify::delivery::Route;
use crate::notify::{MessageContext, RuleTexts};
use crate::polling::history_access::HistoryAccess;
use crate::polling::poller::Poller;
use crate::util::clock::Clock;
use crate::util::secret::Redactor;

/// Limiters by API key: all requests with one key share a limiter.
type Limiters = BTreeMap<String, (Vec<RateLimitWindow>, Arc<RateLimiter>)>;

/// Digest that shows whether an API key has changed. Kept in memory only.
type KeyDigest = [u8; 32];

/// A history cache with the base URL and the digest of the API key that it belongs to.
type KnownHistoryCache = (Url, KeyDigest, Arc<HistoryCache>);

/// Resources of accounts that a reload keeps where they still fit the configuration.
#[derive(Default)]
pub(super) struct AccountResources {
    limiters: Limiters,
    history_caches: BTreeMap<Name, KnownHistoryCache>,
}

/// Builds the poller of each account.
pub fn build_pollers(config: &Config, redactor: &Redactor, clock: &Arc<dyn Clock>) -> anyhow::Result<Vec<Arc<Poller>>> {
    Ok(build_pollers_reusing(config, redactor, clock, &AccountResources::default())?.0)
}

/// Builds the pollers like [`build_pollers`], reusing `previous` resources that still fit. Also returns the resources in use
/// from now on.
pub(super) fn build_pollers_reusing(
    config: &Config,
    redactor: &Redactor,
    clock: &Arc<dyn Clock>,
    previous: &AccountResources,
) -> anyhow::Result<(Vec<Arc<Poller>>, AccountResources)> {
    let rules: Arc<[_]> = config.rules.clone().into();
    let unreadable = Arc::new(config.unreadable.clone());
    let limiters: Limiters =
        limits_by_key(config).into_iter().map(|(key, windows)| limiter(key, windows, &previous.limiters)).collect();
    let mut sharers = sharers(config, clock.now());
    for (key, (_, limiter)) in &limiters {
        limiter.set_accounts(sharers.remove(key.as_str()).unwrap_or_default());
    }
    let mut history_caches = BTreeMap::new();
    let silences: Arc<[_]> = config.silences.values().cloned().collect();
    let incident_notifiers = Arc::new(incident_notifiers(config));
    let mut build = |(name, account): (&Name, &Account)| {
        let limiter = limiters.get(account.api_key.expose()).map(|(_, limiter)| Arc::clone(limiter));
        let client =
            build_client(name, account, limiter, redactor, clock).with_context(|| format!("account {name}"))?;
        let client = Arc::new(client);
        let digest: KeyDigest = Sha256::digest(account.api_key.expose()).into();
        let cache = history_cache(previous.history_caches.get(name), &account.base_url, digest, clock);
        history_caches.insert(name.clone(), (account.base_url.clone(), digest, Arc::clone(&cache)));
        let spending = account.not_spend.as_ref().map_or_else(Spending::default, Spending::without);
        let source: Arc<dyn HistorySource> = Arc::clone(&client) as _;
        let policy = AccountPolicy {
            account: name.clone(),
            scope: scope(&account.divisions),
            rules: Arc::clone(&rules),
            unreadable: Arc::clone(&unreadable),
            silences: Arc::clone(&silences),
            incident_notifiers: Arc::clone(&incident_notifiers),
        };
        let history = Some(Arc::new(HistoryAccess { cache, source, spending }));
        Ok(Arc::new(Poller { policy, source: client, history, clock: Arc::clone(clock) }))
    };
    let pollers = config.accounts.iter().map(&mut build).collect::<anyhow::Result<_>>()?;
    Ok((pollers, AccountResources { limiters, history_caches }))
}

fn build_client(
    name: &Name,
    account: &Account,
    limiter: Option<Arc<RateLimiter>>,
    redactor: &Redactor,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<CertCentralClient> {
    let http = http_client(&account.connection, Some(&account.base_url))?;
    let limiter = limiter.unwrap_or_else(|| Arc::new(RateLimiter::new([])));
    let (base_url, key) = (account.base_url.clone(), &account.api_key);
    Ok(CertCentralClient::new(&**name, base_url, key, http, limiter, redactor.clone(), Arc::clone(clock))?)
}

/// Returns the previous history cache of an account if its base URL and API key are unchanged. With another key, what the cache on
/// disk holds must be verified first.
fn history_cache(
    previous: Option<&KnownHistoryCache>,
    base_url: &Url,
    digest: KeyDigest,
    clock: &Arc<dyn Clock>,
) -> Arc<HistoryCache> {
    match previous.filter(|(known_url, ..)| known_url == base_url) {
        Some((_, known_digest, cache)) if *known_digest == digest => Arc::clone(cache),
        Some(_) => Arc::new(HistoryCache::unverified(Arc::clone(clock))),
        None => Arc::new(HistoryCache::new(Arc::clone(clock))),
    }
}

/// Returns the previous limiter of a key if its windows are unchanged, so that it keeps counting.
fn limiter(
    key: String,
    windows: Vec<RateLimitWindow>,
    previous: &Limiters,
) -> (String, (Vec<RateLimitWindow>, Arc<RateLimiter>)) {
    let same = previous.get(&key).filter(|(before, _)| *before == windows).map(|(_, limiter)| Arc::clone(limiter));
    let limiter = same.unwrap_or_else(|| Arc::new(RateLimiter::new(windows.iter().copied())));
    (key, (windows, limiter))
}

/// Collects the rate limits by API key. Accounts that share a key must keep to the limits of all of them.
fn limits_by_key(config: &Config) -> BTreeMap<String, Vec<RateLimitWindow>> {
    let mut limits: BTreeMap<String, Vec<RateLimitWindow>> = BTreeMap::new();
    for account in config.accounts.values() {
        let windows = limits.entry(account.api_key.expose().to_owned()).or_default();
        windows.extend(
            account.rate_limit.iter().map(|quota| RateLimitWindow { requests: quota.requests, length: quota.window }),
        );
    }
    limits
}

/// Returns the notifiers that keep an incident open for each alert.
fn incident_notifiers(config: &Config) -> BTreeSet<Name> {
    let keeping =
        config.notifiers.iter().filter(|(_, notifier)| matches!(notifier.channel, ChannelConfig::PagerDuty { .. }));
    keeping.map(|(name, _)| name.clone()).collect()
}

/// Returns the load of each account by API key, as far as the configuration shows it: the number of divisions that `all`
/// stands for is known only after a listing.
fn sharers(config: &Config, now: Time) -> BTreeMap<&str, Vec<LimiterAccount>> {
    let mut sharers: BTreeMap<&str, Vec<LimiterAccount>> = BTreeMap::new();
    for (name, account) in &config.accounts {
        let first = account.schedule.next_after(now);
        let next = first.and_then(|first| account.schedule.next_after(first));
        let period = next.zip(first).and_then(|(next, first)| (next - first).to_std().ok());
        let requests = account.divisions.count();
        let sharer = period.map(|period| LimiterAccount { account: name.clone(), requests, period });
        sharers.entry(account.api_key.expose()).or_default().extend(sharer);
    }
    sharers
}

fn scope(divisions: &Divisions) -> DivisionScope {
    match divisions {
        Divisions::Undivided => DivisionScope::Undivided,
        Divisions::All { exclude } => DivisionScope::All(exclude.clone()),
        Divisions::Listed(ids) => DivisionScope::Listed(ids.clone()),
    }
}

/// Builds the texts of messages that come from the configuration.
pub fn message_context(config: &Config) -> MessageContext {
    let rule = |rule: &crate::domain::rule::Rule| {
        (rule.name.clone(), RuleTexts { description: rule.description.clone(), link: rule.link.clone() })
    };
    MessageContext {
        timezone: config.timezone,
        rules: config.rules.iter().map(rule).collect(),
        console_urls: config
            .accounts
            .iter()
            .map(|(name, account)| (name.clone(), account.console_url.to_string()))
            .collect(),
    }
}

/// Builds every notifier, with its fallback and quiet hours.
pub fn build_routes(config: &Config, redactor: &Redactor) -> anyhow::Result<BTreeMap<Name, Route>> {
    let context = Arc::new(message_context(config));
    let build = |(name, notifier): (&Name, &NotifierConfig)| {
        let built =
            channels::build_notifier(name, notifier, &context, redactor).with_context(|| format!("notifier {name}"))?;
        let (fallback, quiet_hours) = (notifier.fallback.clone(), notifier.quiet_hours.clone());
        Ok((name.clone(), Route { notifier: built, fallback, quiet_hours }))
    };
    config.notifiers.iter().map(build).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::clock::SystemClock;

    #[test]
    fn reload_keeps_a_history_cache_while_base_url_and_key_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.yaml");
        let config = |host: &str, key: &str| {
            let text = format!(
                "accounts: {{ acme: {{ api_key: '${{KEY}}', base_url: 'https://{host}/services/v2' }} }}\n\
                 notifiers: {{ slack: {{ type: slack, webhook_url: 'https://hooks.slack.com/services/T0/B0/abcdefgh' }} }}\n\
                 rules: {{ low: {{ metric: available_funds, warning: {{ below: 1 }}, notify: [slack] }} }}\n"
            );
            std::fs::write(&path, text).unwrap();
            crate::config::load(&path, &std::iter::once(("KEY", key)).collect()).config.unwrap()
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut resources = AccountResources::default();
        let mut history_cache = |host, key| {
            let rebuilt = build_pollers_reusing(&config(host, key), &Redactor::default(), &clock, &resources).unwrap();
            resources = rebuilt.1;
            Arc::clone(&resources.history_caches.values().next().unwrap().2)
        };
        let first = history_cache("www.digicert.com", "KEY-0123456789-FIRST");
        assert!(Arc::ptr_eq(&first, &history_cache("www.digicert.com", "KEY-0123456789-FIRST")));
        let second = history_cache("www.digicert.com", "KEY-0123456789-SECOND");
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&second, &history_cache("certcentral.digicert.eu", "KEY-0123456789-SECOND")));
    }
}
