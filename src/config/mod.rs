//! `alerts.yaml` and the environment → valid values. Every problem is reported at once, each with its place.
//!
//! This module starts nothing and reads nothing but the file, the environment that it is given, the secrets' files, and the
//! clock: a silence whose time has passed is worth a warning.

mod accounts;
mod channels;
mod cursor;
mod email;
mod environment;
mod files;
mod interpolate;
mod keys;
mod load;
mod mention;
mod notifiers;
mod pem;
mod problem;
mod quiet;
mod reports;
mod rules;
pub mod scenario;
mod schema;
mod secrets;
mod silences;
mod sources;
mod syntax;
mod templates;
#[cfg(test)]
mod tests;
mod tree;
mod values;
mod watching;

pub use environment::Environment;
pub use files::find;
pub use load::{ConfigOutline, Loaded, load};
pub use problem::{ConfigProblem, ConfigProblems, ProblemSeverity};
pub use schema::schema;
pub use silences::{silence_end, silence_reason};
pub use sources::{Sources, Stamps};

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;
use url::Url;

use crate::domain::Name;
use crate::domain::quiet_hours::QuietHours;
use crate::domain::rule::{Rule, Severity, UnreadablePolicy};
use crate::domain::silence::Silence;
use crate::notify::message::template::Templates;
use crate::polling::schedule::Schedule;
use crate::util::secret::Secret;

/// A whole valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// For schedules and for the times in messages; default UTC.
    pub timezone: Tz,
    /// Where alerts are remembered.
    pub state: PathBuf,
    /// The accounts by name; never empty.
    pub accounts: BTreeMap<Name, Account>,
    /// The notifiers by name; never empty.
    pub notifiers: BTreeMap<Name, NotifierConfig>,
    /// The rules in the order of the file; never empty.
    pub rules: Vec<Rule>,
    /// When and whom to tell that an account cannot be read.
    pub unreadable: UnreadablePolicy,
    /// Where it may be asked over HTTP; default nowhere.
    pub http: Option<Http>,
    /// Who is told that it is awake; default nobody.
    pub heartbeat: Option<Heartbeat>,
    /// What nobody wants to hear for a while, by name; those that have ended are left out.
    pub silences: BTreeMap<Name, Silence>,
    /// The reports by name.
    pub reports: BTreeMap<Name, ReportConfig>,
}

/// Where the service may be asked over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Address and port; beyond this machine only with a token, or where the file says that it may be public.
    pub listen: SocketAddr,
    /// What whoever asks has to show.
    pub token: Option<Secret>,
}

/// Who is told that the service is awake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Asked as it is, and with `/start` or `/fail` at its end; a secret.
    pub url: Secret,
    /// The pause between two pings while all is well; default 5 minutes.
    pub every: Duration,
    /// Timeout and trust.
    pub connection: ConnectionOptions,
}

/// One report.
#[derive(Debug, Clone)]
pub struct ReportConfig {
    /// When it comes.
    pub schedule: Schedule,
    /// Who gets it; default all.
    pub notify: BTreeSet<Name>,
}

/// Options of every HTTP or SMTP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// Longest wait for one request; default 10 s.
    pub timeout: Duration,
    /// Certificates in PEM form to trust beside the system's: those of `ca_file`, all of them good ones.
    pub ca_pem: Option<Vec<u8>>,
}

/// One CertCentral account.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its API key.
    pub api_key: Secret,
    /// Where its API is, without a slash at the end.
    pub base_url: Url,
    /// Which of its divisions are read.
    pub divisions: Divisions,
    /// When its cycles run; default the file's.
    pub schedule: Schedule,
    /// What a message's deposit link opens.
    pub console_url: Url,
    /// At most so many requests in any window of that length; empty: no limit.
    pub rate_limit: Vec<Quota>,
    /// Types of debits in the ledger that are no purchases; `None`: the default ones.
    pub not_spend: Option<Vec<String>>,
    /// Timeout and trust.
    pub connection: ConnectionOptions,
}

