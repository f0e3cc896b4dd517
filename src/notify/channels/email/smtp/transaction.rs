//! MAIL, RCPT and DATA: one message to several recipients, each of whom the server may refuse.

use lettre::Address;

use super::connection::Connection;
use super::extensions::Extensions;
use super::reply::Reply;
use super::{Cause, Failure, Mail, Outcome, greeting};
use crate::notify::Refusal;

/// What a message may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Addresses beyond ASCII.
    pub(crate) utf8: bool,
    /// Pictures.
    pub(crate) pictures: bool,
}

/// Sends a mail to all recipients that the server accepts. `name` is the one that was given in EHLO.
pub(crate) async fn send(
    connection: &mut Connection,
    extensions: &Extensions,
    name: &str,
    mail: Mail<'_>,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    if !extensions.utf8 && !is_ascii(mail.from) {
        return Err(Failure::permanent(format!("the server takes no address like {}: it lacks SMTPUTF8", mail.from)));
    }
    let message = fitting(extensions, mail)?;
    let reply = connection.command("MAIL", &mail_command(extensions, mail, &message)).await?;
    if !reply.is_completed() {
        return Err(mail_refused(name, &reply));
    }
    let mut about_size = false;
    for recipient in mail.to {
        about_size |= offer(connection, extensions, name, recipient, outcome).await?;
    }
    if outcome.accepted == 0 {
        // A mailbox that is nearly full may have room for the text.
        let retry = about_size && mail.pictures;
        return if retry { Err(Failure { cause: Cause::TooLarge, ..Failure::permanent("too large") }) } else { Ok(()) };
    }
    let reply = connection.command("DATA", "DATA").await?;
    if !reply.is_intermediate() {
        let failure = Failure::replied(&reply, "DATA");
        // Exim's `recipients_max_reject` refuses the message because more recipients were offered than it accepts.
        let too_many = failure.permanent && !outcome.deferred.is_empty();
        return Err(if too_many { Failure { cause: Cause::TooMany, ..failure } } else { failure });
    }
    let reply = connection.message(&message).await?;
    if !reply.is_completed() {
        return Err(Failure::replied(&reply, "the message"));
    }
    Ok(())
}

/// The message, without its pictures where the server says beforehand that it is too large with them.
fn fitting(extensions: &Extensions, mail: Mail<'_>) -> Result<Vec<u8>, Failure> {
    let render = |pictures| (mail.render)(Allowed { utf8: extensions.utf8, pictures }).map_err(Failure::permanent);
    let most = extensions.largest.unwrap_or(usize::MAX);
    let mut message = render(mail.pictures)?;
    if message.len() > most && mail.pictures {
        message = render(false)?;
    }
    if message.len() > most {
        let octets = message.len();
        let reason = format!(
            "the mail is too large, even without pictures: {octets} bytes; the mail server takes at most {most}"
        );
        return Err(Failure::permanent(reason));
    }
    Ok(message)
}

fn mail_command(extensions: &Extensions, mail: Mail<'_>, message: &[u8]) -> String {
    let mut command = format!("MAIL FROM:<{}>", mail.from);
    if extensions.size {
        command += &format!(" SIZE={}", message.len());
    }
    if extensions.utf8 && !(is_ascii(mail.from) && mail.to.iter().all(is_ascii)) {
        command += " SMTPUTF8";
    }
    if !message.is_ascii() {
        command += " BODY=8BITMIME";
    }
    command
}

fn mail_refused(name: &str, reply: &Reply) -> Failure {
    if let Some(reason) = greeting::refusal_of(name, reply, "MAIL", None) {
        return Failure::transient(reason);
    }
    let hint = match reply.code() {
        530 if reply.text().to_ascii_uppercase().contains("STARTTLS") => " (set `tls: starttls`)",
        530 => " (set `username` and `password`)",
        _ => "",
    };
    Failure { reason: reply.refusal("MAIL", hint), ..Failure::replied(reply, "MAIL") }
}

/// Offers one recipient, and notes the answer. Returns whether a smaller message may be accepted.
async fn offer(
    connection: &mut Connection,
    extensions: &Extensions,
    name: &str,
    recipient: &Address,
    outcome: &mut Outcome,
) -> Result<bool, Failure> {
    let refusal = |reason| Refusal { recipient: recipient.to_string(), reason };
    if !extensions.utf8 && !is_ascii(recipient) {
        outcome.refused.push(refusal("the server takes no such address: it lacks SMTPUTF8".to_owned()));
        return Ok(false);
    }
    let reply = connection.command("RCPT", &format!("RCPT TO:<{recipient}>")).await?;
    let too_many = outcome.accepted > 0 && reply.is_about_number_of_recipients();
    if reply.is_completed() {
        outcome.accepted += 1;
    } else if let Some(reason) = greeting::refusal_of(name, &reply, "RCPT", Some(recipient)) {
        outcome.deferred.push(refusal(reason));
    } else if reply.is_permanent() && !too_many {
        outcome.refused.push(refusal(reply.refusal("RCPT", "")));
    } else {
        outcome.deferred.push(refusal(reply.refusal("RCPT", "")));
    }
    Ok(reply.is_about_size())
}

fn is_ascii(address: &Address) -> bool {
    AsRef::<str>::as_ref(address).is_ascii()
}
