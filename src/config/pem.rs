//! Certificates in PEM form. What is checked here is exactly what clients are given to trust: the same bytes, by the same
//! check.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
const CERTIFICATE: &str = "CERTIFICATE";
/// Characters in a line of base64 (RFC 7468).
const LINE: usize = 64;

/// Why a text gives no certificates to trust.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PemError {
    /// It holds nothing.
    #[error("empty")]
    Empty,
    /// It holds nothing, or something else by this label.
    #[error("no certificate")]
    NoCertificate(Option<String>),
    /// One of its certificates is unusable.
    #[error("certificate {number} (line {line}) is broken: {why}")]
    Broken {
        /// Which one, from 1.
        number: usize,
        /// The line where it begins, from 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The certificates of a text, in PEM form without anything else. Space around lines is left out, as is what stands between
/// certificates; a certificate that no client could trust spoils all of them.
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
        let body = if rest.is_empty() { body(&mut lines) } else { Err("its first line goes on after the dashes") };
        let base64 = body.and_then(|body| trusted(&body));
        pem.push_str(&base64.map_err(|why| PemError::Broken { number, line, why })?);
    }
    if number == 0 { Err(PemError::NoCertificate(other)) } else { Ok(pem.into_bytes()) }
}

/// What stands between the first line of a certificate and its last one, which is taken too.
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

/// The certificate as PEM, if a client can trust it.
fn trusted(base64: &str) -> Result<String, &'static str> {
    let der = BASE64.decode(base64).map_err(|_| "it is not base64, or a part of it is missing")?;
    let checked = RootCertStore::empty().add(CertificateDer::from(der));
    checked.map_err(|_| "it is no X.509 certificate that can be trusted")?;
    let mut pem = format!("{BEGIN}{CERTIFICATE}{DASHES}\n");
    for (i, c) in base64.chars().enumerate() {
        if i > 0 && i % LINE == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    Ok(pem + &format!("\n{END}{CERTIFICATE}{DASHES}\n"))
}
