//! Proxies from the environment, and the decision which requests use one. The same for every client.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::{Host, Url};

/// Longest wait for a proxy's response to a probe.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of bytes read of that response.
const MAX_ANSWER_BYTES: usize = 1024;

/// A proxy. The address may contain credentials; only [`Proxy::name`] may be shown.
#[derive(Clone)]
pub(super) struct Proxy {
    url: Url,
    /// Environment variable that names the proxy.
    pub(super) variable: &'static str,
}

/// Proxy settings of the environment.
#[derive(Default)]
struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// Hosts that are reached directly.
    exceptions: Vec<NoProxyEntry>,
}

/// An entry of `NO_PROXY`.
struct NoProxyEntry {
    hosts: Hosts,
    /// `None` matches every port.
    port: Option<u16>,
}

enum Hosts {
    All,
    Addresses(IpNet),
    /// A domain and its subdomains, in lower case.
    Domain(String),
}

/// Returns the proxy that requests to an address use.
pub(super) fn proxy_for(url: &Url) -> Option<&'static Proxy> {
    static PROXIES: OnceLock<Proxies> = OnceLock::new();
    PROXIES.get_or_init(|| Proxies::new(|name| std::env::var(name).ok())).of(url)
}

impl Proxies {
    fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, variable(name)?)));
        let proxy = |names| first(names).and_then(|(variable, value)| Some(Proxy { url: parse(&value)?, variable }));
        let all = proxy(["ALL_PROXY", "all_proxy"]);
        let exceptions = first(["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
        Self {
            http: proxy(["HTTP_PROXY", "http_proxy"]).or_else(|| all.clone()),
            https: proxy(["HTTPS_PROXY", "https_proxy"]).or(all),
            exceptions: exceptions
                .split(|c: char| c == ',' || c.is_whitespace())
                .filter(|entry| !entry.is_empty())
                .map(NoProxyEntry::parse)
                .collect(),
        }
    }

    fn of(&self, url: &Url) -> Option<&Proxy> {
        let proxy = match url.scheme() {
            "http" => self.http.as_ref(),
            "https" => self.https.as_ref(),
            _ => None,
        };
        proxy.filter(|_| !super::is_loopback(url) && !self.exceptions.iter().any(|it| it.covers(url)))
    }
}

/// Parses an address with or without a scheme, such as `proxy.example.com:3128`.
fn parse(value: &str) -> Option<Url> {
    let with_host = |url: Url| url.has_host().then_some(url);
    let value = value.trim();
    if value.is_empty() {
        return None;
    }
    let whole = Url::parse(value).ok().and_then(with_host);
    whole.or_else(|| Url::parse(&format!("http://{value}")).ok().and_then(with_host))
}

impl NoProxyEntry {
    /// Parses an entry. `example.com`, `.example.com` and `*.example.com` mean the same, as in curl.
    fn parse(entry: &str) -> Self {
        let (host, port) = match entry.rsplit_once(':') {
            // An IPv6 address without brackets contains colons.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
            _ => (entry, None),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let hosts = match (bare, bare.parse::<IpNet>(), bare.parse::<IpAddr>()) {
            ("*", ..) => Hosts::All,
            (_, Ok(addresses), _) => Hosts::Addresses(addresses),
            (_, _, Ok(address)) => Hosts::Addresses(address.into()),
            _ => Hosts::Domain(bare.trim_start_matches('*').trim_matches('.').to_ascii_lowercase()),
        };
        Self { hosts, port }
    }

    fn covers(&self, url: &Url) -> bool {
        if self.port.is_some() && self.port != url.port_or_known_default() {
            return false;
        }
        match (&self.hosts, url.host()) {
            (Hosts::All, _) => true,
            (Hosts::Addresses(addresses), Some(Host::Ipv4(host))) => addresses.contains(&IpAddr::V4(host)),
            (Hosts::Addresses(addresses), Some(Host::Ipv6(host))) => addresses.contains(&IpAddr::V6(host)),
            (Hosts::Domain(domain), Some(Host::Domain(host))) => {
                let host = host.trim_end_matches('.');
                host.strip_suffix(domain.as_str()).is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }
            _ => false,
        }
    }
}

impl Proxy {
    /// Returns the address for the client, including credentials.
    pub(super) fn address(&self) -> Url {
        self.url.clone()
    }

