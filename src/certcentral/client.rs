//! HTTP client of the `CertCentral` Services API: one request, its retries, and its error messages.
//!
//! The client sends GET requests only, follows no redirect, and keeps no amount. Its HTTP client comes from
//! [`crate::util::http_client::client`]; all users of an API key share its rate limiter.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use url::Url;

use super::text::clean;
use super::{BalanceSource, ListedDivision, RateLimiter, ReadError, ReadErrorKind, wire};
use crate::certcentral::response;
use crate::certcentral::response::ApiEndpoint;
use crate::certcentral::retries::{MAX_WAIT, RetryBudget};
use crate::domain::Division;
use crate::domain::balance::Balance;
use crate::util::clock::Clock;
use crate::util::http_client;
use crate::util::http_client::{MAX_BODY_BYTES, TransportError, TransportErrorKind};
use crate::util::secret::{Redactor, Secret};

/// Longest text of a transport failure in an error message.
const MAX_TEXT_CHARS: usize = 200;
/// Longest pause that the server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A client for one account.
pub struct CertCentralClient {
    account: String,
    base_url: Url,
    headers: HeaderMap,
    http: reqwest::Client,
    limiter: Arc<RateLimiter>,
    redactor: Redactor,
    clock: Arc<dyn Clock>,
    retry_budget: RetryBudget,
    /// Budget of background requests, whose failures must not affect balance readings.
    background_retry_budget: RetryBudget,
}

/// Urgency of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestPriority {
    /// A balance reading, sent in the order of its request.
    Balance,
    /// A read of the history, which gives way to balance readings.
    Background,
}

/// Error for an API key that cannot be sent in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the API key holds a character that no HTTP header can carry, such as a line break")]
pub struct InvalidApiKey;

/// A successful response whose body is not yet parsed.
pub(super) struct ApiResponse {
    status: StatusCode,
    headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// A failed request, and the pause that its response asks for.
pub(super) struct RequestFailure {
    pub(super) error: ReadError,
    pause: Option<Duration>,
    /// The body is longer than the limit.
    pub(super) too_large: bool,
}

/// Shows only the account's name: addresses and headers must not reach a log.
impl std::fmt::Debug for CertCentralClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertCentralClient").field("account", &self.account).finish_non_exhaustive()
    }
}

impl From<ReadError> for RequestFailure {
    fn from(error: ReadError) -> Self {
        RequestFailure { error, pause: None, too_large: false }
    }
}

