//! Builds every HTTP client: rustls, no redirects, a timeout, extra CAs, the environment's proxies, and bodies read up to a limit.
//!
//! No text that leaves this module contains an address, because an address can be a secret.

mod body;
mod proxy;
mod retry_after;

pub use body::{MAX_BODY_BYTES, ResponseBody, read_body};
pub use retry_after::retry_after;

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use reqwest::{Certificate, Client, Proxy, redirect};
use url::{Host, Url};

/// Value of the `User-Agent` header.
const USER_AGENT: &str = concat!("lowtide/", env!("CARGO_PKG_VERSION"));
/// Maximum length of the text of a library's error.
const MAX_DETAIL_CHARS: usize = 160;

/// Settings that differ between servers.
#[derive(Debug, Clone)]
pub struct HttpClientOptions {
    /// Longest time for one request, from the connection to the last byte of the body.
    pub timeout: Duration,
    /// PEM certificates to trust besides the system's.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// Marks requests to this machine (see [`is_loopback`]), which use no proxy.
    pub loopback: bool,
}

/// An error while building a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientBuildError {
    /// The extra CA cannot be used.
    #[error("the CA file holds no usable PEM certificate{0}")]
    ExtraCa(String),
    /// Any other failure, such as a machine without CA certificates.
    #[error("no HTTPS client could be built: {0}")]
    Build(String),
}

/// Kind of a failure without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportErrorKind {
    /// No complete response within the timeout.
    Timeout,
    /// The host name cannot be resolved.
    Dns,
    /// The server's certificate or TLS version is not accepted.
    Tls,
    /// The proxy cannot be reached or refuses the connection.
    Proxy,
    /// No connection, for another reason.
    Connect,
    /// The connection was lost.
    Broken,
}

/// A request without a response. The text contains neither the address nor any header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct TransportError {
    /// Kind of the failure.
    pub kind: TransportErrorKind,
    /// Reason as a clause, such as `no connection (Connection refused)`.
    pub text: String,
}

/// Builds a client. It follows no redirects, because headers with secrets would follow them.
pub fn client(options: &HttpClientOptions) -> Result<Client, ClientBuildError> {
    // Fails without effect if a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let extra = options.extra_ca_pem.as_deref().map(certificates).transpose()?.unwrap_or_default();
    let has_extra = !extra.is_empty();
    match builder(options).tls_certs_merge(extra).build() {
        Ok(client) => Ok(client),
        // Plain HTTP to this machine must work without CA certificates of the system.
        Err(_) if options.loopback && !has_extra => {
            builder(options).tls_certs_only([]).build().map_err(|error| ClientBuildError::Build(innermost(&error)))
        }
        Err(error) if has_extra => Err(ClientBuildError::ExtraCa(format!(": {}", innermost(&error)))),
        Err(error) => Err(ClientBuildError::Build(innermost(&error))),
    }
}

/// Builds a client for plain HTTP to this machine only. It skips the system's certificates, which cost time and a megabyte.
pub fn plain_client(timeout: Duration) -> Result<Client, ClientBuildError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = HttpClientOptions { timeout, extra_ca_pem: None, loopback: true };
    builder(&options).tls_certs_only([]).build().map_err(|error| ClientBuildError::Build(innermost(&error)))
}

fn builder(options: &HttpClientOptions) -> reqwest::ClientBuilder {
    let builder = Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        // The library's retries respect neither pauses nor rate limits.
        .retry(reqwest::retry::never())
        .referer(false)
        // Slightly shorter than the whole timeout, so that the reason distinguishes a missing connection from a missing response.
        .connect_timeout(options.timeout.mul_f64(0.9))
        .timeout(options.timeout);
    if options.loopback { builder.no_proxy() } else { builder.proxy(Proxy::custom(proxy_address)) }
}

