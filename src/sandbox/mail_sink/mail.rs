//! A received email: its envelope, its bytes, its decoded parts, and its output as two files.
//!
//! All content comes from outside. It is decoded without checks; only the file names are made safe here.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_parser::{Addr, Address, MessageParser, MimeHeaders, PartType};

use crate::util::text::escape_html;

/// Length of a subject's part in a file name, at most.
const MAX_SLUG_CHARS: usize = 50;
/// Deepest nesting of multiparts that is decoded.
const MAX_DEPTH: usize = 5;

/// Highest number of pictures kept of one email.
const MAX_PICTURES: usize = 10;
/// Image types that a page may embed; none of them can contain scripts.
const PICTURES: [&str; 3] = ["png", "jpeg", "gif"];

/// An email that the sink accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceivedMail {
    /// Sender's address from the MAIL command; empty for a bounce.
    pub envelope_from: String,
    /// Recipients' addresses from the RCPT commands.
    pub envelope_to: Vec<String>,
    /// Unmodified bytes of the email.
    pub raw: Vec<u8>,
    /// Decoded subject; empty without that header.
    pub subject: String,
    /// Decoded sender, as `Name <address>`.
    pub from: String,
    /// Decoded recipients, each as `Name <address>`.
    pub to: Vec<String>,
    /// First plain text part; empty without one.
    pub text: String,
    /// First HTML part of the email.
    pub html: Option<String>,
    /// Pictures that the HTML shows by `cid:`: the Content-ID and a `data:` address.
    pub pictures: Vec<(String, String)>,
}

impl ReceivedMail {
    /// Decodes an email. Parts that cannot be decoded are empty.
    pub fn new(envelope_from: String, envelope_to: Vec<String>, raw: Vec<u8>) -> Self {
        let mut mail = Self { envelope_from, envelope_to, raw, ..Self::default() };
        if let Some(head) = MessageParser::default().parse_headers(&mail.raw) {
            mail.subject = head.subject().map(str::to_owned).unwrap_or_default();
            mail.from = addresses(head.from()).join(", ");
            mail.to = addresses(head.to());
        }
        let mut bodies = MailBodies::default();
        bodies.find(&mail.raw, MAX_DEPTH);
        mail.text = bodies.text.unwrap_or_default();
        mail.html = bodies.html;
        mail.pictures = bodies.pictures;
        mail
    }

    /// Writes `001-<subject>.eml` and `001-<subject>.html` into the folder, readable by the owner only, and returns both paths.
    /// Replaces existing files.
    pub fn write(&self, folder: &Path, number: usize) -> io::Result<(PathBuf, PathBuf)> {
        let stem = format!("{number:03}-{}", slug(&self.subject));
        let (eml, html) = (folder.join(format!("{stem}.eml")), folder.join(format!("{stem}.html")));
        write_private_file(&eml, &self.raw)?;
        write_private_file(&html, self.page().as_bytes())?;
        Ok((eml, html))
    }

    /// Returns the HTML with embedded pictures, or the text as a page.
    fn page(&self) -> String {
        let Some(html) = &self.html else {
            let [title, text] = [&self.subject, &self.text].map(|text| escape_html(text));
            return format!(
                "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
                 <body><pre>{text}</pre></body></html>\n"
            );
        };
        // Each picture is embedded once, so that a page that names it a thousand times stays small.
        let show = |html: String, (id, address): &(String, String)| html.replacen(&format!("cid:{id}"), address, 1);
        self.pictures.iter().fold(html.clone(), show)
    }
}

/// First text, first HTML and pictures of an email.
///
/// Multiparts are split here, and the crate parses only single parts: nested emails would make it overflow the stack.
#[derive(Default)]
struct MailBodies {
    text: Option<String>,
    html: Option<String>,
    pictures: Vec<(String, String)>,
}

