//! Tests that load complete files and look at the configuration or its problems.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certificates;
mod excerpts;
mod hostile;
mod overrides;
mod problems;
mod syntax;
mod valid;

use super::{Config, Environment, Loaded, load};

/// A folder with `alerts.yaml` in it.
struct Files(tempfile::TempDir);

impl Files {
    fn new(yaml: impl AsRef<[u8]>) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.add("alerts.yaml", yaml);
        files
    }

    fn add(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    fn load(&self, variables: &[(&str, &str)]) -> Loaded {
        load(&self.0.path().join("alerts.yaml"), &variables.iter().copied().collect::<Environment>())
    }

    fn rendered(&self, problems: &impl ToString) -> String {
        problems.to_string().replace(&format!("{}/", self.0.path().display()), "")
    }

    fn errors(&self, variables: &[(&str, &str)]) -> String {
        self.load(variables).config.map_or_else(|problems| self.rendered(&problems), |_| String::new())
    }

    fn warnings(&self, variables: &[(&str, &str)]) -> String {
        self.rendered(&self.load(variables).warnings)
    }

    fn config(&self, variables: &[(&str, &str)]) -> Config {
        self.load(variables).config.map_err(|problems| problems.to_string()).unwrap()
    }
}

const ACCOUNTS: &str = "accounts:\n  acme: { api_key: key-of-acme }\n";
const NOTIFIERS: &str =
    "notifiers:\n  chat: { type: slack, webhook_url: \"https://hooks.example.com/T0/B0/secret\" }\n";
const RULES: &str = "rules:\n  low: { metric: balance, warning: { below: 2000 } }\n";

/// Returns the smallest valid file, with one section replaced.
fn with(part: &str) -> String {
    let key = part.split(':').next().unwrap_or_default();
    let parts = [ACCOUNTS, NOTIFIERS, RULES].into_iter().filter(|default| !default.starts_with(&format!("{key}:")));
    let mut text = format!("{part}\n");
    text.extend(parts);
    text
}