/// Which divisions of an account are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Divisions {
    /// The account has only one: it is read without a container id.
    Undivided,
    /// Every active one that the account lists, but these.
    All {
        /// Not these.
        exclude: BTreeSet<u64>,
    },
    /// These, in the order of the file, each once.
    Listed(Vec<u64>),
}

impl Divisions {
    /// How many they are; `None` where only a listing tells.
    pub fn count(&self) -> Option<usize> {
        match self {
            Divisions::Undivided => Some(1),
            Divisions::All { .. } => None,
            Divisions::Listed(ids) => Some(ids.len()),
        }
    }

    /// Whether the account can have this division.
    pub fn can_have(&self, id: u64) -> bool {
        match self {
            Divisions::Undivided => false,
            Divisions::All { exclude } => !exclude.contains(&id),
            Divisions::Listed(ids) => ids.contains(&id),
        }
    }
}

/// At most `requests` in any window of length `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many; at least 1.
    pub requests: usize,
    /// In any window of this length; above 0.
    pub window: Duration,
}

/// One notifier.
#[derive(Debug, Clone, PartialEq)]
pub struct NotifierConfig {
    /// Where it sends.
    pub channel: ChannelConfig,
    /// Tried when this one keeps failing; no chain of fallbacks leads back to its start.
    pub fallback: Option<Name>,
    /// When its messages are held; `None`: never.
    pub quiet_hours: Option<QuietHours>,
    /// Timeout and trust.
    pub connection: ConnectionOptions,
    /// Texts of its own; empty unless set.
    pub templates: Templates,
}

impl NotifierConfig {
    /// Whether it sends to the same place in the same way as `other`.
    pub fn sends_as(&self, other: &Self) -> bool {
        self.channel == other.channel && self.connection == other.connection
    }
}

/// Where a notifier sends.
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelConfig {
    /// A Slack incoming webhook.
    Slack {
        /// Its address; a secret.
        webhook_url: Secret,
        /// Put in front of a message that has this level, as written (`<!here>`).
        mention: BTreeMap<Severity, String>,
    },
    /// E-mail over SMTP.
    Email {
        /// The server's name.
        host: String,
        /// The server's port.
        port: u16,
        /// How the connection is secured.
        tls: EmailTlsConfig,
        /// User name and password, if the server wants them.
        credentials: Option<(String, Secret)>,
        /// The mailbox and where its tokens come from, in place of a password.
        oauth2: Option<(String, Box<OAuth2>)>,
        /// The name in EHLO; `None`: the host's name if it has a dot, else its address.
        hello: Option<String>,
        /// The sender.
        from: lettre::message::Mailbox,
        /// The recipients; one to fifty.
        to: Vec<lettre::message::Mailbox>,
    },
    /// Anybody's endpoint, which gets the JSON of docs/webhook.md.
    Webhook {
        /// Its address; a secret.
        url: Secret,
        /// Headers by name, in lower case; their values are secrets.
        headers: Vec<(String, Secret)>,
        /// What requests are signed with, as Standard Webhooks writes it; default unsigned.
        signing_secret: Option<Secret>,
    },
    /// PagerDuty, Events API v2.
    PagerDuty {
        /// The integration's key.
        routing_key: Secret,
        /// Where events go; default the service region of the United States.
        url: Option<Url>,
    },
    /// The webhook of a Teams workflow.
    Teams {
        /// Its address; a secret.
        webhook_url: Secret,
    },
}

/// OAuth 2.0 client credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct OAuth2 {
    /// The token endpoint.
    pub token_url: Url,
    /// The application.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// What the token is for; default nothing in particular.
    pub scope: Option<String>,
}

/// How an SMTP connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailTlsConfig {
    /// TLS from the first byte; port 465.
    Implicit,
    /// Plain, then STARTTLS, which the server must offer; port 587.
    Starttls,
    /// Plain; port 25.
    None,
}