impl MailBodies {
    fn find(&mut self, part: &[u8], depth: usize) {
        let Some(head) = MessageParser::default().parse_headers(part) else { return };
        let Some(kind) = head.content_type() else { return self.leaf(part) };
        match (kind.ctype(), kind.attribute("boundary")) {
            (family, _) if family.eq_ignore_ascii_case("text") => self.leaf(part),
            (family, Some(boundary)) if family.eq_ignore_ascii_case("multipart") && depth > 0 => {
                for part in split(part, boundary) {
                    self.find(part, depth - 1);
                }
            }
            (family, _) if family.eq_ignore_ascii_case("image") => self.picture(part),
            _ => {}
        }
    }

    fn picture(&mut self, part: &[u8]) {
        let Some(leaf) = MessageParser::default().parse(part) else { return };
        let Some(leaf) = leaf.parts.first() else { return };
        let kind = leaf.content_type().and_then(|kind| kind.subtype()).unwrap_or_default().to_ascii_lowercase();
        let (Some(id), PartType::InlineBinary(bytes) | PartType::Binary(bytes)) = (leaf.content_id(), &leaf.body)
        else {
            return;
        };
        // An empty id would match every `cid:`.
        if PICTURES.contains(&kind.as_str()) && !id.is_empty() && self.pictures.len() < MAX_PICTURES {
            self.pictures.push((id.to_owned(), format!("data:image/{kind};base64,{}", STANDARD.encode(bytes))));
        }
    }

    fn leaf(&mut self, part: &[u8]) {
        if self.text.is_some() && self.html.is_some() {
            return;
        }
        let Some(leaf) = MessageParser::default().parse(part) else { return };
        match leaf.parts.into_iter().next().map(|part| part.body) {
            Some(PartType::Text(text)) if self.text.is_none() => self.text = Some(text.into_owned()),
            Some(PartType::Html(html)) if self.html.is_none() => self.html = Some(html.into_owned()),
            _ => {}
        }
    }
}

/// Splits a multipart at its boundary lines.
fn split<'a>(multipart: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let mark = format!("--{boundary}");
    let mut parts = Vec::new();
    let (mut start, mut at) = (None, 0);
    for line in multipart.split_inclusive(|byte| *byte == b'\n') {
        if let Some(rest) = line.trim_ascii_end().strip_prefix(mark.as_bytes())
            && (rest.is_empty() || rest == b"--")
        {
            if let Some(start) = start {
                // The line break before a boundary is part of the boundary.
                let part: &[u8] = &multipart[start..at];
                let part = part.strip_suffix(b"\n").unwrap_or(part);
                parts.push(part.strip_suffix(b"\r").unwrap_or(part));
            }
            start = rest.is_empty().then_some(at + line.len());
        }
        at += line.len();
    }
    // A truncated email still has its last part.
    parts.extend(start.map(|start| &multipart[start..]));
    parts
}

fn addresses(header: Option<&Address>) -> Vec<String> {
    let shown = |addr: &Addr| match (addr.name(), addr.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (name, address) => address.or(name).unwrap_or_default().to_owned(),
    };
    header.map(|header| header.iter().map(shown).collect()).unwrap_or_default()
}

