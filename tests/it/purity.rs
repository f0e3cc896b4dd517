//! Architecture, proven from the import graph: what is pure, what may import what, and that files do not import each other in
//! circles.
//!
//! The graph is built from the `use` declarations and paths of every file in `src`, as `syn` parses them. Tests inside files
//! are not part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// Folders, and files of other folders, without I/O, clock, log or async.
const PURE: &[&str] = &["alerting", "backtest", "chart", "domain", "forecast", "util/text.rs"];

/// External crates that pure code may use.
const PURE_CRATES: &[&str] = &[
    "alloc",
    "chrono",
    "chrono_tz",
    "core",
    "croner",
    "iso_currency",
    "plotters",
    "png",
    "rand",
    "rand_chacha",
    "rust_decimal",
    "serde",
    "sha2",
    "std",
    "strsim",
    "thiserror",
    "url",
];

/// Paths that pure code may not use, although their crate is among the pure ones.
const IMPURE_PATHS: &[&str] = &[
    "chrono::Local",
    "rand::rng",
    "rand::rngs::OsRng",
    "rand::rngs::ThreadRng",
    "rand::thread_rng",
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Functions that read a clock, under any name of their module.
const CLOCKS: &[&str] = &["Instant::now", "Local::now", "SystemTime::now", "Utc::now"];

/// Layers of folders, lowest first. A folder may import from its own layer and from lower ones.
const LAYERS: &[&[&str]] = &[
    &["domain"],
    &["alerting", "backtest", "chart", "forecast", "util"],
    &["certcentral", "config", "sandbox", "state"],
    &["history", "notify", "polling", "status"],
    &["app"],
    &["cli"],
];

/// Imports that are still to be removed: (file, imported file).
const EXCEPTIONS: &[(&str, &str)] = &[
    ("config/model.rs", "notify/message/template.rs"),
    ("config/templates.rs", "notify/message/template.rs"),
    ("config/values.rs", "notify/channels/email/address.rs"),
];

/// Imports of the sandbox by the service that are still to be removed.
const SANDBOX_EXCEPTIONS: &[(&str, &str)] = &[("config/scenario.rs", "sandbox/scenario.rs")];

/// Cycles that are still to be removed.
const CYCLES: &[&[&str]] = &[
    &["notify/channels/slack/blocks.rs", "notify/channels/slack/report.rs"],
    &["notify/message/forecast_lines.rs", "notify/message/phrase.rs", "notify/message/report/mod.rs"],
    &[
        "polling/cycle_log.rs",
        "polling/forecasts.rs",
        "polling/history_access.rs",
        "polling/listing.rs",
        "polling/poller.rs",
    ],
];

/// Files below `src`, and what they use.
struct ImportGraph {
    /// Paths of other crates that a file uses, such as `std::fs::read`.
    external: BTreeMap<String, BTreeSet<String>>,
    /// Files that a file imports from.
    internal: BTreeMap<String, BTreeSet<String>>,
}

impl ImportGraph {
    fn of_sources() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files: Vec<String> = sources(&root.join("src"))
            .iter()
            .map(|path| path.strip_prefix(root.join("src")).unwrap().to_str().unwrap().to_owned())
            .filter(|file| !file.ends_with("tests.rs") && !file.contains("tests/") && file != "main.rs")
            .collect();
        let modules: BTreeMap<Vec<String>, String> = files.iter().map(|file| (module_of(file), file.clone())).collect();
        let crates = dependencies(root);
        let mut graph = ImportGraph { external: BTreeMap::new(), internal: BTreeMap::new() };
        for (module, file) in &modules {
            let text = std::fs::read_to_string(root.join("src").join(file)).unwrap();
            let mut used = UsedPaths::default();
            used.visit_file(&syn::parse_file(&text).unwrap());
            let (external, internal) =
                (graph.external.entry(file.clone()).or_default(), graph.internal.entry(file.clone()).or_default());
            for path in used.0 {
                let first = path[0].as_str();
                let absolute = match first {
                    "crate" => path[1..].to_vec(),
                    "self" => [module, &path[1..]].concat(),
                    "super" => {
                        let up = path.iter().take_while(|segment| *segment == "super").count();
                        [&module[..module.len() - up], &path[up..]].concat()
                    }
                    _ if modules.contains_key(&[module, &path[..1]].concat()) => [module, path.as_slice()].concat(),
                    _ => {
                        if crates.contains(first) || CLOCKS.contains(&path.join("::").as_str()) {
                            external.insert(path.join("::"));
                        }
                        continue;
                    }
                };
                let mut prefixes = (1..=absolute.len()).rev().map(|length| &absolute[..length]);
                let Some(target) = prefixes.find(|prefix| modules.contains_key(*prefix)) else { continue };
                // A module and its own submodules are one unit, seen from above: it may use them freely.
                if !target.starts_with(module) {
                    internal.insert(modules[target].clone());
                }
            }
        }
        graph
    }

    fn imports(&self) -> impl Iterator<Item = (&str, &str)> {
        self.internal
            .iter()
            .flat_map(|(file, targets)| targets.iter().map(move |target| (file.as_str(), target.as_str())))
    }

    /// Returns the groups of files that reach one another, each sorted.
    fn cycles(&self) -> BTreeSet<Vec<&str>> {
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            self.internal.keys().map(|file| (file.as_str(), self.reached_from(file))).collect();
        let mut groups = BTreeSet::new();
        for (file, reached_from_file) in reached.iter().filter(|(file, reached)| reached.contains(*file)) {
            groups.insert(reached_from_file.iter().copied().filter(|other| reached[other].contains(file)).collect());
        }
        groups
    }

    /// Returns every file that is reached from `start` by at least one import.
    fn reached_from(&self, start: &str) -> BTreeSet<&str> {
        let (mut reached, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(file) = open.pop() {
            for target in &self.internal[file] {
                if reached.insert(target.as_str()) {
                    open.push(target);
                }
            }
        }
        reached
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let all = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    all.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Returns the module path of a file: `alerting/queue/mod.rs` is `alerting`, `queue`.
fn module_of(file: &str) -> Vec<String> {
    let mut segments: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(segments.last().map(String::as_str), Some("mod" | "lib")) {
        segments.pop();
    }
    segments
}

/// Returns the names of all crates that the sources may use.
fn dependencies(root: &Path) -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let listed = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let listed = listed.take_while(|line| !line.starts_with('['));
    let names = listed.filter_map(|line| Some(line.split_once('=')?.0.trim().replace('-', "_")));
    names.chain(["std", "core", "alloc"].map(str::to_owned)).collect()
}

/// Collects the paths that code outside tests uses, as their segments.
#[derive(Default)]
struct UsedPaths(Vec<Vec<String>>);

impl UsedPaths {
    fn add_use_tree(&mut self, tree: &syn::UseTree, prefix: &[String]) {
        match tree {
            syn::UseTree::Path(path) => self.add_use_tree(&path.tree, &[prefix, &[path.ident.to_string()]].concat()),
            syn::UseTree::Name(name) => self.0.push([prefix, &[name.ident.to_string()]].concat()),
            syn::UseTree::Rename(name) => self.0.push([prefix, &[name.ident.to_string()]].concat()),
            syn::UseTree::Glob(_) => self.0.push(prefix.to_vec()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_use_tree(tree, prefix)),
        }
    }
}

impl<'ast> Visit<'ast> for UsedPaths {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = item.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
        });
        if !is_test {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // A module that exports an item of its own child is the child's facade, not its user.
        let mut used = UsedPaths::default();
        used.add_use_tree(&item.tree, &[]);
        let is_export = !matches!(item.vis, syn::Visibility::Inherited);
        let is_known = |path: &Vec<String>| !is_export || matches!(path[0].as_str(), "crate" | "super");
        self.0.extend(used.0.into_iter().filter(is_known));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        // The arguments of a macro are not parsed: paths are found among their words.
        let text = item.tokens.to_string().replace(" :: ", "::");
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        let paths = words.map(|word| word.trim_matches(':')).filter(|word| word.contains("::"));
        self.0.extend(paths.map(|path| path.split("::").map(str::to_owned).collect()));
        syn::visit::visit_macro(self, item);
    }
}

