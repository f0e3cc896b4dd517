//! The one way in: file and environment → configuration, or everything that is wrong with them.

use std::path::{Path, PathBuf};

use chrono_tz::Tz;

use super::cursor::{Cursor, LoadContext};
use super::environment::{Environment, overlay};
use super::problem::{ConfigProblem, ConfigProblems, ProblemSeverity};
use super::rules::RuleReferences;
use super::sources::Sources;
use super::{Config, accounts, keys, notifiers, reports, rules, silences, values, watching};
use crate::domain::Name;
use crate::polling::schedule::Schedule;
use crate::util::clock::{Clock, SystemClock};
use crate::util::secret::{Redactor, Secret};

/// What loading gave.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration, or every error in it.
    pub config: Result<Config, ConfigProblems>,
    /// What does not keep it from being used.
    pub warnings: ConfigProblems,
    /// Every secret that was seen, also in a configuration that is refused.
    pub secrets: Vec<Secret>,
    /// The files that it was read from, also where it is refused.
    pub sources: Sources,
    /// What can be said of it even if it is refused.
    pub outline: ConfigOutline,
}

/// What asking a running service needs of a configuration: it is still running when its file has become a bad one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigOutline {
    /// Where alerts are remembered; `None` where the file says it in a way that is not understood.
    pub state: Option<PathBuf>,
    /// For the times that are shown.
    pub timezone: Tz,
}

/// When cycles run unless the file says otherwise.
const DEFAULT_SCHEDULE: &str = "every 15m";
/// The state's file name unless the file says otherwise.
const DEFAULT_STATE: &str = "lowtide-state.json";

/// Reads a configuration.
pub fn load(path: &Path, environment: &Environment) -> Loaded {
    let ctx = LoadContext::new(path, environment);
    let mut warnings = Vec::new();
    let config = read(path, &ctx, &mut warnings);
    let secrets = ctx.secrets.into_inner();
    let (sources, outline) = (ctx.sources.into_inner(), ctx.outline.into_inner());
    let redactor = Redactor::default();
    for secret in &secrets {
        redactor.learn(secret);
    }
    let all = ctx.problems.into_inner();
    let (mut errors, mild_problems): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|it| it.severity == ProblemSeverity::Error);
    warnings.extend(mild_problems);
    for problem in errors.iter_mut().chain(&mut warnings) {
        // A secret that was put under a wrong key as well, or in the place of one.
        problem.path = redactor.redact(&problem.path);
        problem.found = redactor.redact(&problem.found);
        problem.expected = redactor.redact(&problem.expected);
    }
    sort(&mut errors);
    let config = config.filter(|_| errors.is_empty()).ok_or(ConfigProblems(errors));
    Loaded { config, warnings: ConfigProblems(warnings), secrets, sources, outline }
}

/// In the order of the file. Those of the environment have no line: they come last.
pub(super) fn sort(problems: &mut [ConfigProblem]) {
    problems.sort_by_key(|problem| (problem.line.is_none() && !problem.path.is_empty(), problem.line, problem.column));
}

fn read(path: &Path, ctx: &LoadContext<'_>, warnings: &mut Vec<ConfigProblem>) -> Option<Config> {
    let expected = "a readable file with accounts, notifiers and rules (lowtide init writes one to start from)";
    ctx.outline.borrow_mut().state = Some(default_state(ctx));
    let (text, mode) = ctx.file(path, expected)?;
    let root = ctx.tree(&text, "accounts, notifiers and rules")?;
    let (root, ignored) = overlay(&root, ctx.environment);
    warnings.extend(ignored);
    let config = decode(&Cursor::root(ctx, &root), path);
    let open = mode.filter(|mode| mode & 0o044 != 0 && ctx.literal_secret.get());
    warnings.extend(open.map(|mode| ConfigProblem {
        severity: ProblemSeverity::Warning,
        file: ctx.file.clone(),
        line: None,
        column: None,
        path: String::new(),
        found: format!("secrets in a file that others can read (mode {mode:04o})"),
        expected: "mode 0600, or ${NAME} or a `_file` key instead of the secrets".to_owned(),
        suggestion: None,
    }));
    config
}

fn decode(cursor: &Cursor<'_>, path: &Path) -> Option<Config> {
    let section = cursor.section(keys::ROOT)?;
    let timezone = section.read("timezone", values::timezone).unwrap_or(Tz::UTC);
    let schedule = match section.get("schedule") {
        Some(cursor) => accounts::schedule(&cursor, timezone),
        None => Schedule::parse(DEFAULT_SCHEDULE, timezone).ok(),
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
    let http = section.get("http").map(|cursor| watching::http(&cursor));
    let heartbeat = section.get("heartbeat").map(|cursor| watching::heartbeat(&cursor));
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
        unreadable,
        http: http.flatten(),
        heartbeat: heartbeat.flatten(),
        silences,
        reports,
    })
}

fn default_state(ctx: &LoadContext<'_>) -> PathBuf {
    // systemd gives several folders with colons between them.
    let folders = ctx.environment.get("STATE_DIRECTORY").unwrap_or_default();
    match folders.split(':').find(|folder| !folder.is_empty()) {
        Some(folder) => Path::new(folder).join(DEFAULT_STATE),
        None => ctx.folder.join(DEFAULT_STATE),
    }
}
