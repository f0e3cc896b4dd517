//! MAIL, RCPT and DATA: one message to several recipients, each of whom the server may reject.

use lettre::Address;

use super::connection::SmtpConnection;
use super::extensions::SmtpExtensions;
use super::reply::SmtpReply;
use super::{RecipientResults, SmtpFailure, SmtpFailureCause, SmtpMessage, greeting};
use crate::notify::RecipientRefusal;

/// Content that a message may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AllowedContent {
    /// True if addresses outside ASCII are allowed.
    pub(crate) utf8: bool,
    /// True if pictures are allowed.
    pub(crate) pictures: bool,
}

/// Sends an email to all recipients that the server accepts. `name` is the name that was used in EHLO.
pub(crate) async fn send(
    connection: &mut SmtpConnection,
    extensions: &SmtpExtensions,
    name: &str,
    mail: SmtpMessage<'_>,
    outcome: &mut RecipientResults,
) -> Result<(), SmtpFailure> {
    if !extensions.utf8 && !is_ascii(mail.from) {
        return Err(SmtpFailure::permanent(format!(
            "the server does not support the address {}: it lacks SMTPUTF8",
            mail.from
        )));
    }
    let message = message_within_size(extensions, mail)?;
    let reply = connection.command("MAIL", &mail_command(extensions, mail, &message)).await?;
    if !reply.is_completed() {
        return Err(mail_refused(name, &reply));
    }
    let mut about_size = false;
    for recipient in mail.to {
        about_size |= add_recipient(connection, extensions, name, recipient, outcome).await?;
    }
    if outcome.accepted == 0 {
        // A nearly full mailbox may have room for the text.
        let retry = about_size && mail.pictures;
        return if retry {
            Err(SmtpFailure { cause: SmtpFailureCause::TooLarge, ..SmtpFailure::permanent("too large") })
        } else {
            Ok(())
        };
    }
    let reply = connection.command("DATA", "DATA").await?;
    if !reply.is_intermediate() {
        let failure = SmtpFailure::replied(&reply, "DATA");
        // Exim's `recipients_max_reject` rejects the message because more recipients were offered than it accepts.
        let too_many = failure.permanent && !outcome.deferred.is_empty();
        return Err(if too_many { SmtpFailure { cause: SmtpFailureCause::TooMany, ..failure } } else { failure });
    }
    let reply = connection.message(&message).await?;
    if !reply.is_completed() {
        return Err(SmtpFailure::replied(&reply, "the message"));
    }
    Ok(())
}

/// Returns the message, without its pictures if the server has announced a smaller limit.
fn message_within_size(extensions: &SmtpExtensions, mail: SmtpMessage<'_>) -> Result<Vec<u8>, SmtpFailure> {
    let render =
        |pictures| (mail.render)(AllowedContent { utf8: extensions.utf8, pictures }).map_err(SmtpFailure::permanent);
    let max_bytes = extensions.max_message_bytes.unwrap_or(usize::MAX);
    let mut message = render(mail.pictures)?;
    if message.len() > max_bytes && mail.pictures {
        message = render(false)?;
    }
    if message.len() > max_bytes {
        let octets = message.len();
        let reason = format!(
            "the email is too large even without its charts: {octets} bytes; the mail server accepts at most {max_bytes}"
        );
        return Err(SmtpFailure::permanent(reason));
    }
    Ok(message)
}

fn mail_command(extensions: &SmtpExtensions, mail: SmtpMessage<'_>, message: &[u8]) -> String {
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

fn mail_refused(name: &str, reply: &SmtpReply) -> SmtpFailure {
    if let Some(reason) = greeting::hello_refusal(name, reply, "MAIL", None) {
        return SmtpFailure::transient(reason);
    }
    let hint = match reply.code() {
        530 if reply.text().to_ascii_uppercase().contains("STARTTLS") => " (set `tls: starttls`)",
        530 => " (set `username` and `password`)",
        _ => "",
    };
    SmtpFailure { reason: reply.refusal("MAIL", hint), ..SmtpFailure::replied(reply, "MAIL") }
}

/// Offers one recipient and records the reply. Returns true if a smaller message may be accepted.
async fn add_recipient(
    connection: &mut SmtpConnection,
    extensions: &SmtpExtensions,
    name: &str,
    recipient: &Address,
    outcome: &mut RecipientResults,
) -> Result<bool, SmtpFailure> {
    let refusal = |reason| RecipientRefusal { recipient: recipient.to_string(), reason };
    if !extensions.utf8 && !is_ascii(recipient) {
        outcome.refused.push(refusal("the server does not support such addresses: it lacks SMTPUTF8".to_owned()));
        return Ok(false);
    }
    let reply = connection.command("RCPT", &format!("RCPT TO:<{recipient}>")).await?;
    let too_many = outcome.accepted > 0 && reply.is_about_recipient_count();
    if reply.is_completed() {
        outcome.accepted += 1;
    } else if let Some(reason) = greeting::hello_refusal(name, &reply, "RCPT", Some(recipient)) {
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
