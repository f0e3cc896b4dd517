//! Extensions that a server offers in its reply to EHLO.

use super::reply::SmtpReply;

/// Extensions that matter to us; none where only HELO was understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SmtpExtensions {
    pub(super) starttls: bool,
    /// SMTPUTF8 (RFC 6531): addresses beyond ASCII.
    pub(super) utf8: bool,
    /// The server knows SIZE (RFC 1870) and wants to be told it.
    pub(super) size: bool,
    /// Octets of the largest message that it takes, if it says so.
    pub(super) max_message_bytes: Option<usize>,
    /// Mechanisms of AUTH, in upper case.
    pub(super) mechanisms: Vec<String>,
    /// The refusal of EHLO, where HELO was taken instead.
    pub(super) refusal: Option<String>,
}

impl SmtpExtensions {
    /// Reads the reply to EHLO; its first line is the server's name.
    pub(super) fn read(reply: &SmtpReply) -> Self {
        let mut all = Self::default();
        for line in reply.lines().iter().skip(1) {
            // `AUTH=LOGIN PLAIN` is the form of servers from before RFC 2554.
            let line = line.trim().to_ascii_uppercase();
            let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
            match words.next() {
                Some("STARTTLS") => all.starttls = true,
                Some("SMTPUTF8") => all.utf8 = true,
                Some("SIZE") => {
                    all.size = true;
                    all.max_message_bytes = words.next().and_then(|size| size.parse().ok()).filter(|size| *size > 0);
                }
                Some("AUTH") => all.mechanisms.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        all
    }

    /// Explains why something is not offered, where EHLO was refused.
    pub(super) fn ehlo_refusal_note(&self) -> String {
        self.refusal.as_ref().map_or_else(String::new, |refusal| format!(" (only HELO: {refusal})"))
    }
}
