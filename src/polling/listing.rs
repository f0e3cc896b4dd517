//! The listing of an account's divisions: which are active, and their names.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::alerting::policy::DivisionScope;
use crate::certcentral::{ListedDivision, ReadError, ReadErrorKind};
use crate::domain::balance::Unreadable;
use crate::domain::{Division, Time};
use crate::polling::poller::{Poller, PollerState};

/// A listing is asked for again when it is this old.
const LISTING_MAX_AGE: Duration = Duration::from_secs(3600);

/// The longest wait for a listing that is needed for names only.
const NAMES_TIMEOUT: Duration = Duration::from_secs(3);

/// The active divisions of an account as last listed.
pub(super) struct DivisionListing {
    pub(super) divisions: Vec<ListedDivision>,
    pub(super) listed_at: Time,
}

impl DivisionListing {
    pub(super) fn ids(&self) -> BTreeSet<u64> {
        self.divisions.iter().map(|listed| listed.id).collect()
    }

    pub(super) fn names(&self) -> HashMap<u64, &str> {
        self.divisions.iter().map(|listed| (listed.id, listed.name.as_str())).collect()
    }

    fn is_fresh(&self, now: Time) -> bool {
        (now - self.listed_at).to_std().is_ok_and(|age| age < LISTING_MAX_AGE)
    }
}

impl Poller {
    /// Lists the divisions unless the last listing is fresh. Returns the failure if the cycle depends on the listing; if it is
    /// needed for names only, a failure is logged.
    pub(super) async fn refresh_listing(&self, state: &mut PollerState, now: Time) -> Option<Unreadable> {
        let is_fresh = state.listing.as_ref().is_some_and(|listing| listing.is_fresh(now));
        if self.policy.scope == DivisionScope::Undivided || is_fresh {
            return None;
        }
        match (self.list_divisions().await, &self.policy.scope) {
            (Ok(divisions), _) => {
                state.listing = Some(DivisionListing { divisions, listed_at: now });
                None
            }
            (Err(error), DivisionScope::All(_)) => {
                state.errors.push(error.kind);
                Some(error.into())
            }
            (Err(error), _) => {
                tracing::info!(account = %self.policy.account, %error, "divisions cannot be listed: they are shown by their ids, and forecasts leave out other divisions that share their funds");
                let divisions = state.listing.take().map(|listing| listing.divisions).unwrap_or_default();
                state.listing = Some(DivisionListing { divisions, listed_at: now });
                None
            }
        }
    }

    /// Lists the divisions again after some were refused, so that removed divisions are no longer watched. If that fails, the
    /// known listing stays until it is too old.
    pub(super) async fn relist(&self, state: &mut PollerState, now: Time) {
        if let Ok(divisions) = self.source.divisions().await
            && !divisions.is_empty()
        {
            state.listing = Some(DivisionListing { divisions, listed_at: now });
        }
    }

    async fn list_divisions(&self) -> Result<Vec<ListedDivision>, ReadError> {
        let listing = self.source.divisions();
        if matches!(self.policy.scope, DivisionScope::All(_)) {
            let divisions = listing.await?;
            return if divisions.is_empty() { Err(empty_listing_error()) } else { Ok(divisions) };
        }
        let timed_out = || ReadError { kind: ReadErrorKind::Timeout, reason: "GET /container timed out".to_owned() };
        tokio::time::timeout(NAMES_TIMEOUT, listing).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Returns the divisions that a cycle reads, in order.
    pub(super) fn divisions_to_read(&self, state: &PollerState) -> Vec<Division> {
        match &self.policy.scope {
            DivisionScope::Undivided => vec![None],
            DivisionScope::Listed(ids) => ids.iter().copied().map(Some).collect(),
            DivisionScope::All(excluded) => {
                let active = state.listing.as_ref().map(DivisionListing::ids).unwrap_or_default();
                active.into_iter().filter(|id| !excluded.contains(id)).map(Some).collect()
            }
        }
    }
}

fn empty_listing_error() -> ReadError {
    ReadError {
        kind: ReadErrorKind::InvalidResponse,
        reason: "GET /container lists no active division, so there is nothing to watch: check the permissions of the API key"
            .to_owned(),
    }
}
