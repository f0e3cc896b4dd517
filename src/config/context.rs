//! State that the decoding of one file shares: its environment, and everything that is collected on the way.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use chrono_tz::Tz;

use super::environment::Environment;
use super::excerpt::excerpt;
use super::files;
use super::problem::{ConfigProblem, ProblemReport};
use super::sources::Sources;
use super::tree::{self, Node, SourceLocation};
use crate::util::secret::{Redactor, Secret};
use crate::util::text::nearest;

/// Facts that commands need to reach a running service, whose file may have become invalid since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigOutline {
    /// State file; `None` if the configuration names it in an invalid way.
    pub state: Option<PathBuf>,
    /// Time zone of the times that are shown.
    pub timezone: Tz,
}

/// Number of problems that get suggestions and excerpts. A file with more is not a file with typing mistakes, and both take
/// time.
const MAX_DETAILED_PROBLEMS: usize = 100;

/// Shared state of the decoding.
pub(super) struct LoadContext<'a> {
    /// File as the user named it.
    pub(super) file: String,
    /// Folder of the file, in which relative paths start.
    pub(super) folder: PathBuf,
    pub(super) environment: &'a Environment,
    problems: RefCell<Vec<ConfigProblem>>,
    /// Text of the file, for excerpts.
    text: RefCell<String>,
    pub(super) secrets: RefCell<Vec<Secret>>,
    /// Files that were read, or could not be read.
    pub(super) sources: RefCell<Sources>,
    pub(super) outline: RefCell<ConfigOutline>,
    /// Set if the file itself contains a secret.
    pub(super) literal_secret: Cell<bool>,
    /// Set if `${NAME}` stands for a variable of the environment.
    pub(super) variables: bool,
}

impl<'a> LoadContext<'a> {
    /// Creates the context of the file at `path`.
    pub(super) fn new(path: &Path, environment: &'a Environment) -> Self {
        Self {
            file: path.display().to_string(),
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
            environment,
            problems: RefCell::default(),
            text: RefCell::default(),
            secrets: RefCell::default(),
            sources: RefCell::default(),
            outline: RefCell::default(),
            literal_secret: Cell::new(false),
            variables: true,
        }
    }

    /// Takes `${NAME}` as plain text.
    pub(super) fn without_variables(self) -> Self {
        Self { variables: false, ..self }
    }

    /// Returns the text of a YAML file and its permission bits, or `None` after reporting why it cannot be used.
    pub(super) fn file(&self, path: &Path, expected: &str) -> Option<(String, Option<u32>)> {
        let read = files::yaml(path, expected);
        let content = read.as_ref().map_or_else(|error| &error.found, |(text, _)| text);
        self.sources.borrow_mut().note(path, content.as_bytes());
        let error = match read {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let message = format!("cannot use the file: {}", error.found);
        self.add(
            error.place,
            self.file.clone(),
            ProblemReport::error(String::new(), message, error.found, error.expected),
        );
        None
    }

    /// Parses a text into a tree and reports its syntax errors.
    pub(super) fn tree(&self, text: &str, expected: &str) -> Option<Rc<Node>> {
        text.clone_into(&mut self.text.borrow_mut());
        let (root, errors) = tree::parse(text, expected);
        for error in errors {
            let report = ProblemReport::error(error.path.into(), error.message, error.found, error.expected);
            self.add(
                Some(error.place),
                self.file.clone(),
                ProblemReport { source: error.source.map(Into::into), ..report },
            );
        }
        root
    }

    /// Returns the known word that is nearest to `text`, if one is near.
    pub(super) fn nearest<'k>(&self, text: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
        if self.problems.borrow().len() < MAX_DETAILED_PROBLEMS { nearest(text, known) } else { None }
    }

    /// Adds a problem of the file or of an environment variable.
    pub(super) fn report(&self, place: &SourceLocation, report: ProblemReport) {
        match place {
            SourceLocation::At(line, column) => self.add(Some((*line, *column)), self.file.clone(), report),
            SourceLocation::Variable(name) => self.add(None, name.to_string(), report),
        }
    }

    fn add(&self, place: Option<(usize, usize)>, file: String, report: ProblemReport) {
        self.problems.borrow_mut().push(ConfigProblem::new(file, place, report));
    }

    /// Returns all problems in the order of the file, with excerpts, and without any secret that was read.
    pub(super) fn take_problems(&self) -> Vec<ConfigProblem> {
        let redactor = Redactor::default();
        for secret in self.secrets.borrow().iter() {
            redactor.learn(secret);
        }
        let mut problems = self.problems.take();
        // Problems of environment variables have no line and come last.
        problems
            .sort_by_key(|problem| (problem.line.is_none() && !problem.path.is_empty(), problem.line, problem.column));
        for problem in &mut problems {
            redact(problem, &redactor);
        }
        let text = self.text.borrow();
        let lines: Vec<&str> = text.lines().collect();
        for problem in problems.iter_mut().take(MAX_DETAILED_PROBLEMS) {
            add_excerpt(problem, &lines, &redactor);
        }
        problems
    }
}

/// Removes secrets from a problem: the same text may be a secret in one place and a wrong key or value in another.
fn redact(problem: &mut ConfigProblem, redactor: &Redactor) {
    for text in [&mut problem.path, &mut problem.found, &mut problem.expected, &mut problem.message] {
        *text = redactor.redact(text);
    }
    for text in [&mut problem.suggestion, &mut problem.source] {
        text.take_if(|text| redactor.redact(text) != *text);
    }
}

fn add_excerpt(problem: &mut ConfigProblem, lines: &[&str], redactor: &Redactor) {
    let Some((line, column)) = problem.line.zip(problem.column) else { return };
    let Some(text) = lines.get(line.saturating_sub(1)) else { return };
    let excerpt = excerpt(text, column, problem.source.as_deref(), &problem.path);
    problem.excerpt = excerpt.filter(|excerpt| redactor.redact(&excerpt.text) == excerpt.text);
}
