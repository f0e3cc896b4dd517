//! Entry point of loading: file and environment in, configuration or all problems out.

use std::path::{Path, PathBuf};

use super::context::{ConfigOutline, LoadContext};
use super::cursor::Cursor;
use super::environment::{Environment, overlay};
use super::model::Config;
use super::problem::{ConfigProblem, ConfigProblems, ProblemReport, ProblemSeverity};
use super::rules::RuleReferences;
use super::sources::Sources;
use super::{accounts, catalog, monitoring, notifiers, reports, rules, section, silences, values};
use crate::domain::Name;
use crate::util::clock::{Clock, SystemClock};
use crate::util::secret::Secret;

/// Result of loading a configuration, valid or not.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Configuration, or all errors in it.
    pub config: Result<Config, ConfigProblems>,
    /// Problems that do not prevent the configuration from being used.
    pub warnings: ConfigProblems,
    /// Secrets that were read, also from an invalid configuration.
    pub secrets: Vec<Secret>,
    /// Files that were read, also for an invalid configuration.
    pub sources: Sources,
    /// Facts that are known even if the configuration is invalid.
    pub outline: ConfigOutline,
}

/// Default name of the state file.
const DEFAULT_STATE: &str = "lowtide-state.json";

/// Loads the configuration at `path`. Overrides and `${NAME}` are taken from `environment`.
pub fn load(path: &Path, environment: &Environment) -> Loaded {
    let ctx = LoadContext::new(path, environment);
    let mut warnings = Vec::new();
    let config = read(path, &ctx, &mut warnings);
    let (errors, mild): (Vec<_>, Vec<_>) =
        ctx.take_problems().into_iter().partition(|problem| problem.severity == ProblemSeverity::Error);
    warnings.extend(mild);
    let config = config.filter(|_| errors.is_empty()).ok_or(ConfigProblems(errors));
    Loaded {
        config,
        warnings: ConfigProblems(warnings),
        secrets: ctx.secrets.into_inner(),
        sources: ctx.sources.into_inner(),
        outline: ctx.outline.into_inner(),
    }
}

fn read(path: &Path, ctx: &LoadContext<'_>, warnings: &mut Vec<ConfigProblem>) -> Option<Config> {
    let expected = "a readable file with accounts, notifiers and rules (`lowtide init` writes one to start from)";
    ctx.outline.borrow_mut().state = Some(default_state(ctx));
    let (text, mode) = ctx.file(path, expected)?;
    let root = ctx.tree(&text, "accounts, notifiers and rules")?;
    let (root, ignored) = overlay(&root, ctx.environment);
    warnings.extend(ignored);
    let config = decode(&Cursor::root(ctx, &root), path);
    let readable_by_others = mode.filter(|mode| mode & 0o044 != 0 && ctx.literal_secret.get());
    warnings.extend(readable_by_others.map(|mode| readable_secrets(ctx, mode)));
    config
}

/// Returns the warning about a file with secrets that other users can read.
fn readable_secrets(ctx: &LoadContext<'_>, mode: u32) -> ConfigProblem {
    let message = format!("other users can read this file, and it contains secrets (mode {mode:04o})");
    let found = format!("secrets in a file that others can read (mode {mode:04o})");
    let expected = "mode 0600, or ${NAME} or a `_file` key instead of the secrets".to_owned();
    ConfigProblem::new(ctx.file.clone(), None, ProblemReport::warning(String::new(), message, found, expected))
}

fn decode(cursor: &Cursor<'_>, path: &Path) -> Option<Config> {
    let section = cursor.section(catalog::ROOT)?;
    let timezone = section.read_or_default("timezone", values::timezone).unwrap_or_default();
    let schedule = match section.get("schedule") {
        Some(cursor) => accounts::schedule(&cursor, timezone),
        None => section::default(catalog::ROOT, "schedule", |text| accounts::parse_schedule(text, timezone)),
    };
    let state = match section.get("state") {
        Some(cursor) => cursor.read(values::line).map(|state| cursor.ctx.folder.join(state)),
        None => Some(default_state(cursor.ctx)),
    };
    *cursor.ctx.outline.borrow_mut() = ConfigOutline { state: state.clone(), timezone };
    let accounts = section.required("accounts", "at least one account");
    let accounts = accounts.map_or_else(Vec::new, |cursor| accounts::accounts(&cursor, schedule.as_ref(), timezone));
    let notifiers = section.required("notifiers", "at least one notifier");
    let notifiers = notifiers.map_or_else(Vec::new, |cursor| notifiers::notifiers(&cursor, timezone));
    let account_names: Vec<Name> = accounts.iter().map(|draft| Name::clone(&draft.name)).collect();
    let notifier_names: Vec<Name> = notifiers.iter().map(|(name, _)| Name::clone(name)).collect();
    let references = RuleReferences { accounts: &accounts, account_names: &account_names, notifiers: &notifier_names };
    let rules = section.required("rules", "at least one rule");
    let rules = rules.map_or_else(Vec::new, |cursor| rules::rules(&cursor, &references));
    let unreadable = rules::unreadable(section.get("unreadable").as_ref(), &notifier_names);
    let http = section.get("http").map(|cursor| monitoring::http(&cursor));
    let heartbeat = section.get("heartbeat").map(|cursor| monitoring::heartbeat(&cursor));
    let silence_references = silences::SilenceReferences {
        accounts: &accounts,
        account_names: &account_names,
        rules: silences::rule_names(section.get("rules").as_ref()),
        timezone,
        now: SystemClock.now(),
    };
    let silences =
        section.get("silences").map(|cursor| silences::silences(&cursor, &silence_references)).unwrap_or_default();
    let reports = section.get("reports");
    let reports = reports.map(|cursor| reports::reports(&cursor, &notifier_names, timezone)).unwrap_or_default();
    Some(Config {
        file: path.to_owned(),
        timezone,
        state: state?,
        accounts: accounts.into_iter().filter_map(|draft| Some((draft.name, draft.account?))).collect(),
        notifiers: notifiers.into_iter().filter_map(|(name, notifier)| Some((name, notifier?))).collect(),
        rules,
        unreadable: unreadable?,
        http: http.flatten(),
        heartbeat: heartbeat.flatten(),
        silences,
        reports,
    })
}

fn default_state(ctx: &LoadContext<'_>) -> PathBuf {
    // systemd separates several folders by colons.
    let folders = ctx.environment.get("STATE_DIRECTORY").unwrap_or_default();
    match folders.split(':').find(|folder| !folder.is_empty()) {
        Some(folder) => Path::new(folder).join(DEFAULT_STATE),
        None => ctx.folder.join(DEFAULT_STATE),
    }
}
