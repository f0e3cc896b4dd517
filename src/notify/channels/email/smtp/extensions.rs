//! Extensions that a server offers in its reply to EHLO.

use super::reply::SmtpReply;

/// Extensions that we use; none if the server understood only HELO.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SmtpExtensions {
    pub(super) starttls: bool,
    /// SMTPUTF8 (RFC 6531): addresses beyond ASCII.
    pub(super) utf8: bool,
    /// True if the server supports SIZE (RFC 1870) and expects the size in MAIL.
    pub(super) size: bool,
    /// Maximum size of a message in octets, if the server has one.
    pub(super) max_message_bytes: Option<usize>,
    /// Mechanisms of AUTH, in upper case.
    pub(super) mechanisms: Vec<String>,
    /// Rejection of EHLO, if HELO was accepted instead.
    pub(super) refusal: Option<String>,
}

impl SmtpExtensions {
    /// Reads the reply to EHLO; its first line is the server's name.
    pub(super) fn read(reply: &SmtpReply) -> Self {
        let mut all = Self::default();
        for line in reply.lines().iter().skip(1) {
            // Servers from before RFC 2554 write `AUTH=LOGIN PLAIN`.
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

    /// Returns a note that explains missing extensions, if EHLO was rejected.
    pub(super) fn ehlo_refusal_note(&self) -> String {
        self.refusal.as_ref().map_or_else(String::new, |refusal| format!(" (only HELO: {refusal})"))
    }
}