/// Turns a subject into lower-case ASCII letters and digits with single hyphens, which are safe in file systems and shells.
fn slug(subject: &str) -> String {
    let mut slug = String::new();
    for c in subject.chars().map(|c| c.to_ascii_lowercase()) {
        if slug.len() >= MAX_SLUG_CHARS {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "mail".to_owned() } else { slug.to_owned() }
}

/// Creates a new file. An existing file or link is removed first, because the file would keep its mode and the link would be
/// followed.
fn write_private_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    options.open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_contain_only_letters_digits_and_hyphens() {
        for (subject, expected) in [
            ("[warning] acme · History: USD 1,431.00 left", "warning-acme-history-usd-1-431-00-left"),
            ("../../etc/passwd\0\r\n", "etc-passwd"),
            ("\u{202e}-rf *; $(x) `y`", "rf-x-y"),
            ("Überfällig", "berf-llig"),
            ("", "mail"),
            ("...", "mail"),
            ("\u{1f4a3}", "mail"),
        ] {
            assert_eq!(slug(subject), expected, "{subject:?}");
        }
        assert_eq!(slug(&"X".repeat(500)), "x".repeat(50));
        assert_eq!(slug(&format!("{} y", "x".repeat(49))), "x".repeat(49));
    }

    #[cfg(unix)]
    #[test]
    fn files_are_readable_by_the_owner_only_and_replace_existing_ones() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs::write(&outside, "mine").unwrap();
        symlink(&outside, folder.path().join("007-hi.eml")).unwrap();
        fs::write(folder.path().join("007-hi.html"), "old and longer than the new one".repeat(99)).unwrap();
        let raw = b"Subject: Hi!\r\n\r\n1 < 2 & <script>\r\n".to_vec();
        let mail = ReceivedMail::new(String::new(), Vec::new(), raw.clone());
        let (eml, html) = mail.write(folder.path(), 7).unwrap();
        assert_eq!(fs::read(&eml).unwrap(), raw);
        assert_eq!(fs::read(&outside).unwrap(), b"mine");
        insta::assert_snapshot!(fs::read_to_string(&html).unwrap(), @r#"
    <!DOCTYPE html>
    <html><head><meta charset="utf-8"><title>Hi!</title></head>
    <body><pre>1 &lt; 2 &amp; &lt;script&gt;
    </pre></body></html>
    "#);
        for path in [eml, html] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(mail.write(&folder.path().join("nowhere"), 1).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_input_makes_decoding_panic(
            start in "(Content-Type: (multipart/mixed; boundary=a|text/html)\r\n|Subject: =\\?utf-8\\?[bq]\\?)?",
            raw in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
        ) {
            let raw = [start.as_bytes(), &raw].concat();
            ReceivedMail::new(String::new(), Vec::new(), raw).page();
        }
    }

    #[test]
    fn the_first_text_and_the_first_html_are_found_wherever_they_are() {
        let raw = "Content-Type: multipart/mixed; boundary=\"a b\"\r\n\r\npreamble\r\n--a b\r\n\
                   Content-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n\
                   Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
                   gr=C3=BC=\r\nn\r\n--c\r\n\
                   Content-Type: TEXT/HTML\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+\r\n--c--\r\nno part\r\n\
                   --a b\r\n\r\nanother text\r\n--a b--\r\nepilogue";
        let mail = ReceivedMail::new(String::new(), Vec::new(), raw.into());
        assert_eq!((mail.text.as_str(), mail.html.as_deref()), ("grün", Some("<b>")));
        let cut = "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: text/plain\r\n\r\nhal";
        assert_eq!(ReceivedMail::new(String::new(), Vec::new(), cut.into()).text, "hal");
    }

    #[test]
    fn pictures_and_nothing_else_are_embedded_in_the_page() {
        let part = |kind: &str, id: &str| {
            format!(
                "--r\r\nContent-Type: {kind}\r\nContent-ID: <{id}>\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n"
            )
        };
        let raw = format!(
            "Content-Type: multipart/related; boundary=r\r\n\r\n--r\r\nContent-Type: text/html\r\n\r\n\
             <img src=\"cid:a@x\"><img src=\"cid:a@x\"><img src=\"cid:b@x\">\r\n{}{}--r--\r\n",
            part("image/png", "a@x"),
            part("image/svg+xml", "b@x")
        );
        let page = ReceivedMail::new(String::new(), Vec::new(), raw.into()).page();
        assert_eq!(page, "<img src=\"data:image/png;base64,AAEC\"><img src=\"cid:a@x\"><img src=\"cid:b@x\">");
    }

    #[test]
    fn no_depth_overflows_the_stack() {
        for level in
            ["Content-Type: message/rfc822\r\n\r\n", "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"]
        {
            ReceivedMail::new(String::new(), Vec::new(), level.repeat(1024 * 1024 / level.len()).into_bytes());
        }
        ReceivedMail::new(String::new(), Vec::new(), format!("To: {}\r\n\r\n", "(".repeat(500_000)).into_bytes());
    }

    #[test]
    fn malformed_emails_are_kept_unchanged() {
        for raw in ["", "\r\n", "x", "fits\r\n", ":\r\n", "\0"] {
            let mail = ReceivedMail::new("a@x".to_owned(), Vec::new(), raw.into());
            assert_eq!((mail.raw.as_slice(), mail.subject.as_str(), mail.html), (raw.as_bytes(), "", None));
        }
    }
}
