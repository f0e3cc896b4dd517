//! The types of a valid configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;
use url::Url;

use crate::domain::Name;
use crate::domain::quiet_hours::QuietHours;
use crate::domain::rule::{Rule, Severity, UnreadablePolicy};
use crate::domain::schedule::Schedule;
use crate::domain::silence::Silence;
use crate::notify::message::template::Templates;
use crate::util::secret::Secret;

/// A complete, valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// File that the configuration was read from.
    pub file: PathBuf,
    /// Time zone of schedules and of the times in messages; default UTC.
    pub timezone: Tz,
    /// File that stores the state of the alerts.
    pub state: PathBuf,
    /// Accounts by name; never empty.
    pub accounts: BTreeMap<Name, Account>,
    /// Notifiers by name; never empty.
    pub notifiers: BTreeMap<Name, NotifierConfig>,
    /// Rules in the order of the file; never empty.
    pub rules: Vec<Rule>,
    /// Settings of the alert about balances that cannot be read.
    pub unreadable: UnreadablePolicy,
    /// HTTP endpoint of the service; `None`: no endpoint.
    pub http: Option<Http>,
    /// Heartbeat of the service; `None`: no heartbeat.
    pub heartbeat: Option<Heartbeat>,
    /// Silences by name, without those that have ended.
    pub silences: BTreeMap<Name, Silence>,
    /// Reports by name; empty by default.
    pub reports: BTreeMap<Name, ReportConfig>,
}

/// HTTP endpoint of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Address and port. Without a token it is a loopback address, unless `allow_public` is set.
    pub listen: SocketAddr,
    /// Bearer token that requests must carry; `None`: no token is needed.
    pub token: Option<Secret>,
}

/// Heartbeat: a monitoring service that is pinged regularly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Ping address; `/start` and `/fail` are appended to signal a start or a failure. A secret.
    pub url: Secret,
    /// Time between two pings; default 5 minutes.
    pub every: Duration,
    /// Timeout and trusted certificates.
    pub connection: ConnectionOptions,
}

/// A report on every account and division.
#[derive(Debug, Clone)]
pub struct ReportConfig {
    /// Times at which the report is sent.
    pub schedule: Schedule,
    /// Notifiers that send the report; default all.
    pub notify: BTreeSet<Name>,
}

/// Options shared by all HTTP and SMTP connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// Timeout of one request; default 10 s.
    pub timeout: Duration,
    /// PEM certificates from `ca_file`, trusted in addition to the system's. All of them are valid.
    pub ca_pem: Option<Vec<u8>>,
}

/// An account of CertCentral, polled on its own schedule.
#[derive(Debug, Clone)]
pub struct Account {
    /// API key that requests are sent with.
    pub api_key: Secret,
    /// Address of the API, without a trailing slash.
    pub base_url: Url,
    /// Selection of the divisions to read.
    pub divisions: Divisions,
    /// Polling schedule; default the top-level `schedule`.
    pub schedule: Schedule,
    /// Page that the deposit link of a message opens.
    pub console_url: Url,
    /// Request quotas, all of which apply; empty: no limit.
    pub rate_limit: Vec<Quota>,
    /// Ledger transaction types that do not count as spend; `None`: the default types.
    pub not_spend: Option<Vec<String>>,
    /// Timeout and trusted certificates.
    pub connection: ConnectionOptions,
}

/// Selection of an account's divisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Divisions {
    /// The account has a single division, which is read without a container id.
    Undivided,
    /// All active divisions that the account lists, with exceptions.
    All {
        /// Container ids of the divisions to leave out.
        exclude: BTreeSet<u64>,
    },
    /// Container ids in the order of the file, without duplicates.
    Listed(Vec<u64>),
}

impl Divisions {
    /// Returns the number of divisions, or `None` if only the account's listing can tell.
    pub fn count(&self) -> Option<usize> {
        match self {
            Divisions::Undivided => Some(1),
            Divisions::All { .. } => None,
            Divisions::Listed(ids) => Some(ids.len()),
        }
    }

