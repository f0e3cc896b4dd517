//! Errors of the simulated API.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Reason why the API refuses a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ApiRefusal {
    Maintenance,
    TooMany,
    Internal,
    /// The key does not exist; the error is the one observed for such a key.
    InvalidKey,
    NoFinanceRole,
    ViewOnly,
    NoRoute,
    NotFound(String),
    BadRequest(String),
}

/// Returns the HTTP response of a refusal.
pub(super) fn refuse(refusal: &ApiRefusal) -> Response {
    let (status, code, message) = match refusal {
        ApiRefusal::Maintenance => {
            return (StatusCode::SERVICE_UNAVAILABLE, "Service is unavailable").into_response();
        }
        ApiRefusal::TooMany => (
            StatusCode::TOO_MANY_REQUESTS,
            "request_limit_exceeded",
            "Service call rate limit exceeded. Please try again later.",
        ),
        ApiRefusal::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "An unexpected error occurred."),
        ApiRefusal::InvalidKey => (
            StatusCode::FORBIDDEN,
            "access_denied|access_denied_invalid_key",
            "Access denied. The API key is not valid.",
        ),
        ApiRefusal::NoFinanceRole => (
            StatusCode::FORBIDDEN,
            "access_denied|missing_permission",
            "Access denied. Your role may not see finances.",
        ),
        ApiRefusal::ViewOnly => {
            (StatusCode::FORBIDDEN, "access_denied", "Access denied. This API key is restricted to View Only.")
        }
        ApiRefusal::NoRoute => (StatusCode::NOT_FOUND, "not_found|route", "The route does not exist."),
        ApiRefusal::NotFound(message) => (StatusCode::NOT_FOUND, "not_found", message.as_str()),
        ApiRefusal::BadRequest(message) => (StatusCode::BAD_REQUEST, "bad_request_format", message.as_str()),
    };
    let body = json!({ "errors": [{ "code": code, "message": message }] });
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
