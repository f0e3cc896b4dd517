//! OAuth 2.0 client credentials: tokens for a mailbox, each cached until shortly before it expires.
//!
//! The client secret is sent only to the token endpoint. The secret and the tokens are redacted everywhere.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::sync::Mutex;
use url::form_urlencoded;

use crate::domain::Time;
use crate::notify::SendError;
use crate::notify::channels::http::{HttpEndpoint, ServiceProfile, TRANSIENT_STATUSES};
use crate::util::secret::{Redactor, Secret};

const TOKEN_SERVICE: ServiceProfile = ServiceProfile {
    service: "the token endpoint",
    transient_statuses: TRANSIENT_STATUSES,
    is_refusal: |_| false,
    hint,
};

/// A token is not used in the last minute of its lifetime, because the SMTP conversation takes time too.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);
/// Maximum time that a token is cached, whatever lifetime the server reports.
const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Minimum time that a token is redacted, also if the server reports no lifetime.
const MIN_REDACTION_PERIOD: Duration = Duration::from_secs(3600);

/// Credentials of the client, and the scope that it requests.
#[derive(Debug, Clone)]
pub struct ClientCredentials {
    /// Id of the client.
    pub client_id: String,
    /// Secret of the client.
    pub client_secret: Secret,
    /// Scope of the token.
    pub scope: Option<String>,
}

impl ClientCredentials {
    fn form(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        form.append_pair("client_id", &self.client_id);
        form.append_pair("client_secret", self.client_secret.expose());
        if let Some(scope) = &self.scope {
            form.append_pair("scope", scope);
        }
        form.finish()
    }
}

/// Source of tokens for one mailbox.
#[derive(Debug)]
pub struct TokenSource {
    user: String,
    endpoint: HttpEndpoint,
    client: ClientCredentials,
    cache: Mutex<TokenCache>,
}

/// Tokens that were received before.
#[derive(Debug, Default)]
struct TokenCache {
    /// Token in use, with the time until which it is used.
    current: Option<(Secret, Time)>,
    /// Redacted tokens, each with the end of its redaction. A token that is no longer used is a credential until it expires.
    redacted: Vec<(Secret, Time)>,
}

/// A token; `fresh` if it was just issued.
#[derive(Debug, Clone)]
pub(crate) struct AccessToken {
    pub(crate) secret: Secret,
    pub(crate) fresh: bool,
}

impl TokenSource {
    /// Creates a source of tokens for `user` from `token_url`. The HTTP client has timeout and trust, and must not follow
    /// redirects.
    pub fn new(
        user: String,
        token_url: &str,
        client: ClientCredentials,
        http: reqwest::Client,
        redactor: Redactor,
    ) -> Self {
        let endpoint = HttpEndpoint { url: Secret::new(token_url), http, redactor, profile: TOKEN_SERVICE };
        Self { user, endpoint, client, cache: Mutex::default() }
    }

    /// Returns the user name of the mailbox.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Returns the cached token if it is valid at `now`, and otherwise a new one.
    pub(crate) async fn token(&self, now: Time) -> Result<AccessToken, SendError> {
        let mut cache = self.cache.lock().await;
        if let Some((token, _)) = cache.current.as_ref().filter(|(_, until)| now < *until) {
            return Ok(AccessToken { secret: token.clone(), fresh: false });
        }
        let (token, lifetime) = self.request_token(now).await?;
        cache.redacted.retain(|(secret, until)| {
            let valid = now < *until;
            if !valid {
                self.endpoint.redactor.forget(secret);
            }
            valid
        });
        // The form in which the login sends it and a server may echo it.
        let login = Secret::new(format!("user={}\u{1}auth=Bearer {}\u{1}\u{1}", self.user, token.expose()));
        for secret in [token.clone(), login] {
            self.endpoint.redactor.learn(&secret);
            // Some servers issue the same token again: the later end counts.
            cache.redacted.retain(|(known, _)| *known != secret);
            cache.redacted.push((secret, later(now, lifetime.max(MIN_REDACTION_PERIOD))));
        }
        cache.current = Some((token.clone(), later(now, lifetime.saturating_sub(EXPIRY_MARGIN))));
        Ok(AccessToken { secret: token, fresh: true })
    }

    /// Discards the cached token, because the mail server rejected it.
    pub(crate) async fn discard_token(&self) {
        self.cache.lock().await.current = None;
    }

