//! Login (RFC 4954): PLAIN, LOGIN, and XOAUTH2 for tokens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::SmtpFailure;
use super::connection::SmtpConnection;
use super::extensions::SmtpExtensions;
use super::reply::SmtpReply;
use crate::util::secret::Secret;

const STEP: &str = "logging in";

/// Credentials for the login.
pub(crate) enum SmtpLogin {
    /// User name and password.
    Password(String, Secret),
    /// Mailbox and a token instead of a password.
    Token(String, Secret),
}

#[derive(Clone, Copy)]
enum AuthMechanism {
    Plain,
    Login,
    XOAuth2,
}

impl AuthMechanism {
    fn name(self) -> &'static str {
        match self {
            AuthMechanism::Plain => "PLAIN",
            AuthMechanism::Login => "LOGIN",
            AuthMechanism::XOAuth2 => "XOAUTH2",
        }
    }
}

impl SmtpLogin {
    /// Returns the usable mechanisms, the preferred one first.
    fn mechanisms(&self) -> &'static [AuthMechanism] {
        match self {
            SmtpLogin::Password(..) => &[AuthMechanism::Plain, AuthMechanism::Login],
            SmtpLogin::Token(..) => &[AuthMechanism::XOAuth2],
        }
    }

    /// Returns advice for a rejected login: the keys of the configuration to check.
    fn config_keys_hint(&self) -> &'static str {
        match self {
            SmtpLogin::Password(..) => " (check `username` and `password`)",
            SmtpLogin::Token(..) => " (check `username` and `oauth2`)",
        }
    }
}

/// Logs in with the first mechanism that the server offers and understands.
pub(crate) async fn log_in(
    connection: &mut SmtpConnection,
    offered: &SmtpExtensions,
    login: &SmtpLogin,
) -> Result<(), SmtpFailure> {
    let mut unknown = None;
    for mechanism in login.mechanisms() {
        if !offered.mechanisms.iter().any(|name| name == mechanism.name()) {
            continue;
        }
        let answer = exchange(connection, *mechanism, login).await?;
        if answer.reply.is_completed() && !answer.challenged {
            return Ok(());
        }
        let failure = refusal(connection, &answer, login);
        if !answer.is_unknown_mechanism() {
            return Err(failure);
        }
        unknown = Some(failure);
    }
    Err(unknown.unwrap_or_else(|| no_common_mechanism(connection, offered, login)))
}

/// Last reply to a login.
struct AuthReply {
    reply: SmtpReply,
    /// True if the server rejected the token in a challenge first.
    challenged: bool,
}

impl AuthReply {
    /// Returns true if the server rejects the mechanism and not the credentials.
    fn is_unknown_mechanism(&self) -> bool {
        let enhanced = self.reply.enhanced().is_some_and(|code| matches!(code, (5, 7 | 5, 4)));
        self.reply.code() == 504 || (self.reply.is_permanent() && self.reply.code() != 535 && enhanced)
    }
}

/// Runs the exchange of one mechanism. Prompts are ignored: their wording differs between servers, and some send none.
async fn exchange(
    connection: &mut SmtpConnection,
    mechanism: AuthMechanism,
    login: &SmtpLogin,
) -> Result<AuthReply, SmtpFailure> {
    let (SmtpLogin::Password(user, secret) | SmtpLogin::Token(user, secret)) = login;
    let secret = secret.expose();
    let mut challenged = false;
    let reply = match mechanism {
        AuthMechanism::Plain => initial_response(connection, mechanism, &format!("\0{user}\0{secret}")).await?,
        AuthMechanism::Login => {
            let mut reply = connection.command(STEP, "AUTH LOGIN").await?;
            for response in [user, secret] {
                if reply.is_intermediate() {
                    reply = connection.command(STEP, &BASE64.encode(response)).await?;
                }
            }
            reply
        }
        AuthMechanism::XOAuth2 => {
            let token = format!("user={user}\u{1}auth=Bearer {secret}\u{1}\u{1}");
            let mut reply = initial_response(connection, mechanism, &token).await?;
            // A server that rejects a token may give the reason in a challenge. It then waits for an empty line.
            challenged = reply.is_intermediate();
            if challenged {
                reply = connection.command(STEP, "").await?;
            }
            reply
        }
    };
    Ok(AuthReply { reply, challenged })
}

/// Sends the response with the command, and once more if the server asks for it.
async fn initial_response(
    connection: &mut SmtpConnection,
    mechanism: AuthMechanism,
    response: &str,
) -> Result<SmtpReply, SmtpFailure> {
    let response = BASE64.encode(response);
    let reply = connection.command(STEP, &format!("AUTH {} {response}", mechanism.name())).await?;
    if reply.is_intermediate() && reply.text().is_empty() {
        return connection.command(STEP, &response).await;
    }
    Ok(reply)
}

fn refusal(connection: &SmtpConnection, answer: &AuthReply, login: &SmtpLogin) -> SmtpFailure {
    let reply = &answer.reply;
    let login_refused = reply.is_permanent() || answer.challenged;
    if reply.is_completed() || reply.is_intermediate() {
        let reason = format!("{}: {STEP} failed: {}", connection.server(), reply.refusal("AUTH", ""));
        return SmtpFailure { login_refused, ..SmtpFailure::transient(reason) };
    }
    let hint = if reply.code() == 535 { login.config_keys_hint() } else { "" };
    let reason = reply.refusal(STEP, hint);
    SmtpFailure { permanent: reply.is_permanent(), login_refused, ..SmtpFailure::transient(reason) }
}

/// Returns the failure if no mechanism is possible. It is transient: a plaintext offer may be forged, and the server may be
/// reconfigured.
fn no_common_mechanism(connection: &SmtpConnection, offered: &SmtpExtensions, login: &SmtpLogin) -> SmtpFailure {
    let server = connection.server();
    let supported: Vec<&str> = login.mechanisms().iter().map(|mechanism| mechanism.name()).collect();
    let supported = supported.join(" or ");
    let offer = match offered.mechanisms.as_slice() {
        [] => format!("the server offers no login{}; many servers offer it only over TLS", offered.ehlo_refusal_note()),
        some => format!("the server offers {}, but {supported} is required", some.join(", ")),
    };
    SmtpFailure::transient(format!("{server}: {STEP} failed: {offer}"))
}
