//! The division that a preview is about, and its reading.

use std::sync::Arc;

use crate::alerting::policy::{AccountPolicy, DivisionScope};
use crate::alerting::readings::DivisionReading;
use crate::app;
use crate::cli::Exit;
use crate::cli::args::PreviewArgs;
use crate::cli::output::print_error;
use crate::config::Config;
use crate::domain::balance::Unreadable;
use crate::domain::rule::Rule;
use crate::notify::message::sample;
use crate::notify::message::sample::SampleTarget;
use crate::polling::forecasts::ForecastPurpose;
use crate::polling::poller::Poller;
use crate::util::clock::{Clock, SystemClock};
use crate::util::secret::Redactor;
use crate::util::text::clean;

/// A division and its reading.
pub(super) struct PreviewTarget {
    pub(super) fund: SampleTarget,
    /// The reading; `Err(None)` if sample figures are used without reading.
    pub(super) read: Result<DivisionReading, Option<Unreadable>>,
}

/// Finds the first division that the rule watches and the arguments select, and reads it.
pub(super) async fn find_target(
    config: &Config,
    redactor: &Redactor,
    args: &PreviewArgs,
    rule: Option<&Rule>,
) -> Result<PreviewTarget, Exit> {
    let pollers = account_pollers(config, redactor)?;
    let watched = |poller: &&Arc<Poller>| match (&args.account, rule) {
        (Some(account), _) => **account == *poller.policy.account,
        (None, Some(rule)) => rule.accounts.as_ref().is_none_or(|names| names.contains(&poller.policy.account)),
        (None, None) => true,
    };
    let Some(poller) = pollers.iter().find(watched) else { return Err(Exit::Failure) };
    let policy = &poller.policy;
    if let Some(rule) = rule.filter(|rule| rule.accounts.as_ref().is_some_and(|names| !names.contains(&policy.account)))
    {
        print_error!("lowtide: rule `{}` does not watch account `{}`", clean(&rule.name), clean(&policy.account));
        return Err(Exit::Usage);
    }
    let undivided = policy.scope == DivisionScope::Undivided;
    if let Some(id) = args.division.filter(|_| undivided) {
        print_error!("lowtide: account `{}` is read without divisions, so there is no {id}", clean(&policy.account));
        return Err(Exit::Usage);
    }
    let sampled = SampleTarget {
        account: policy.account.clone(),
        division: (!undivided).then_some(args.division.unwrap_or(sample::DIVISION)),
        division_name: (!undivided).then(|| sample::DIVISION_NAME.to_owned()),
    };
    if args.sample {
        return Ok(PreviewTarget { fund: sampled, read: Err(None) });
    }
    match first_scope(poller, args, rule).await {
        Err(why) => Ok(PreviewTarget { fund: sampled, read: Err(Some(why)) }),
        Ok(None) => {
            print_error!("lowtide: no such division of account `{}` is watched", clean(&policy.account));
            Err(Exit::Usage)
        }
        Ok(Some(scope)) => {
            Ok(read_target(poller, scope).await.unwrap_or(PreviewTarget { fund: sampled, read: Err(None) }))
        }
    }
}

/// Returns the one division to read, or `None` if no division matches. A preview needs one, however many the account has.
async fn first_scope(
    Poller { policy, source, .. }: &Poller,
    args: &PreviewArgs,
    rule: Option<&Rule>,
) -> Result<Option<DivisionScope>, Unreadable> {
    let ids: Vec<u64> = match &policy.scope {
        DivisionScope::Undivided => return Ok(Some(DivisionScope::Undivided)),
        DivisionScope::Listed(ids) => ids.clone(),
        DivisionScope::All(exclude) => {
            let listed = source.divisions().await.map_err(Unreadable::from)?;
            listed.into_iter().map(|division| division.id).filter(|id| !exclude.contains(id)).collect()
        }
    };
    let is_requested = |id: &u64| args.division.is_none_or(|requested| requested == *id);
    let watched = |id: &u64| rule.is_none_or(|rule| rule.watches(&policy.account, Some(*id)));
    Ok(ids.into_iter().find(|id| is_requested(id) && watched(id)).map(|id| DivisionScope::Listed(vec![id])))
}

async fn read_target(poller: &Poller, scope: DivisionScope) -> Option<PreviewTarget> {
    let policy = AccountPolicy { scope, ..poller.policy.clone() };
    let single = Poller { policy, ..poller.clone() };
    let read = single.read_once(ForecastPurpose::Messages).await.divisions.into_iter().next()?;
    let fund = SampleTarget {
        account: single.policy.account.clone(),
        division: read.division,
        division_name: read.name.clone(),
    };
    let failed = read.balance.as_ref().err().cloned();
    Some(PreviewTarget { fund, read: failed.map_or(Ok(read), |failure| Err(Some(failure))) })
}

/// Builds the pollers of all accounts, or prints why that failed.
pub(super) fn account_pollers(config: &Config, redactor: &Redactor) -> Result<Vec<Arc<Poller>>, Exit> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    app::build_pollers(config, redactor, &clock).map_err(|error| {
        print_error!("lowtide: {error:#}");
        Exit::Failure
    })
}
