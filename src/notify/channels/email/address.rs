//! Email addresses in the form that servers and headers require.

use std::fmt::{self, Write as _};

use email_encoding::headers::writer::EmailWriter;
use email_encoding::headers::{quoted_string, rfc2047};
use lettre::Address;
use lettre::message::Mailbox;
use lettre::message::header::{HeaderName, HeaderValue};

/// Maximum length of a header line, in octets without its end. RFC 5322 recommends 78.
const MAX_LINE_BYTES: usize = 76;
/// Maximum length of a word that is written unencoded in a header. A longer word is encoded, so that it can be split.
const MAX_WORD_BYTES: usize = 60;

/// Returns the address with its domain in ASCII, as an A-label if necessary. `None` if IDNA cannot encode it.
pub(crate) fn ascii_domain(address: &Address) -> Option<Address> {
    let domain = host(address.domain())?;
    Some(Address::new_dangerous(address.user(), domain))
}

/// Returns a host name in ASCII, as an A-label if necessary.
pub(crate) fn host(name: &str) -> Option<String> {
    if name.is_ascii() { Some(name.to_owned()) } else { idna::domain_to_ascii_strict(name).ok() }
}

/// Returns a header with these mailboxes. A line ends after a comma, or inside a long name.
pub(crate) fn mailbox_header<'a>(
    name: &'static str,
    mailboxes: impl Iterator<Item = &'a Mailbox> + Clone,
) -> HeaderValue {
    let raw = mailboxes.clone().map(|mailbox| mailbox.email.to_string()).collect::<Vec<_>>().join(", ");
    header_value(name, raw, |w| {
        for (n, mailbox) in mailboxes.enumerate() {
            if n > 0 {
                w.write_char(',')?;
                w.space();
            }
            write_mailbox(mailbox, n > 0, w)?;
        }
        Ok(())
    })
}

/// Returns a header with this text. Lines end between words, or inside a word that is too long for a line.
pub(crate) fn text_header(name: &'static str, text: &str) -> HeaderValue {
    if !text.split(' ').any(must_be_encoded) {
        return HeaderValue::new(HeaderName::new_from_ascii_str(name), text.to_owned());
    }
    header_value(name, text.to_owned(), |w| rfc2047::encode(text, w))
}

fn header_value(
    name: &'static str,
    raw: String,
    write: impl FnOnce(&mut EmailWriter<'_>) -> fmt::Result,
) -> HeaderValue {
    let mut encoded = String::new();
    {
        let mut writer = EmailWriter::new(&mut encoded, name.len() + ": ".len(), 0, false);
        // Writing to a string cannot fail.
        let _ = write(&mut writer);
    }
    HeaderValue::dangerous_new_pre_encoded(HeaderName::new_from_ascii_str(name), raw, encoded)
}

fn write_mailbox(mailbox: &Mailbox, may_begin_a_line: bool, w: &mut EmailWriter<'_>) -> fmt::Result {
    let name = mailbox.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
    let address: &str = mailbox.email.as_ref();
    let length = name.map_or(0, |name| name.len() + "\"\" <>".len()) + address.len() + ",".len();
    if may_begin_a_line && w.projected_line_len() + length > MAX_LINE_BYTES {
        w.new_line()?;
    }
    let Some(name) = name else { return w.write_str(address) };
    if name.split(' ').any(must_be_encoded) {
        rfc2047::encode(name, w)?;
    } else {
        quoted_string::encode(name, w)?;
    }
    w.space();
    w.folding().write_str(&format!("<{address}>"))
}

/// Returns true for a word that fits on no line, or that an email program would take for an encoded word.
fn must_be_encoded(word: &str) -> bool {
    word.len() > MAX_WORD_BYTES || word.contains("=?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascii(address: &str) -> Option<String> {
        ascii_domain(&address.parse().unwrap()).map(|address| address.to_string())
    }

    #[test]
    fn a_domain_becomes_an_a_label_and_the_rest_stays() {
        assert_eq!(ascii("einkauf@müller-söhne.de").unwrap(), "einkauf@xn--mller-shne-kcb9d.de");
        assert_eq!(ascii("Jürgen@Straße.Example").unwrap(), "Jürgen@xn--strae-oqa.example");
        assert_eq!(ascii("Finance@Example.COM").unwrap(), "Finance@Example.COM");
        assert_eq!(ascii("a@[127.0.0.1]").unwrap(), "a@[127.0.0.1]");
        assert_eq!(ascii("a@ü-.de"), None);
    }
}
