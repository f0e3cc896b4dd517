//! Loading `alerts.yaml` and the environment into a validated [`Config`], or into a list of all problems with their places.
//!
//! Loading starts nothing. It reads the configuration file, the files of secrets and certificates that it names, the given
//! environment, and the clock (to warn about silences that have ended).
//!
//! Path of a configuration: [`load`] reads the text, `tree` parses it, `environment` applies overrides, `cursor` and
//! `section` walk the tree, one file per section (`accounts`, `notifiers`, `rules`, …) decodes it with the parsers of
//! `values`, and `catalog` describes every key for the loader, the JSON Schema and docs/configuration.md.

mod accounts;
mod catalog;
mod channels;
mod context;
mod cursor;
mod email;
mod environment;
mod excerpt;
mod files;
mod interpolate;
mod keys;
mod load;
mod mention;
mod model;
mod monitoring;
mod notifiers;
mod pem;
mod problem;
mod quiet;
mod reference;
mod reports;
mod rules;
pub mod scenario;
mod schema;
mod secrets;
mod section;
mod silences;
mod sources;
mod syntax;
mod templates;
#[cfg(test)]
mod tests;
mod tree;
mod values;
mod vocabulary;

pub use context::ConfigOutline;
pub use environment::Environment;
pub use excerpt::Excerpt;
pub use files::find;
pub use load::{Loaded, load};
pub use model::{
    Account, ChannelConfig, Config, ConnectionOptions, Divisions, EmailTlsConfig, Heartbeat, Http, NotifierConfig,
    OAuth2, Quota, ReportConfig,
};
pub use problem::{ConfigProblem, ConfigProblems, ProblemSeverity};
pub use reference::reference;
pub use schema::schema;
pub use silences::{silence_end, silence_reason};
pub use sources::{Sources, Stamps};
