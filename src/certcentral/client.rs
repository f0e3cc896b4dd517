//! The HTTP client of the `CertCentral` Services API: one call, its retries, and what it says when it fails.
//!
//! It only ever asks (GET), follows no redirect, and keeps no amount. Whoever builds it hands it an HTTP client made by
//! [`crate::util::http_client::client`] and the limiter that all users of the API key share.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use url::Url;

use super::text::clean;
use super::{BalanceSource, Limiter, ListedDivision, ReadError, ReadErrorKind, wire};
use crate::certcentral::response;
use crate::certcentral::response::Asked;
use crate::certcentral::retries::{LONGEST_WAIT, Patience};
use crate::domain::Division;
use crate::domain::balance::Balance;
use crate::util::clock::Clock;
use crate::util::http_client;
use crate::util::http_client::{BODY_CAP, BodyError, Transport, TransportKind};
use crate::util::secret::{Redactor, Secret};

/// The longest piece of a transport failure that is shown.
const LONGEST_TEXT: usize = 200;

/// Reads one account.
pub struct Client {
    account: String,
    base_url: Url,
    headers: HeaderMap,
    http: reqwest::Client,
    limiter: Arc<Limiter>,
    redactor: Redactor,
    clock: Arc<dyn Clock>,
    patience: Patience,
    /// Of requests that take spare places: what they suffer is no balance reading's business.
    spare_patience: Patience,
}

/// How urgent a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// A balance reading: in turn.
    Balance,
    /// Steps back for those.
    Spare,
}

/// The API key cannot be sent in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the API key holds a character that no HTTP header can carry, such as a line break")]
pub struct InvalidKey;

/// A good answer, not yet parsed.
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// A bad one, and the pause that it asks for.
pub(super) struct Failure {
    pub(super) error: ReadError,
    pause: Option<Duration>,
    /// The body is longer than is ever read.
    pub(super) too_large: bool,
}

/// The account's name and nothing else: no address and no header belongs into a log.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("account", &self.account).finish_non_exhaustive()
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Failure { error, pause: None, too_large: false }
    }
}

