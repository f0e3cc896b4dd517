//! The configuration of the demo, a file that the service loads and people read. It fits every shipped scenario.

use std::net::SocketAddr;

use crate::sandbox::scenario::Scenario;
use crate::sandbox::server::{API_KEY, PATH};

/// Formats the text of alerts.yaml.
pub(super) fn text(scenario: &Scenario, certcentral: SocketAddr, webhook_url: &str, smtp: SocketAddr) -> String {
    let divisions = if scenario.divisions.len() > 1 { "\n    divisions: all" } else { "" };
    let (smtp_host, smtp_port) = (smtp.ip(), smtp.port());
    format!(
        r#"# The configuration of the demo's service. It looks like yours would; only the addresses are on loopback.
# While the demo runs, query its service from another terminal:  lowtide status -c THIS-FILE

schedule: every 2h

accounts:
  acme:
    api_key: {API_KEY}                  # a real one would come from ${{DIGICERT_API_KEY}}
    base_url: http://{certcentral}{PATH}
    timeout: 1s                               # shorter if the scenario has many requests without a response
    rate_limit: off                           # simulated days pass in seconds{divisions}

notifiers:
  finance-slack:
    type: slack
    webhook_url: {webhook_url}
    mention: {{ critical: "<!here>" }}
    fallback: finance-mail
  finance-mail:
    type: email
    host: {smtp_host}
    port: {smtp_port}
    tls: none                                 # fine on loopback; elsewhere implicit or starttls
    from: "Lowtide <lowtide@example.com>"
    to: ["Finance <finance@example.com>"]

rules:
  available-funds:
    metric: available_funds
    warning: {{ below: 2000, remind_every: 3d, notify: [finance-slack] }}
    critical: {{ below: 500, remind_every: 24h }}
    description: Ask Finance for a purchase order; a PO takes five working days.
  unpaid-invoices:
    metric: unpaid_invoices
    warning: {{ above: 1000, clear_at: 0, remind_every: 3d, notify: [finance-mail] }}
    description: Pay the invoice, or it will be taken from the balance.

unreadable: {{ after: 3h, level: warning, notify: [finance-slack] }}
"#
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Environment, load, scenario};
    use crate::sandbox::scenario::SHIPPED;

    #[test]
    fn the_configuration_is_valid_without_a_warning_for_every_scenario() {
        let folder = tempfile::tempdir().unwrap();
        for (name, yaml) in SHIPPED {
            let address = "127.0.0.1:8099".parse().unwrap();
            let text =
                text(&scenario::parse(name, yaml).unwrap(), address, "http://127.0.0.1:1/services/DEMO", address);
            let file = folder.path().join("alerts.yaml");
            std::fs::write(&file, text).unwrap();
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&file, permissions).unwrap();
            let loaded = load(&file, &Environment::new(std::iter::empty()));
            loaded.config.unwrap_or_else(|problems| panic!("{name}: {problems}"));
            assert!(loaded.warnings.is_empty(), "{name}: {}", loaded.warnings);
        }
    }
}
