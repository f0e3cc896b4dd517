//! One notifier's configuration → the notifier. The next type is an arm.

use std::sync::Arc;

use url::Url;

use super::http_client;
use crate::config::{Channel, Connection, NotifierConfig, OAuth2, Tls};
use crate::domain::Name;
use crate::notify::channels::email;
use crate::notify::channels::email::oauth2::{ClientCredentials, Tokens};
use crate::notify::channels::email::{Email, EmailOptions};
use crate::notify::channels::pagerduty;
use crate::notify::channels::pagerduty::PagerDuty;
use crate::notify::channels::slack::Slack;
use crate::notify::channels::teams::Teams;
use crate::notify::channels::webhook::Webhook;
use crate::notify::{Notifier, Words};
use crate::util::secret::{Redactor, Secret};
use crate::util::signature::SigningKey;

/// Builds a notifier.
pub(super) fn channel(
    name: &Name,
    config: &NotifierConfig,
    words: &Arc<Words>,
    redactor: &Redactor,
) -> anyhow::Result<Arc<dyn Notifier>> {
    let (name, words, its_redactor) = (name.clone(), Arc::clone(words), redactor.clone());
    let http = |url: &str| http_to(url, &config.connection);
    Ok(match &config.channel {
        Channel::Slack { webhook_url, mention } => {
            let http = http(webhook_url.expose())?;
            let slack = Slack::new(name, webhook_url.clone(), mention.clone(), http, words, its_redactor);
            Arc::new(slack.with_templates(config.templates.clone()))
        }
        Channel::Webhook { url, headers, signing_secret } => {
            let key = signing_secret.as_ref().and_then(|secret| SigningKey::parse(secret.expose()));
            let http = http(url.expose())?;
            Arc::new(Webhook::new(url.clone(), headers, key, http, words, its_redactor))
        }
        Channel::PagerDuty { routing_key, url } => {
            let url = url.as_ref().map_or(pagerduty::DEFAULT_URL, Url::as_str);
            Arc::new(PagerDuty::new(name, routing_key.clone(), url, http(url)?, words, its_redactor))
        }
        Channel::Teams { webhook_url } => {
            Arc::new(Teams::new(webhook_url.clone(), http(webhook_url.expose())?, words, its_redactor))
        }
        Channel::Email { host, port, tls, credentials, oauth2, hello, from, to } => {
            if let Some((user, password)) = credentials {
                // The form in which AUTH PLAIN sends it, and in which a server may echo it.
                redactor.learn(&Secret::new(format!("\0{user}\0{}", password.expose())));
            }
            let options = EmailOptions {
                host: host.clone(),
                port: *port,
                tls: security(*tls),
                credentials: credentials.clone(),
                from: from.clone(),
                to: to.clone(),
                timeout: config.connection.timeout,
                ca_pem: config.connection.ca_pem.clone(),
            };
            let email = Email::new(options, words, its_redactor)?.with_hello(hello.clone());
            let email = email.with_templates(&name, config.templates.clone());
            match oauth2 {
                Some((user, oauth2)) => Arc::new(email.over_oauth2(tokens(user, oauth2, config, redactor)?)),
                None => Arc::new(email),
            }
        }
    })
}

fn http_to(url: &str, connection: &Connection) -> anyhow::Result<reqwest::Client> {
    http_client(connection, Url::parse(url).ok().as_ref())
}

fn tokens(user: &str, oauth2: &OAuth2, config: &NotifierConfig, redactor: &Redactor) -> anyhow::Result<Tokens> {
    let http = http_to(oauth2.token_url.as_str(), &config.connection)?;
    let client = ClientCredentials {
        client_id: oauth2.client_id.clone(),
        client_secret: oauth2.client_secret.clone(),
        scope: oauth2.scope.clone(),
    };
    Ok(Tokens::new(user.to_owned(), oauth2.token_url.as_str(), client, http, redactor.clone()))
}

fn security(tls: Tls) -> email::Tls {
    match tls {
        Tls::Implicit => email::Tls::Implicit,
        Tls::Starttls => email::Tls::Starttls,
        Tls::None => email::Tls::None,
    }
}