impl Client {
    /// A client for one account; `account` is its name in the log; pauses are by `clock`. The redactor learns the key.
    pub fn new(
        account: impl Into<String>,
        base_url: Url,
        api_key: &Secret,
        http: reqwest::Client,
        limiter: Arc<Limiter>,
        redactor: Redactor,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidKey> {
        let mut key = HeaderValue::from_str(api_key.expose()).map_err(|_| InvalidKey)?;
        key.set_sensitive(true);
        redactor.learn(api_key);
        let json = HeaderValue::from_static("application/json");
        let mut headers = HeaderMap::new();
        headers.insert("x-dc-devkey", key);
        headers.insert(ACCEPT, json.clone());
        headers.insert(CONTENT_TYPE, json);
        let (patience, spare_patience) = (Patience::new(clock.now()), Patience::new(clock.now()));
        Ok(Self {
            account: account.into(),
            base_url,
            headers,
            http,
            limiter,
            redactor,
            clock,
            patience,
            spare_patience,
        })
    }

    pub(super) fn account(&self) -> &str {
        &self.account
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    pub(super) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    pub(super) async fn read_balance(&self, lane: Lane, division: Division) -> Result<Balance, ReadError> {
        let asked = Asked { path: "/finance/balance", division: division.is_some(), optional: false };
        let query = division.map(|id| format!("container_id={id}"));
        let answer = self.ask(lane, asked, query.as_deref()).await.map_err(|failure| failure.error)?;
        wire::balance(&answer.body, &self.redactor).map_err(|misfit| self.nonsense(asked, &answer, &misfit))
    }

    /// Active divisions alone.
    pub(super) async fn read_divisions(&self, lane: Lane) -> Result<Vec<ListedDivision>, ReadError> {
        let asked = Asked { path: "/container", division: false, optional: false };
        let answer = self.ask(lane, asked, None).await.map_err(|failure| failure.error)?;
        let mut listed =
            wire::divisions(&answer.body, &self.redactor).map_err(|misfit| self.nonsense(asked, &answer, &misfit))?;
        listed.retain(|division| division.active);
        Ok(listed)
    }

    fn patience(&self, lane: Lane) -> &Patience {
        match lane {
            Lane::Balance => &self.patience,
            Lane::Spare => &self.spare_patience,
        }
    }

    /// One good answer, or the last failure.
    pub(super) async fn ask(&self, lane: Lane, asked: Asked<'_>, query: Option<&str>) -> Result<Answer, Failure> {
        let patience = self.patience(lane);
        let mut url = self.base_url.clone();
        url.set_path(&format!("{}{}", self.base_url.path().trim_end_matches('/'), asked.path));
        url.set_query(query);
        let mut waited = Duration::ZERO;
        let mut retries = 0;
        loop {
            let permit = self.admitted(lane, &mut waited).await?;
            let outcome = self.attempt(asked, url.clone()).await;
            drop(permit);
            let failure = match outcome {
                Ok(answer) => {
                    patience.succeeded();
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            let Failure { error, pause, too_large } = failure;
            tracing::debug!(account = %self.account, retries, reason = %error.reason, "a request to CertCentral failed");
            let error = self.with_pause(patience, error, pause);
            if pause.is_some_and(|pause| pause > LONGEST_WAIT) {
                return Err(error.into());
            }
            let Some(backoff) = patience.retry(self.clock.now(), error.kind, retries) else {
                return Err(Failure { error, pause: None, too_large });
            };
            self.clock.sleep(backoff).await;
            retries += 1;
        }
    }

    /// Waits for a place in every window, and out a short pause; refuses during a long one.
    async fn admitted(&self, lane: Lane, waited: &mut Duration) -> Result<super::Permit, ReadError> {
        loop {
            self.wait_out_pause(lane, waited).await?;
            let permit = match lane {
                Lane::Balance => self.limiter.acquire().await,
                Lane::Spare => self.limiter.acquire_spare().await,
            };
            // A pause may have begun while this request stood in line.
            if self.paused(lane).is_none() {
                return Ok(permit);
            }
        }
    }

    /// A pause that balance readings were asked for is everybody's; one that others were asked for is theirs alone.
    fn paused(&self, lane: Lane) -> Option<(Duration, ReadError)> {
        let now = self.clock.now();
        self.patience.paused(now).or_else(|| self.patience(lane).paused(now))
    }

    async fn wait_out_pause(&self, lane: Lane, waited: &mut Duration) -> Result<(), ReadError> {
        while let Some((left, told)) = self.paused(lane) {
            *waited += left;
            if *waited > LONGEST_WAIT {
                return Err(told);
            }
            self.clock.sleep(left).await;
        }
        Ok(())
    }

    /// Remembers a pause; where calls will be refused until it is over, the error says so.
    fn with_pause(&self, patience: &Patience, mut error: ReadError, pause: Option<Duration>) -> ReadError {
        let Some(pause) = pause.filter(|pause| !pause.is_zero()) else { return error };
        let until = (self.clock.now() + pause).format("%Y-%m-%d %H:%M:%S UTC");
        let told = ReadError {
            kind: error.kind,
            reason: format!(
                "no request was sent, because the server asked for a pause until {until}: {}",
                error.reason
            ),
        };
        patience.pause(self.clock.now(), pause, told);
        if pause > LONGEST_WAIT {
            error.reason = format!("{}; it asked for a pause, so nothing is sent before {until}", error.reason);
        }
        error
    }

    async fn attempt(&self, asked: Asked<'_>, url: Url) -> Result<Answer, Failure> {
        let request = self.http.get(url.clone()).headers(self.headers.clone());
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(self.lost(asked, &http_client::explain(&error).await).into()),
        };
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let body = http_client::read_capped(response, BODY_CAP).await;
        if !status.is_success() {
            // The status says enough, whatever became of the body.
            let error = response::refusal(asked, status, &url, &headers, &body.unwrap_or_default(), &self.redactor);
            let may_pause = matches!(error.kind, ReadErrorKind::Server | ReadErrorKind::RateLimited);
            let pause = if may_pause { response::pause(&headers, self.clock.now()) } else { None };
            return Err(Failure { error, pause, too_large: false });
        }
        match body {
            Ok(body) => Ok(Answer { status, headers, body }),
            Err(BodyError::Transport(transport)) => Err(self.lost(asked, &transport).into()),
            Err(error @ BodyError::TooLarge { .. }) => {
                let reason = format!("GET {} answered {}, but {error}", asked.path, response::name(status));
                let error = ReadError { kind: ReadErrorKind::Nonsense, reason };
                Err(Failure { error, pause: None, too_large: true })
            }
        }
    }

    /// A 2xx that is not what is documented.
    pub(super) fn nonsense(&self, asked: Asked<'_>, answer: &Answer, misfit: &str) -> ReadError {
        let (status, media_type) =
            (response::name(answer.status), response::media_type(&answer.headers, &self.redactor));
        let reason = format!("GET {} answered {status}, but its body ({media_type}) {misfit}", asked.path);
        ReadError { kind: ReadErrorKind::Nonsense, reason }
    }

    fn lost(&self, asked: Asked<'_>, transport: &Transport) -> ReadError {
        let kind = match transport.kind {
            TransportKind::Timeout => ReadErrorKind::Timeout,
            TransportKind::Dns
            | TransportKind::Tls
            | TransportKind::Proxy
            | TransportKind::Connect
            | TransportKind::Broken => ReadErrorKind::Connect,
        };
        let hint = match transport.kind {
            TransportKind::Dns => ": check base_url and this machine's DNS",
            TransportKind::Tls => ": if a proxy or gateway has its own CA, name it in ca_file",
            TransportKind::Timeout | TransportKind::Proxy | TransportKind::Connect | TransportKind::Broken => "",
        };
        let text = clean(&self.redactor, &transport.text, LONGEST_TEXT);
        ReadError { kind, reason: format!("GET {} failed: {text}{hint}", asked.path) }
    }
}

#[async_trait]
impl BalanceSource for Client {
    async fn balance(&self, division: Division) -> Result<Balance, ReadError> {
        self.read_balance(Lane::Balance, division).await
    }

    async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError> {
        self.read_divisions(Lane::Balance).await
    }

    fn limiter(&self) -> Option<&Limiter> {
        Some(&self.limiter)
    }
}