    /// Returns `true` if the selection can include this division.
    pub fn can_have(&self, id: u64) -> bool {
        match self {
            Divisions::Undivided => false,
            Divisions::All { exclude } => !exclude.contains(&id),
            Divisions::Listed(ids) => ids.contains(&id),
        }
    }
}

/// Limit of `requests` in any window of length `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Maximum number of requests; at least 1.
    pub requests: usize,
    /// Length of the window; above 0.
    pub window: Duration,
}

/// A notifier: a channel with its fallback, quiet hours and templates.
#[derive(Debug, Clone, PartialEq)]
pub struct NotifierConfig {
    /// Channel that messages are sent through.
    pub channel: ChannelConfig,
    /// Notifier that takes over when this one keeps failing. Chains of fallbacks have no cycles.
    pub fallback: Option<Name>,
    /// Hours in which messages are held back; `None`: no quiet hours.
    pub quiet_hours: Option<QuietHours>,
    /// Timeout and trusted certificates.
    pub connection: ConnectionOptions,
    /// Custom templates; empty by default.
    pub templates: Templates,
}

impl NotifierConfig {
    /// Returns `true` if `other` sends to the same place in the same way.
    pub fn sends_as(&self, other: &Self) -> bool {
        self.channel == other.channel && self.connection == other.connection
    }
}

/// Type of a notifier with its settings.
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelConfig {
    /// A Slack incoming webhook.
    Slack {
        /// Address that messages are posted to; a secret.
        webhook_url: Secret,
        /// Text in front of messages of a level, such as `<!here>`.
        mention: BTreeMap<Severity, String>,
    },
    /// Email that is sent over SMTP.
    Email {
        /// Host name or address of the mail server.
        host: String,
        /// Port of the mail server.
        port: u16,
        /// Encryption of the connection.
        tls: EmailTlsConfig,
        /// User name and password, if the server requires them.
        credentials: Option<(String, Secret)>,
        /// Mailbox and OAuth 2.0 credentials, instead of a password.
        oauth2: Option<(String, Box<OAuth2>)>,
        /// Name sent in EHLO; `None`: the host name if it contains a dot, otherwise the address.
        hello: Option<String>,
        /// Address of the sender.
        from: lettre::message::Mailbox,
        /// Recipients; one to fifty.
        to: Vec<lettre::message::Mailbox>,
    },
    /// Generic HTTP endpoint that receives the JSON of docs/webhook.md.
    Webhook {
        /// Address that messages are posted to; a secret.
        url: Secret,
        /// Additional headers by lower-case name; the values are secrets.
        headers: Vec<(String, Secret)>,
        /// Standard Webhooks signing secret; `None`: requests are not signed.
        signing_secret: Option<Secret>,
    },
    /// PagerDuty Events API v2.
    PagerDuty {
        /// Integration key of the service; a secret.
        routing_key: Secret,
        /// Address of the Events API; `None`: the US service region.
        url: Option<Url>,
    },
    /// Webhook of a Microsoft Teams workflow.
    Teams {
        /// Address that messages are posted to; a secret.
        webhook_url: Secret,
    },
}

/// OAuth 2.0 client credentials for SMTP logins.
#[derive(Debug, Clone, PartialEq)]
pub struct OAuth2 {
    /// Address of the token endpoint.
    pub token_url: Url,
    /// Id of the application.
    pub client_id: String,
    /// Secret of the application.
    pub client_secret: Secret,
    /// Scope that the token is requested for.
    pub scope: Option<String>,
}

/// Encryption of an SMTP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailTlsConfig {
    /// TLS from the first byte; default port 465.
    Implicit,
    /// STARTTLS, which the server must offer; default port 587.
    Starttls,
    /// No encryption; default port 25.
    None,
}
