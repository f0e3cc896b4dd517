//! The HTTP client of a configured connection.

use url::Url;

use crate::config::ConnectionOptions;
use crate::util::http_client;

/// Builds a client for requests to `url`. `None` stands for an address that could not be parsed; it is treated as remote.
pub(super) fn http_client(connection: &ConnectionOptions, url: Option<&Url>) -> anyhow::Result<reqwest::Client> {
    if connection.ca_pem.is_none() && url.is_some_and(http_client::is_plain_loopback) {
        return Ok(http_client::plain_client(connection.timeout)?);
    }
    let (timeout, loopback) = (connection.timeout, url.is_some_and(http_client::is_loopback));
    Ok(http_client::client(&http_client::HttpClientOptions {
        timeout,
        extra_ca_pem: connection.ca_pem.clone(),
        loopback,
    })?)
}