    /// Returns host and port, without credentials.
    pub(super) fn name(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Asks the proxy once more for a connection to `target`, because the client's error does not contain its response. Returns the
    /// reason in words, or `None` if the proxy gave none.
    pub(super) async fn refusal(&self, target: &Url) -> Option<String> {
        if !matches!(self.url.scheme(), "http" | "https") {
            return Some(format!("is no HTTP proxy: {} must name one", self.variable));
        }
        let status = tokio::time::timeout(ANSWER_TIMEOUT, self.status(target)).await.ok()??;
        let answer = status.canonical_reason().map_or_else(String::new, |reason| format!(" ({reason})"));
        let hint = match status.as_u16() {
            200..300 => return None,
            407 => format!("it requires other credentials in {}", self.variable),
            400..500 => "it must allow this host, or NO_PROXY must name it".to_owned(),
            _ => "it cannot reach the host".to_owned(),
        };
        Some(format!("answered {}{answer}: {hint}", status.as_u16()))
    }

    /// Requests a connection to `target` and returns the status of the response.
    async fn status(&self, target: &Url) -> Option<StatusCode> {
        if self.url.scheme() != "http" {
            return None;
        }
        let host = self.url.host_str()?.trim_start_matches('[').trim_end_matches(']');
        let mut stream = TcpStream::connect((host, self.port()?)).await.ok()?;
        let target = format!("{}:{}", target.host_str()?, target.port_or_known_default()?);
        let credentials = self.credentials();
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{credentials}\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        while !answer.contains(&b'\n') && answer.len() < MAX_ANSWER_BYTES {
            if stream.read_buf(&mut answer).await.ok()? == 0 {
                break;
            }
        }
        let line = answer.strip_prefix(b"HTTP/1.")?.get(2..5)?;
        StatusCode::from_bytes(line).ok()
    }

    /// Returns a header line if the address contains credentials, or else an empty string.
    fn credentials(&self) -> String {
        use base64::Engine as _;
        let decode = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
        if self.url.username().is_empty() && self.url.password().is_none() {
            return String::new();
        }
        let pair = [decode(self.url.username()), decode(self.url.password().unwrap_or_default())].join(&b':');
        format!("Proxy-Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(pair))
    }

    fn port(&self) -> Option<u16> {
        self.url.port_or_known_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        let find =
            |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned());
        Proxies::new(find)
    }

    fn through(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.of(&Url::parse(url).unwrap()).map(Proxy::name)
    }

    #[test]
    fn target_scheme_selects_the_proxy_and_loopback_has_none() {
        let both = proxies(&[("HTTPS_PROXY", "http://u:p@secure.example:3128"), ("http_proxy", "plain.example")]);
        assert_eq!(through(&both, "https://a.example").as_deref(), Some("secure.example:3128"));
        assert_eq!(through(&both, "http://a.example").as_deref(), Some("plain.example:80"));
        for own in ["https://localhost", "http://127.0.0.1:9", "https://[::1]/"] {
            assert_eq!(through(&both, own), None, "{own}");
        }
        let all = proxies(&[("ALL_PROXY", "https://proxy.example"), ("HTTPS_PROXY", "")]);
        assert_eq!(through(&all, "https://a.example").as_deref(), Some("proxy.example:443"));
        assert_eq!(through(&proxies(&[("HTTPS_PROXY", " ")]), "https://a.example"), None);
        let upper_first = proxies(&[("https_proxy", "http://lower.example"), ("HTTPS_PROXY", "http://upper.example")]);
        assert_eq!(through(&upper_first, "https://a.example").as_deref(), Some("upper.example:80"));
    }

    #[test]
    fn no_proxy_accepts_names_wildcards_ports_ips_and_networks() {
        for (exceptions, direct, by_proxy) in [
            ("example.com", &["https://example.com", "https://a.Example.com"][..], &["https://notexample.com"][..]),
            (".example.com", &["https://example.com", "https://a.b.example.com"], &["https://example.com.org"]),
            ("*.example.com", &["https://a.example.com", "https://example.com."], &["https://xexample.com"]),
            ("a.example:8443", &["https://a.example:8443", "https://x.a.example:8443"], &["https://a.example"]),
            ("a.example:443", &["https://a.example"], &["https://a.example:444", "http://a.example"]),
            ("a.example, b.example\tc.example", &["https://b.example", "https://c.example"], &["https://d.example"]),
            ("*", &["https://a.example", "https://10.0.0.1", "https://[fd00::1]"], &[]),
            ("10.0.0.0/8,192.0.2.1", &["https://10.1.2.3", "https://192.0.2.1"], &["https://11.0.0.1"]),
            ("192.0.2.1:8443", &["https://192.0.2.1:8443"], &["https://192.0.2.1"]),
            ("fd00::1 [fd00::2]:8443", &["https://[fd00::1]", "https://[fd00::2]:8443"], &["https://[fd00::2]"]),
            ("", &[], &["https://a.example"]),
        ] {
            let proxies = proxies(&[("ALL_PROXY", "http://proxy.example:3128"), ("NO_PROXY", exceptions)]);
            for url in direct {
                assert_eq!(through(&proxies, url), None, "{exceptions:?}: {url}");
            }
            for url in by_proxy {
                assert!(through(&proxies, url).is_some(), "{exceptions:?}: {url}");
            }
        }
    }

    #[test]
    fn credentials_are_percent_decoded_and_sent_as_basic() {
        let proxy = |url: &str| Proxy { url: parse(url).unwrap(), variable: "HTTPS_PROXY" };
        assert_eq!(proxy("http://proxy.example:3128").credentials(), "");
        let with_password = proxy("http://me:p%40ss@proxy.example:3128");
        assert_eq!(with_password.credentials(), "Proxy-Authorization: Basic bWU6cEBzcw==\r\n");
        assert_eq!(with_password.name(), "proxy.example:3128");
    }
}