fn proxy_address(url: &Url) -> Option<Url> {
    proxy::proxy_for(url).map(proxy::Proxy::address)
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, ClientBuildError> {
    match Certificate::from_pem_bundle(pem) {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(ClientBuildError::ExtraCa(String::new())),
        Err(error) => Err(ClientBuildError::ExtraCa(format!(": {}", innermost(&error)))),
    }
}

/// Returns `true` for an address on this machine: `localhost`, `127.0.0.0/8` or `[::1]`.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Returns `true` for plain HTTP that never leaves this machine.
pub fn is_plain_loopback(url: &Url) -> bool {
    url.scheme() == "http" && is_loopback(url)
}

/// Explains an error in words, without the address. Names the proxy if one was used.
pub async fn explain(error: &reqwest::Error) -> TransportError {
    let (kind, text) = direct(error);
    let Some((target, proxy)) = error.url().and_then(|target| Some((target, proxy::proxy_for(target)?))) else {
        return TransportError { kind, text };
    };
    let (name, variable) = (proxy.name(), proxy.variable);
    let proxied = |text| TransportError { kind: TransportErrorKind::Proxy, text };
    match kind {
        TransportErrorKind::Dns => {
            proxied(format!("the name of the proxy {name} cannot be resolved: check {variable}"))
        }
        TransportErrorKind::Connect => match proxy.refusal(target).await {
            Some(why) => proxied(format!("the proxy {name} {why}")),
            None => proxied(format!("no connection to the proxy {name}: check {variable} ({})", innermost(error))),
        },
        _ => TransportError { kind, text: format!("{text}, through the proxy {name}") },
    }
}

/// Explains an error of the connection itself, whether to the host or to the proxy.
fn direct(error: &reqwest::Error) -> (TransportErrorKind, String) {
    let detail = innermost(error);
    if error.is_timeout() {
        let what = if error.is_connect() { "no connection in time" } else { "no complete answer in time" };
        (TransportErrorKind::Timeout, what.to_owned())
    } else if error.is_dns() {
        (TransportErrorKind::Dns, format!("the host's name cannot be resolved ({detail})"))
    } else if chain(error).any(|cause| cause.downcast_ref::<rustls::Error>().is_some()) {
        (TransportErrorKind::Tls, format!("no trustworthy TLS connection ({detail})"))
    } else if error.is_connect() || error.is_builder() {
        (TransportErrorKind::Connect, format!("no connection ({detail})"))
    } else {
        (TransportErrorKind::Broken, format!("the connection broke ({detail})"))
    }
}

/// Returns an error and its causes, outermost first.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |current| {
        let current: &'a (dyn StdError + 'static) = *current;
        match current.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            // `io::Error::source` skips the error that it wraps.
            Some(wrapped) => Some(wrapped as &(dyn StdError + 'static)),
            None => current.source(),
        }
    })
}

/// Returns the text of the root cause. The outer layers repeat it and add the address.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let text = chain(error).last().map(ToString::to_string).unwrap_or_default();
    if text.contains("://") {
        return "no details".to_owned();
    }
    text.chars().filter(|c| !c.is_control()).take(MAX_DETAIL_CHARS).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn options() -> HttpClientOptions {
        HttpClientOptions { timeout: Duration::from_secs(2), extra_ca_pem: None, loopback: true }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let loopback = |text: &str| is_loopback(&Url::parse(text).unwrap());
        for yes in
            ["http://localhost:1/x", "http://LOCALHOST", "http://127.0.0.1", "https://127.9.9.9:8/", "http://[::1]:80"]
        {
            assert!(loopback(yes), "{yes}");
        }
        for no in ["http://localhost.example.com", "http://128.0.0.1", "http://[::2]", "http://10.0.0.1", "unix:/x"] {
            assert!(!loopback(no), "{no}");
        }
    }

    #[test]
    fn a_ca_file_needs_a_certificate() {
        let with = |pem: &[u8]| client(&HttpClientOptions { extra_ca_pem: Some(pem.to_vec()), ..options() });
        assert!(matches!(with(b"not PEM"), Err(ClientBuildError::ExtraCa(_))));
        assert!(matches!(with(b""), Err(ClientBuildError::ExtraCa(_))));
        let invalid = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(with(invalid), Err(ClientBuildError::ExtraCa(_))));
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        assert!(with(own.cert.pem().as_bytes()).is_ok());
    }

    #[tokio::test]
    async fn failures_are_distinguished_and_never_show_the_address() {
        let client = client(&options()).unwrap();
        let secret = "T000/B000/abcdefghijkl";
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let refused = client.get(format!("http://127.0.0.1:{port}/{secret}")).send().await.unwrap_err();
        let unknown = client.get(format!("http://no-such-host.invalid/{secret}")).send().await.unwrap_err();
        let (refused, unknown) = (explain(&refused).await, explain(&unknown).await);
        assert_eq!(refused.kind, TransportErrorKind::Connect);
        assert!(refused.text.contains("refused"), "{refused}");
        assert_eq!(unknown.kind, TransportErrorKind::Dns, "{unknown}");
        for text in [refused.text, unknown.text] {
            assert!(!text.contains("abcdefghijkl") && !text.contains("://"), "{text}");
        }
    }

    #[tokio::test]
    async fn unknown_issuer_is_a_tls_failure_unless_its_ca_is_configured() {
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let config =
            rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key);
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config.unwrap()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut tls) = acceptor.accept(stream).await {
                    use tokio::io::{AsyncReadExt, AsyncWriteExt};
                    let _ = tls.read(&mut [0; 4096]).await;
                    let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                    let _ = tls.shutdown().await;
                }
            }
        });
        let failed = client(&options()).unwrap().get(&url).send().await.unwrap_err();
        let failed = explain(&failed).await;
        assert_eq!(failed.kind, TransportErrorKind::Tls, "{failed}");
        let pem = own.cert.pem().into_bytes();
        let trusting = client(&HttpClientOptions { extra_ca_pem: Some(pem), ..options() }).unwrap();
        let response = trusting.get(&url).send().await.unwrap();
        assert_eq!(read_body(response).await.unwrap().bytes, b"ok");
    }
}