fn folder_of(file: &str) -> Option<&str> {
    file.split_once('/').map(|(folder, _)| folder)
}

/// Returns true for a file of a pure folder, and for a pure file of another one.
fn is_pure(file: &str) -> bool {
    PURE.contains(&file) || folder_of(file).is_some_and(|folder| PURE.contains(&folder))
}

fn layer_of(folder: &str) -> usize {
    LAYERS.iter().position(|layer| layer.contains(&folder)).unwrap_or_else(|| panic!("{folder} is in no layer"))
}

/// Compares what was found with the exceptions, and names the lines to change.
fn assert_same<T: Ord + std::fmt::Debug>(found: &BTreeSet<T>, expected: &BTreeSet<T>, what: &str) {
    let new: Vec<&T> = found.difference(expected).collect();
    let gone: Vec<&T> = expected.difference(found).collect();
    assert!(new.is_empty(), "{what} that must not be there: {new:#?}");
    assert!(gone.is_empty(), "{what} that are gone, to be removed from the list of exceptions: {gone:#?}");
}

#[test]
fn pure_code_uses_pure_crates_and_no_clock_file_or_network() {
    let graph = ImportGraph::of_sources();
    let pure = graph.external.iter().filter(|(file, _)| is_pure(file));
    let mut files = 0;
    for (file, paths) in pure {
        files += 1;
        for path in paths {
            let first = path.split("::").next().unwrap_or_default();
            let is_clock = CLOCKS.iter().any(|clock| path.ends_with(clock));
            let is_impure =
                IMPURE_PATHS.iter().any(|impure| path == impure || path.starts_with(&format!("{impure}::")));
            assert!(PURE_CRATES.contains(&first) && !is_clock && !is_impure, "{file} uses {path}");
        }
    }
    assert!(files > 40, "only {files} pure files were found");
}

#[test]
fn files_import_only_from_their_own_layer_and_lower_ones() {
    let graph = ImportGraph::of_sources();
    let is_forbidden = |file: &str, target: &str| {
        let (Some(from), Some(to)) = (folder_of(file), folder_of(target)) else { return false };
        // Pure code reaches pure code only: with the test above, that holds for everything that it reaches.
        layer_of(to) > layer_of(from) || (is_pure(file) && !is_pure(target))
    };
    let found = graph.imports().filter(|(file, target)| is_forbidden(file, target)).collect();
    assert_same(&found, &EXCEPTIONS.iter().copied().collect(), "imports");
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let graph = ImportGraph::of_sources();
    assert_same(&graph.cycles(), &CYCLES.iter().map(|cycle| cycle.to_vec()).collect(), "cycles");
}

#[test]
fn nothing_of_the_service_depends_on_the_sandbox() {
    let graph = ImportGraph::of_sources();
    let users: BTreeSet<_> = graph.imports().filter(|(_, target)| folder_of(target) == Some("sandbox")).collect();
    let found = users.into_iter().filter(|(file, _)| !matches!(folder_of(file), Some("sandbox" | "cli"))).collect();
    assert_same(&found, &SANDBOX_EXCEPTIONS.iter().copied().collect(), "imports of the sandbox");
}
