//! Builds a notifier from its configuration. Each channel type is one match arm.

use std::sync::Arc;

use url::Url;

use super::http_clients::http_client;
use crate::config::{ChannelConfig, ConnectionOptions, EmailTlsConfig, NotifierConfig, OAuth2};
use crate::domain::Name;
use crate::notify::channels::email;
use crate::notify::channels::email::oauth2::{ClientCredentials, TokenSource};
use crate::notify::channels::email::{EmailNotifier, EmailOptions};
use crate::notify::channels::pagerduty;
use crate::notify::channels::pagerduty::PagerDutyNotifier;
use crate::notify::channels::slack::SlackNotifier;
use crate::notify::channels::teams::TeamsNotifier;
use crate::notify::channels::webhook::WebhookNotifier;
use crate::notify::{MessageContext, Notifier};
use crate::util::secret::{Redactor, Secret};
use crate::util::signature::SigningKey;

/// Builds the notifier called `name`. The redactor learns the forms of its secrets that a server may echo.
pub(super) fn build_notifier(
    name: &Name,
    config: &NotifierConfig,
    context: &Arc<MessageContext>,
    redactor: &Redactor,
) -> anyhow::Result<Arc<dyn Notifier>> {
    let (name, context, channel_redactor) = (name.clone(), Arc::clone(context), redactor.clone());
    let http = |url: &str| http_to(url, &config.connection);
    Ok(match &config.channel {
        ChannelConfig::Slack { webhook_url, mention } => {
            let http = http(webhook_url.expose())?;
            let slack = SlackNotifier::new(name, webhook_url.clone(), mention.clone(), http, context, channel_redactor);
            Arc::new(slack.with_templates(config.templates.clone()))
        }
        ChannelConfig::Webhook { url, headers, signing_secret } => {
            let key = signing_secret.as_ref().and_then(|secret| SigningKey::parse(secret.expose()));
            let http = http(url.expose())?;
            Arc::new(WebhookNotifier::new(url.clone(), headers, key, http, context, channel_redactor))
        }
        ChannelConfig::PagerDuty { routing_key, url } => {
            let url = url.as_ref().map_or(pagerduty::DEFAULT_URL, Url::as_str);
            Arc::new(PagerDutyNotifier::new(name, routing_key.clone(), url, http(url)?, context, channel_redactor))
        }
        ChannelConfig::Teams { webhook_url } => {
            Arc::new(TeamsNotifier::new(webhook_url.clone(), http(webhook_url.expose())?, context, channel_redactor))
        }
        ChannelConfig::Email { host, port, tls, credentials, oauth2, hello, from, to } => {
            if let Some((user, password)) = credentials {
                // AUTH PLAIN sends user and password in this form, and a server may echo it.
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
            let email = EmailNotifier::new(options, context, channel_redactor)?.with_hello(hello.clone());
            let email = email.with_templates(&name, config.templates.clone());
            match oauth2 {
                Some((user, oauth2)) => Arc::new(email.with_oauth2(tokens(user, oauth2, config, redactor)?)),
                None => Arc::new(email),
            }
        }
    })
}

fn http_to(url: &str, connection: &ConnectionOptions) -> anyhow::Result<reqwest::Client> {
    http_client(connection, Url::parse(url).ok().as_ref())
}

fn tokens(user: &str, oauth2: &OAuth2, config: &NotifierConfig, redactor: &Redactor) -> anyhow::Result<TokenSource> {
    let http = http_to(oauth2.token_url.as_str(), &config.connection)?;
    let client = ClientCredentials {
        client_id: oauth2.client_id.clone(),
        client_secret: oauth2.client_secret.clone(),
        scope: oauth2.scope.clone(),
    };
    Ok(TokenSource::new(user.to_owned(), oauth2.token_url.as_str(), client, http, redactor.clone()))
}

fn security(tls: EmailTlsConfig) -> email::SmtpTls {
    match tls {
        EmailTlsConfig::Implicit => email::SmtpTls::Implicit,
        EmailTlsConfig::Starttls => email::SmtpTls::Starttls,
        EmailTlsConfig::None => email::SmtpTls::None,
    }
}
