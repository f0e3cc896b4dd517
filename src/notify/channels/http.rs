//! One POST request to an endpoint, and the meaning of its response; shared by all notifiers that use HTTP.
//!
//! Addresses, keys and headers may be credentials. Errors contain none of them, and redirects carry them nowhere: the client
//! must not follow redirects. This module decides only whether a retry can help, not when to retry.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::domain::Time;
use crate::notify::message::{cut, flat};
use crate::notify::{MAX_RETRY_AFTER, SendError};
use crate::util::http_client;
use crate::util::secret::{Redactor, Secret};

/// Maximum length of a reason, in characters.
const MAX_REASON_CHARS: usize = 200;

/// Properties of a service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServiceProfile {
    /// Name of the service in error messages.
    pub(crate) service: &'static str,
    /// Client errors that are worth a retry.
    pub(crate) transient_statuses: &'static [u16],
    /// Returns true if the body of a 2xx response is a refusal: a web page, `"ok": false`, or the service's own form.
    pub(crate) is_refusal: fn(&str) -> bool,
    /// Returns advice for a response, with a leading space; empty if there is none.
    pub(crate) hint: fn(StatusCode, &str) -> &'static str,
}

/// Client errors worth a retry with most services: timeout, too early, too many requests.
pub(crate) const TRANSIENT_STATUSES: &[u16] = &[408, 425, 429];

/// Endpoint that the requests of one notifier go to.
#[derive(Debug)]
pub(crate) struct HttpEndpoint {
    pub(crate) url: Secret,
    pub(crate) http: reqwest::Client,
    pub(crate) redactor: Redactor,
    pub(crate) profile: ServiceProfile,
}

impl HttpEndpoint {
    /// Makes one attempt to send a body. `headers` are added to the content type.
    pub(crate) async fn post(
        &self,
        content_type: &'static str,
        headers: HeaderMap,
        body: String,
        at: Time,
    ) -> Result<String, SendError> {
        let request = self.http.post(self.url.expose()).headers(headers).header(CONTENT_TYPE, content_type).body(body);
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(self.unreachable(&error).await),
        };
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        // The status counts even if the connection breaks within the body.
        let body = http_client::read_body(response).await.unwrap_or_default();
        let answer = String::from_utf8_lossy(&body.bytes).into_owned();
        if status.is_success() {
            // The service has the message even if the rest of its response is cut off. A proxy's page means the opposite.
            return if (self.profile.is_refusal)(&answer) {
                Err(self.refused_despite_success(status, &answer))
            } else {
                Ok(answer)
            };
        }
        let permanent = status.is_client_error() && !self.profile.transient_statuses.contains(&status.as_u16());
        let pause = (!permanent).then(|| http_client::retry_after(&headers, at, MAX_RETRY_AFTER)).flatten();
        Err(self.failed(permanent, &self.reason(status, &answer), pause))
    }

    /// Returns an error with this reason, cleaned of secrets.
    pub(crate) fn failed(&self, permanent: bool, reason: &str, retry_after: Option<Duration>) -> SendError {
        SendError { permanent, reason: sanitize_reason(&self.redactor, reason), retry_after, refused: Vec::new() }
    }

    fn refused_despite_success(&self, status: StatusCode, answer: &str) -> SendError {
        if is_web_page(answer) {
            let reason = format!("a web page answered instead of {} ({})", self.profile.service, status.as_u16());
            return self.failed(false, &reason, None);
        }
        self.failed(false, &self.reason(status, answer), None)
    }

    async fn unreachable(&self, error: &reqwest::Error) -> SendError {
        let why = http_client::explain(error).await;
        self.failed(false, &format!("{} could not be reached: {why}", self.profile.service), None)
    }

    fn reason(&self, status: StatusCode, answer: &str) -> String {
        let (service, code, answer) = (self.profile.service, status.as_u16(), answer.trim());
        let hint = (self.profile.hint)(status, answer);
        match answer {
            "" => format!("{service} answered {code}{hint}"),
            page if is_web_page(page) => format!("{service} answered {code} with a web page{hint}"),
            // The hint comes first if the response is long enough to push it out of the reason.
            long if long.chars().count() > MAX_REASON_CHARS / 2 => format!("{service} answered {code}{hint}: {long}"),
            answer => format!("{service} answered {code}: {answer}{hint}"),
        }
    }
}

/// Returns a reason on one line, without secrets. Secrets are redacted before and after flattening, because removed
/// characters may have split one.
pub(crate) fn sanitize_reason(redactor: &Redactor, text: &str) -> String {
    cut(&redactor.redact(&flat(&redactor.redact(text))), MAX_REASON_CHARS)
}

/// Returns a header marked as sensitive. `None` if name or value are invalid.
pub(crate) fn secret_header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// Returns true for a web page or a JSON refusal: a wrong address that answers 200 has not accepted anything.
pub(crate) fn is_page_or_refusal(answer: &str) -> bool {
    is_web_page(answer) || is_json_refusal(answer)
}

/// Returns true for a JSON body with `"ok": false` or `"success": false`, such as from methods of Slack's API.
fn is_json_refusal(answer: &str) -> bool {
    let body = serde_json::from_str::<serde_json::Value>(answer);
    body.is_ok_and(|body| ["ok", "success"].iter().any(|key| body.get(key) == Some(&serde_json::Value::Bool(false))))
}

fn is_web_page(answer: &str) -> bool {
    let start = answer.trim_start_matches('\u{feff}').trim_start();
    let start: String = start.chars().take(15).collect::<String>().to_ascii_lowercase();
    ["<!doctype", "<html", "<head", "<body", "<?xml"].iter().any(|tag| start.starts_with(tag))
}
