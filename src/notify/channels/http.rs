//! One POST to somebody's endpoint, and what its answer means; shared by every notifier that speaks HTTP.
//!
//! Addresses, keys and headers may be credentials: none of them is in an error, and no redirect carries them elsewhere
//! (the client it is given must follow none). Decides nothing about retries but whether one can help.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::domain::Time;
use crate::notify::message::{cut, flat};
use crate::notify::{MAX_RETRY_AFTER, SendError};
use crate::util::http_client;
use crate::util::secret::{Redactor, Secret};

/// As much of a reason as is told.
const MAX_REASON_CHARS: usize = 200;

/// What is peculiar to a service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServiceProfile {
    /// As reasons call it.
    pub(crate) service: &'static str,
    /// Client errors that may pass.
    pub(crate) transient_statuses: &'static [u16],
    /// Whether a 2xx says no all the same: a web page, `"ok": false`, or the service's own way of it.
    pub(crate) is_refusal: fn(&str) -> bool,
    /// What to do about an answer, where it is known; with a space in front.
    pub(crate) hint: fn(StatusCode, &str) -> &'static str,
}

/// Client errors that a service may take back: a slow request, one that came too early, one too many.
pub(crate) const TRANSIENT_STATUSES: &[u16] = &[408, 425, 429];

/// Where requests of one notifier go.
#[derive(Debug)]
pub(crate) struct HttpEndpoint {
    pub(crate) url: Secret,
    pub(crate) http: reqwest::Client,
    pub(crate) redactor: Redactor,
    pub(crate) profile: ServiceProfile,
}

impl HttpEndpoint {
    /// Sends one body, once. `headers` add to the content type.
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
            // A 2xx means that the service has the message; a proxy's page or a refusal in the body means the opposite.
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

    /// Nobody was reached, for a reason that may hold anything.
    pub(crate) fn failed(&self, permanent: bool, reason: &str, retry_after: Option<Duration>) -> SendError {
        SendError { permanent, reason: sanitize_reason(&self.redactor, reason), retry_after, refused: Vec::new() }
    }

    fn refused_despite_success(&self, status: StatusCode, answer: &str) -> SendError {
        if is_web_page(answer) {
            let reason = format!("not {} but a web page answered ({})", self.profile.service, status.as_u16());
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
            // The hint stands first where the answer may be long enough to push it out of the reason.
            long if long.chars().count() > MAX_REASON_CHARS / 2 => format!("{service} answered {code}{hint}: {long}"),
            answer => format!("{service} answered {code}: {answer}{hint}"),
        }
    }
}

/// One line of a reason, without secrets. Struck once more when it is flat: characters that go may have stood inside
/// one.
pub(crate) fn sanitize_reason(redactor: &Redactor, text: &str) -> String {
    cut(&redactor.redact(&flat(&redactor.redact(text))), MAX_REASON_CHARS)
}

/// A header whose value no library shows. `None` for what is no header.
pub(crate) fn secret_header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// A page, or JSON that says no: a wrong address that answers 200 has not taken anything.
pub(crate) fn is_page_or_refusal(answer: &str) -> bool {
    is_web_page(answer) || is_json_refusal(answer)
}

/// A method of Slack's own API in the webhook's place, and others that speak JSON, refuse with 200.
fn is_json_refusal(answer: &str) -> bool {
    let body = serde_json::from_str::<serde_json::Value>(answer);
    body.is_ok_and(|body| ["ok", "success"].iter().any(|key| body.get(key) == Some(&serde_json::Value::Bool(false))))
}

fn is_web_page(answer: &str) -> bool {
    let start = answer.trim_start_matches('\u{feff}').trim_start();
    let start: String = start.chars().take(15).collect::<String>().to_ascii_lowercase();
    ["<!doctype", "<html", "<head", "<body", "<?xml"].iter().any(|tag| start.starts_with(tag))
}
