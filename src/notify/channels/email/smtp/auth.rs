//! Logging in (RFC 4954): PLAIN, LOGIN, and XOAUTH2 for tokens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Failure;
use super::connection::Connection;
use super::extensions::Extensions;
use super::reply::Reply;
use crate::util::secret::Secret;

const STEP: &str = "logging in";

/// The way in which the server learns who sends.
pub(crate) enum Login {
    /// User name and password.
    Password(String, Secret),
    /// Mailbox and a token in the password's place.
    Token(String, Secret),
}

#[derive(Clone, Copy)]
enum Mechanism {
    Plain,
    Login,
    XOAuth2,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::XOAuth2 => "XOAUTH2",
        }
    }
}

impl Login {
    /// The mechanisms that can be used, the preferred one first.
    fn mechanisms(&self) -> &'static [Mechanism] {
        match self {
            Login::Password(..) => &[Mechanism::Plain, Mechanism::Login],
            Login::Token(..) => &[Mechanism::XOAuth2],
        }
    }

    /// The keys of the configuration to look at when the login is refused.
    fn keys(&self) -> &'static str {
        match self {
            Login::Password(..) => " (check `username` and `password`)",
            Login::Token(..) => " (check `username` and `oauth2`)",
        }
    }
}

/// Logs in by the first mechanism that the server offers and understands.
pub(crate) async fn log_in(connection: &mut Connection, offered: &Extensions, login: &Login) -> Result<(), Failure> {
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
    Err(unknown.unwrap_or_else(|| nothing_in_common(connection, offered, login)))
}

/// The last reply to a login.
struct Answer {
    reply: Reply,
    /// The server refused the token in a challenge first.
    challenged: bool,
}

impl Answer {
    /// The server refuses the mechanism, and not the login.
    fn is_unknown_mechanism(&self) -> bool {
        let enhanced = self.reply.enhanced().is_some_and(|code| matches!(code, (5, 7 | 5, 4)));
        self.reply.code() == 504 || (self.reply.is_permanent() && self.reply.code() != 535 && enhanced)
    }
}

/// Prompts are not looked at: servers word them differently, and some send none.
async fn exchange(connection: &mut Connection, mechanism: Mechanism, login: &Login) -> Result<Answer, Failure> {
    let (Login::Password(user, secret) | Login::Token(user, secret)) = login;
    let secret = secret.expose();
    let mut challenged = false;
    let reply = match mechanism {
        Mechanism::Plain => initial(connection, mechanism, &format!("\0{user}\0{secret}")).await?,
        Mechanism::Login => {
            let mut reply = connection.command(STEP, "AUTH LOGIN").await?;
            for response in [user, secret] {
                if reply.is_intermediate() {
                    reply = connection.command(STEP, &BASE64.encode(response)).await?;
                }
            }
            reply
        }
        Mechanism::XOAuth2 => {
            let token = format!("user={user}\u{1}auth=Bearer {secret}\u{1}\u{1}");
            let mut reply = initial(connection, mechanism, &token).await?;
            // A server that refuses a token may say why in a challenge, and waits for an empty line before it refuses.
            challenged = reply.is_intermediate();
            if challenged {
                reply = connection.command(STEP, "").await?;
            }
            reply
        }
    };
    Ok(Answer { reply, challenged })
}

/// Sends everything with the command, and once more if the server asks for it all the same.
async fn initial(connection: &mut Connection, mechanism: Mechanism, response: &str) -> Result<Reply, Failure> {
    let response = BASE64.encode(response);
    let reply = connection.command(STEP, &format!("AUTH {} {response}", mechanism.name())).await?;
    if reply.is_intermediate() && reply.text().is_empty() {
        return connection.command(STEP, &response).await;
    }
    Ok(reply)
}

fn refusal(connection: &Connection, answer: &Answer, login: &Login) -> Failure {
    let reply = &answer.reply;
    let login_refused = reply.is_permanent() || answer.challenged;
    if reply.is_completed() || reply.is_intermediate() {
        let reason = format!("{}: {STEP} failed: {}", connection.server(), reply.refusal("AUTH", ""));
        return Failure { login_refused, ..Failure::transient(reason) };
    }
    let hint = if reply.code() == 535 { login.keys() } else { "" };
    let reason = reply.refusal(STEP, hint);
    Failure { permanent: reply.is_permanent(), login_refused, ..Failure::transient(reason) }
}

/// Not final: an offer in the clear may be anybody's, and a server may be set up meanwhile.
fn nothing_in_common(connection: &Connection, offered: &Extensions, login: &Login) -> Failure {
    let server = connection.server();
    let wanted: Vec<&str> = login.mechanisms().iter().map(|mechanism| mechanism.name()).collect();
    let wanted = wanted.join(" or ");
    let offer = match offered.mechanisms.as_slice() {
        [] => format!("the server offers no login{}; many offer one only over TLS", offered.instead()),
        some => format!("the server offers {}, and {wanted} is needed", some.join(", ")),
    };
    Failure::transient(format!("{server}: {STEP} failed: {offer}"))
}