    async fn request_token(&self, now: Time) -> Result<(Secret, Duration), SendError> {
        let kind = "application/x-www-form-urlencoded";
        let answer = self.endpoint.post(kind, HeaderMap::new(), self.client.form(), now).await?;
        parse_token(&answer).ok_or_else(|| {
            // The response is not quoted: it may contain a token in an unexpected place.
            self.endpoint.failed(false, "the token endpoint answered without a bearer token in `access_token`", None)
        })
    }
}

fn later(now: Time, by: Duration) -> Time {
    now + chrono::Duration::from_std(by).unwrap_or_default()
}

/// Returns the token and its lifetime. A token without a lifetime is used once.
fn parse_token(answer: &str) -> Option<(Secret, Duration)> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let bearer = answer.get("token_type").is_none_or(|kind| kind.as_str().is_some_and(is_bearer));
    let token = answer.get("access_token")?.as_str()?;
    let is_valid = bearer && !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    let seconds =
        answer.get("expires_in").and_then(|seconds| seconds.as_u64().or_else(|| seconds.as_str()?.parse().ok()));
    let lifetime = Duration::from_secs(seconds.unwrap_or_default()).min(MAX_TOKEN_LIFETIME);
    is_valid.then(|| (Secret::new(token), lifetime))
}

fn is_bearer(kind: &str) -> bool {
    kind.eq_ignore_ascii_case("bearer")
}

fn hint(_: StatusCode, answer: &str) -> &'static str {
    let error = serde_json::from_str::<Value>(answer).ok();
    match error.as_ref().and_then(|answer| answer.get("error")).and_then(Value::as_str) {
        Some("invalid_client") => " (invalid_client: check `client_id` and `client_secret`, which may have expired)",
        Some("unauthorized_client") => " (unauthorized_client: the application may not use client credentials)",
        Some("invalid_scope") => " (invalid_scope: check `scope`)",
        Some("invalid_request") => " (invalid_request: check `token_url` and `scope`)",
        _ => "",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::util::http_client;
    use crate::util::http_client::HttpClientOptions;
    use chrono::TimeZone as _;
    use serde_json::json;
    use wiremock::matchers::any;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    #[test]
    fn a_response_may_lack_a_lifetime_but_not_a_bearer_token() {
        let lifetime = |answer: Value| parse_token(&answer.to_string()).map(|(_, lifetime)| lifetime.as_secs());
        assert_eq!(lifetime(json!({ "access_token": "t", "expires_in": 3599 })), Some(3599));
        assert_eq!(lifetime(json!({ "access_token": "t", "expires_in": "3599", "token_type": "bearer" })), Some(3599));
        assert_eq!(lifetime(json!({ "access_token": "t" })), Some(0));
        assert_eq!(lifetime(json!({ "access_token": "t", "expires_in": u64::MAX })), Some(24 * 3600));
        for bad in [json!({}), json!({ "access_token": "" }), json!({ "access_token": "a b" }), json!(["t"])] {
            assert_eq!(lifetime(bad), None);
        }
        assert_eq!(lifetime(json!({ "access_token": "t", "token_type": "mac" })), None);
    }

    #[tokio::test]
    async fn a_token_is_reused_until_a_minute_before_it_expires() {
        let server = MockServer::start().await;
        for n in 1..=3 {
            let body = json!({ "access_token": format!("token-number-{n}"), "expires_in": 7200 });
            let answer = ResponseTemplate::new(200).set_body_json(body);
            Mock::given(any()).respond_with(answer).up_to_n_times(1).mount(&server).await;
        }
        let options = HttpClientOptions { timeout: Duration::from_secs(5), extra_ca_pem: None, loopback: true };
        let client = ClientCredentials { client_id: "c".into(), client_secret: Secret::new("s"), scope: None };
        let redactor = Redactor::default();
        let http = http_client::client(&options).unwrap();
        let tokens = TokenSource::new("box".into(), &server.uri(), client, http, redactor.clone());
        let start = chrono::Utc.with_ymd_and_hms(2026, 11, 23, 8, 0, 0).unwrap();
        let mut seen = Vec::new();
        for second in [0, 7139, 7140, 7141, 14_279, 14_280] {
            let token = tokens.token(start + chrono::Duration::seconds(second)).await.unwrap();
            seen.push((token.secret.expose().strip_prefix("token-number-").unwrap().to_owned(), token.fresh));
        }
        let expected = [("1", true), ("1", false), ("2", true), ("2", false), ("2", false), ("3", true)];
        assert_eq!(seen, expected.map(|(number, fresh)| (number.to_owned(), fresh)));
        let text = "token-number-1 token-number-2 token-number-3";
        assert_eq!(redactor.redact(text), "token-number-1 *** ***", "the first has expired");
    }
}