impl CertCentralClient {
    /// Returns a client for the account with this name. The redactor learns the API key.
    pub fn new(
        account: impl Into<String>,
        base_url: Url,
        api_key: &Secret,
        http: reqwest::Client,
        limiter: Arc<RateLimiter>,
        redactor: Redactor,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidApiKey> {
        let mut key = HeaderValue::from_str(api_key.expose()).map_err(|_| InvalidApiKey)?;
        key.set_sensitive(true);
        redactor.learn(api_key);
        let json = HeaderValue::from_static("application/json");
        let mut headers = HeaderMap::new();
        headers.insert("x-dc-devkey", key);
        headers.insert(ACCEPT, json.clone());
        headers.insert(CONTENT_TYPE, json);
        let (retry_budget, background_retry_budget) = (RetryBudget::new(clock.now()), RetryBudget::new(clock.now()));
        Ok(Self {
            account: account.into(),
            base_url,
            headers,
            http,
            limiter,
            redactor,
            clock,
            retry_budget,
            background_retry_budget,
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

    pub(super) async fn read_balance(
        &self,
        priority: RequestPriority,
        division: Division,
    ) -> Result<Balance, ReadError> {
        let endpoint = ApiEndpoint { path: "/finance/balance", division: division.is_some(), optional: false };
        let query = division.map(|id| format!("container_id={id}"));
        let response = self.get(priority, endpoint, query.as_deref()).await.map_err(|failure| failure.error)?;
        wire::balance(&response.body, &self.redactor)
            .map_err(|problem| self.invalid_response(endpoint, &response, &problem))
    }

    /// Lists the active divisions.
    pub(super) async fn read_divisions(&self, priority: RequestPriority) -> Result<Vec<ListedDivision>, ReadError> {
        let endpoint = ApiEndpoint { path: "/container", division: false, optional: false };
        let response = self.get(priority, endpoint, None).await.map_err(|failure| failure.error)?;
        let mut listed = wire::divisions(&response.body, &self.redactor)
            .map_err(|problem| self.invalid_response(endpoint, &response, &problem))?;
        listed.retain(|division| division.active);
        Ok(listed)
    }

    fn retry_budget(&self, priority: RequestPriority) -> &RetryBudget {
        match priority {
            RequestPriority::Balance => &self.retry_budget,
            RequestPriority::Background => &self.background_retry_budget,
        }
    }

    /// Sends a request with its retries. Returns a successful response or the last failure.
    pub(super) async fn get(
        &self,
        priority: RequestPriority,
        endpoint: ApiEndpoint<'_>,
        query: Option<&str>,
    ) -> Result<ApiResponse, RequestFailure> {
        let retry_budget = self.retry_budget(priority);
        let mut url = self.base_url.clone();
        url.set_path(&format!("{}{}", self.base_url.path().trim_end_matches('/'), endpoint.path));
        url.set_query(query);
        let mut waited = Duration::ZERO;
        let mut retries = 0;
        loop {
            let permit = self.acquire_permit(priority, &mut waited).await?;
            let outcome = self.attempt(endpoint, url.clone()).await;
            drop(permit);
            let failure = match outcome {
                Ok(response) => {
                    retry_budget.succeeded();
                    return Ok(response);
                }
                Err(failure) => failure,
            };
            let RequestFailure { error, pause, too_large } = failure;
            tracing::debug!(account = %self.account, retries, reason = %error.reason, "a request to CertCentral failed");
            let error = self.with_pause(retry_budget, error, pause);
            if pause.is_some_and(|pause| pause > MAX_WAIT) {
                return Err(error.into());
            }
            let Some(backoff) = retry_budget.retry(self.clock.now(), error.kind, retries) else {
                return Err(RequestFailure { error, pause: None, too_large });
            };
            self.clock.sleep(backoff).await;
            retries += 1;
        }
    }

    /// Waits until the rate limiter admits a request and a short pause is over. Fails during a pause longer than
    /// [`MAX_WAIT`].
    async fn acquire_permit(
        &self,
        priority: RequestPriority,
        waited: &mut Duration,
    ) -> Result<super::RequestPermit, ReadError> {
        loop {
            self.wait_out_pause(priority, waited).await?;
            let permit = match priority {
                RequestPriority::Balance => self.limiter.acquire().await,
                RequestPriority::Background => self.limiter.acquire_background().await,
            };
            // A pause may have begun while this request waited for the limiter.
            if self.paused(priority).is_none() {
                return Ok(permit);
            }
        }
    }

    /// Returns the rest of a pause, and its reason. A pause that a balance reading was asked for holds for all
    /// requests; one that a background request was asked for holds for those alone.
    fn paused(&self, priority: RequestPriority) -> Option<(Duration, ReadError)> {
        let now = self.clock.now();
        self.retry_budget.paused(now).or_else(|| self.retry_budget(priority).paused(now))
    }

    async fn wait_out_pause(&self, priority: RequestPriority, waited: &mut Duration) -> Result<(), ReadError> {
        while let Some((left, error)) = self.paused(priority) {
            *waited += left;
            if *waited > MAX_WAIT {
                return Err(error);
            }
            self.clock.sleep(left).await;
        }
        Ok(())
    }

    /// Records a pause. If requests will fail until it is over, the returned error says so.
    fn with_pause(&self, retry_budget: &RetryBudget, mut error: ReadError, pause: Option<Duration>) -> ReadError {
        let Some(pause) = pause.filter(|pause| !pause.is_zero()) else { return error };
        let until = (self.clock.now() + pause).format("%Y-%m-%d %H:%M:%S UTC");
        let refusal = ReadError {
            kind: error.kind,
            reason: format!(
                "no request was sent, because the server asked for a pause until {until}: {}",
                error.reason
            ),
        };
        retry_budget.pause(self.clock.now(), pause, refusal);
        if pause > MAX_WAIT {
            error.reason = format!("{}; it asked for a pause, so nothing is sent before {until}", error.reason);
        }
        error
    }

    async fn attempt(&self, endpoint: ApiEndpoint<'_>, url: Url) -> Result<ApiResponse, RequestFailure> {
        let request = self.http.get(url.clone()).headers(self.headers.clone());
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(self.transport_error(endpoint, &http_client::explain(&error).await).into()),
        };
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let body = http_client::read_body(response).await;
        if !status.is_success() {
            // The status is sufficient if the body cannot be read, or is too long to be an error message.
            let body = body.ok().filter(|body| !body.truncated).unwrap_or_default().bytes;
            let error = response::refusal(endpoint, status, &url, &headers, &body, &self.redactor);
            let may_pause = matches!(error.kind, ReadErrorKind::Server | ReadErrorKind::RateLimited);
            let pause =
                if may_pause { http_client::retry_after(&headers, self.clock.now(), MAX_RETRY_AFTER) } else { None };
            return Err(RequestFailure { error, pause, too_large: false });
        }
        match body {
            Ok(body) if body.truncated => {
                let status = response::status_text(status);
                let reason = format!(
                    "GET {} answered {status}, but the body is longer than {MAX_BODY_BYTES} bytes",
                    endpoint.path
                );
                let error = ReadError { kind: ReadErrorKind::InvalidResponse, reason };
                Err(RequestFailure { error, pause: None, too_large: true })
            }
            Ok(body) => Ok(ApiResponse { status, headers, body: body.bytes }),
            Err(transport) => Err(self.transport_error(endpoint, &transport).into()),
        }
    }

    /// Returns the error for a 2xx whose body is not as documented.
    pub(super) fn invalid_response(
        &self,
        endpoint: ApiEndpoint<'_>,
        response: &ApiResponse,
        problem: &str,
    ) -> ReadError {
        let (status, media_type) =
            (response::status_text(response.status), response::media_type(&response.headers, &self.redactor));
        let reason = format!("GET {} answered {status}, but its body ({media_type}) {problem}", endpoint.path);
        ReadError { kind: ReadErrorKind::InvalidResponse, reason }
    }

    fn transport_error(&self, endpoint: ApiEndpoint<'_>, transport: &TransportError) -> ReadError {
        let kind = match transport.kind {
            TransportErrorKind::Timeout => ReadErrorKind::Timeout,
            TransportErrorKind::Dns
            | TransportErrorKind::Tls
            | TransportErrorKind::Proxy
            | TransportErrorKind::Connect
            | TransportErrorKind::Broken => ReadErrorKind::Connect,
        };
        let hint = match transport.kind {
            TransportErrorKind::Dns => ": check base_url and this machine's DNS",
            TransportErrorKind::Tls => ": if a proxy or gateway has its own CA, name it in ca_file",
            TransportErrorKind::Timeout
            | TransportErrorKind::Proxy
            | TransportErrorKind::Connect
            | TransportErrorKind::Broken => "",
        };
        let text = clean(&self.redactor, &transport.text, MAX_TEXT_CHARS);
        ReadError { kind, reason: format!("GET {} failed: {text}{hint}", endpoint.path) }
    }
}

#[async_trait]
impl BalanceSource for CertCentralClient {
    async fn balance(&self, division: Division) -> Result<Balance, ReadError> {
        self.read_balance(RequestPriority::Balance, division).await
    }

    async fn divisions(&self) -> Result<Vec<ListedDivision>, ReadError> {
        self.read_divisions(RequestPriority::Balance).await
    }

    fn limiter(&self) -> Option<&RateLimiter> {
        Some(&self.limiter)
    }
}
