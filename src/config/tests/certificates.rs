//! `ca_file` and `_file` secrets, checked on the bytes that the service would use.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Files, with};

/// A certificate in PEM form.
fn certificate() -> String {
    rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap().cert.pem()
}

fn files(ca: impl AsRef<[u8]>) -> Files {
    let mail = "type: email, host: mx, from: a@example.com, to: [b@example.com], ca_file: ca.pem";
    let files = Files::new(with(&format!("notifiers:\n  mail: {{ {mail} }}")));
    files.add("ca.pem", ca);
    files
}

/// Returns the problem with a `ca_file`, without its place.
fn problem_of(ca: impl AsRef<[u8]>) -> String {
    files(ca).errors(&[]).replace("alerts.yaml:2:85: notifiers.mail.ca_file: cannot use ", "")
}

/// Returns the number of certificates, which all TLS clients must accept.
fn used(files: &Files) -> usize {
    let pem = files.config(&[]).notifiers["mail"].connection.ca_pem.clone().unwrap();
    let web = reqwest::Certificate::from_pem_bundle(&pem).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    CertificateDer::pem_slice_iter(&pem).for_each(|certificate| roots.add(certificate.unwrap()).unwrap());
    assert_eq!(roots.len(), web.len());
    assert!(reqwest::Client::builder().tls_certs_only(web.clone()).build().is_ok());
    web.len()
}

#[test]
fn certificates_are_accepted_with_indentation_and_comments() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pem = certificate();
    let indented = format!("    {}", pem.replace('\n', "  \r\n    "));
    for (ca, count) in [
        (pem.clone(), 1),
        (format!("\u{feff}{pem}"), 1),
        (indented, 1),
        (format!("# Our own\nsubject=CN = ca\n{pem}\n\n{}", certificate()), 2),
        (pem.trim_end().to_owned(), 1),
    ] {
        assert_eq!(used(&files(&ca)), count, "{ca}");
    }
}

#[test]
fn a_broken_certificate_is_named_by_its_number_and_line() {
    let (good, broken) = (certificate(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    insta::assert_snapshot!(problem_of(format!("{broken}{good}")), @"`ca.pem`: certificate 1 (line 1) is broken: it is not an X.509 certificate that can be trusted; expected only valid certificates");
    assert!(problem_of(format!("{good}# more\n{broken}")).starts_with("`ca.pem`: certificate 2 (line "));
    let cut = good.lines().take(3).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(problem_of(&cut), @"`ca.pem`: certificate 1 (line 1) is broken: its line -----END CERTIFICATE----- is missing; expected only valid certificates");
    assert_eq!(problem_of(format!("{cut}\n{good}")), problem_of(&cut));
    insta::assert_snapshot!(problem_of(good.replace("MII", "M*I")), @"`ca.pem`: certificate 1 (line 1) is broken: it is not base64, or a part of it is missing; expected only valid certificates");
    insta::assert_snapshot!(problem_of(good.replace('\n', " ")), @"`ca.pem`: certificate 1 (line 1) is broken: its first line continues after the dashes; expected only valid certificates");
}

#[test]
fn files_without_certificates_are_described() {
    insta::assert_snapshot!(problem_of(""), @"`ca.pem`: an empty file; expected a readable PEM file with at least one certificate");
    insta::assert_snapshot!(problem_of("nothing"), @"`ca.pem`: no certificate; expected a readable PEM file with at least one certificate");
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    insta::assert_snapshot!(problem_of(own.signing_key.serialize_pem()), @"`ca.pem`: `BEGIN PRIVATE KEY` and no certificate; expected a readable PEM file with at least one certificate");
    insta::assert_snapshot!(problem_of(own.cert.der()), @"`ca.pem`: a certificate in DER form; expected a PEM file: openssl x509 -inform der -in … -out ca.pem");
    let utf16: Vec<u8> = "\u{feff}x".encode_utf16().flat_map(u16::to_le_bytes).collect();
    insta::assert_snapshot!(problem_of(utf16), @"`ca.pem`: text in UTF-16; expected text in UTF-8");
}

#[test]
fn a_secret_from_a_file_is_one_line_of_text() {
    let files = Files::new(with("accounts:\n  acme: { api_key_file: key }"));
    let problem_of = |content: &[u8]| {
        files.add("key", content);
        files.errors(&[]).replace("alerts.yaml:2:25: accounts.acme.api_key_file: cannot use ", "")
    };
    assert_eq!(problem_of("\u{feff}from-the-file\r\n\n".as_bytes()), "");
    assert_eq!(files.config(&[]).accounts["acme"].api_key.expose(), "from-the-file");
    let utf16: Vec<u8> = "\u{feff}hunter2\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    insta::assert_snapshot!(problem_of(&utf16), @"`key`: text in UTF-16; expected text in UTF-8");
    insta::assert_snapshot!(problem_of(&utf16[2..]), @"`key`: a file with 2 lines; expected the secret alone, on one line");
    insta::assert_snapshot!(problem_of(b"one\ntwo\n"), @"`key`: a file with 2 lines; expected the secret alone, on one line");
    insta::assert_snapshot!(problem_of(b"hunter2\0"), @"`key`: a file with the control character U+0000; expected the secret alone, as text in UTF-8");
    insta::assert_snapshot!(problem_of(b"hunter2\xff"), @"`key`: the byte 0xFF, which is not UTF-8; expected text in UTF-8");
}
