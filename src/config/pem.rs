//! Checks certificates in PEM form with the same code, and on the same bytes, as the clients that trust them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
const CERTIFICATE: &str = "CERTIFICATE";
/// Number of base64 characters in a line (RFC 7468).
const LINE_CHARS: usize = 64;

/// Reason why a text contains no usable certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PemError {
    /// The text is empty.
    #[error("empty")]
    Empty,
    /// The text contains no certificate, perhaps a block with another label.
    #[error("no certificate")]
    NoCertificate(Option<String>),
    /// One of the certificates is unusable.
    #[error("certificate {number} (line {line}) is broken: {why}")]
    Broken {
        /// Number of the certificate, from 1.
        number: usize,
        /// First line of the certificate, from 1.
        line: usize,
        /// Explanation of the defect.
        why: &'static str,
    },
}

/// Returns the certificates of a text in PEM form. Spaces around lines and text between certificates are removed. A single
/// unusable certificate is an error.
pub(super) fn certificates(text: &str) -> Result<Vec<u8>, PemError> {
    if text.trim().is_empty() {
        return Err(PemError::Empty);
    }
    let mut pem = String::new();
    let (mut number, mut other) = (0, None);
    let mut lines = text.lines().map(str::trim).zip(1..);
    while let Some((begin, line)) = lines.next() {
        let Some((label, rest)) = begin.strip_prefix(BEGIN).and_then(|rest| rest.split_once(DASHES)) else { continue };
        if label != CERTIFICATE {
            other = other.or(Some(label.to_owned()));
            continue;
        }
        number += 1;
        let body = if rest.is_empty() { body(&mut lines) } else { Err("its first line continues after the dashes") };
        let base64 = body.and_then(|body| usable_pem(&body));
        pem.push_str(&base64.map_err(|why| PemError::Broken { number, line, why })?);
    }
    if number == 0 { Err(PemError::NoCertificate(other)) } else { Ok(pem.into_bytes()) }
}

/// Returns the lines up to the last line of a certificate, which is consumed, too.
fn body<'a>(lines: &mut impl Iterator<Item = (&'a str, usize)>) -> Result<String, &'static str> {
    let mut body = String::new();
    for (line, _) in lines {
        if line.starts_with(END) {
            return Ok(body);
        }
        if line.starts_with(DASHES) {
            break;
        }
        body.push_str(line);
    }
    Err("its line -----END CERTIFICATE----- is missing")
}

/// Returns the certificate in PEM form if a client can trust it.
fn usable_pem(base64: &str) -> Result<String, &'static str> {
    let der = BASE64.decode(base64).map_err(|_| "it is not base64, or a part of it is missing")?;
    let checked = RootCertStore::empty().add(CertificateDer::from(der));
    checked.map_err(|_| "it is not an X.509 certificate that can be trusted")?;
    let mut pem = format!("{BEGIN}{CERTIFICATE}{DASHES}\n");
    for (i, c) in base64.chars().enumerate() {
        if i > 0 && i % LINE_CHARS == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    Ok(pem + &format!("\n{END}{CERTIFICATE}{DASHES}\n"))
}
