//! `ca_file` and `_file` secrets: what the service would use is what is judged.

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

/// What is said of a `ca_file` behind its place.
fn problem_of(ca: impl AsRef<[u8]>) -> String {
    files(ca).errors(&[]).replace("alerts.yaml:2:85: notifiers.mail.ca_file: found ", "")
}

/// The certificates as clients get them, which both must take.
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
fn certificates_are_understood_in_whatever_way_they_were_copied() {
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
fn a_broken_certificate_is_named_wherever_it_stands() {
    let (good, nonsense) = (certificate(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    insta::assert_snapshot!(problem_of(format!("{nonsense}{good}")), @"certificate 1 (line 1) is broken: it is no X.509 certificate that can be trusted (`ca.pem`), expected certificates of which none is broken");
    assert!(problem_of(format!("{good}# more\n{nonsense}")).starts_with("certificate 2 (line "));
    let cut = good.lines().take(3).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(problem_of(&cut), @"certificate 1 (line 1) is broken: its line -----END CERTIFICATE----- is missing (`ca.pem`), expected certificates of which none is broken");
    assert_eq!(problem_of(format!("{cut}\n{good}")), problem_of(&cut));
    insta::assert_snapshot!(problem_of(good.replace("MII", "M*I")), @"certificate 1 (line 1) is broken: it is not base64, or a part of it is missing (`ca.pem`), expected certificates of which none is broken");
    insta::assert_snapshot!(problem_of(good.replace('\n', " ")), @"certificate 1 (line 1) is broken: its first line goes on after the dashes (`ca.pem`), expected certificates of which none is broken");
}

#[test]
fn what_is_no_certificate_is_called_what_it_is() {
    insta::assert_snapshot!(problem_of(""), @"an empty file (`ca.pem`), expected a readable PEM file with at least one certificate");
    insta::assert_snapshot!(problem_of("nothing"), @"no certificate (`ca.pem`), expected a readable PEM file with at least one certificate");
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    insta::assert_snapshot!(problem_of(own.signing_key.serialize_pem()), @"`BEGIN PRIVATE KEY` and no certificate (`ca.pem`), expected a readable PEM file with at least one certificate");
    insta::assert_snapshot!(problem_of(own.cert.der()), @"a certificate in DER form (`ca.pem`), expected the same in PEM form: openssl x509 -inform der -in … -out ca.pem");
    let utf16: Vec<u8> = "\u{feff}x".encode_utf16().flat_map(u16::to_le_bytes).collect();
    insta::assert_snapshot!(problem_of(utf16), @"text in UTF-16 (`ca.pem`), expected text in UTF-8");
}

#[test]
fn a_secret_from_a_file_is_one_line_of_text() {
    let files = Files::new(with("accounts:\n  acme: { api_key_file: key }"));
    let problem_of = |content: &[u8]| {
        files.add("key", content);
        files.errors(&[]).replace("alerts.yaml:2:25: accounts.acme.api_key_file: found ", "")
    };
    assert_eq!(problem_of("\u{feff}from-the-file\r\n\n".as_bytes()), "");
    assert_eq!(files.config(&[]).accounts["acme"].api_key.expose(), "from-the-file");
    let utf16: Vec<u8> = "\u{feff}hunter2\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    insta::assert_snapshot!(problem_of(&utf16), @"text in UTF-16 (`key`), expected text in UTF-8");
    insta::assert_snapshot!(problem_of(&utf16[2..]), @"a file with 2 lines (`key`), expected the secret alone, on one line");
    insta::assert_snapshot!(problem_of(b"one\ntwo\n"), @"a file with 2 lines (`key`), expected the secret alone, on one line");
    insta::assert_snapshot!(problem_of(b"hunter2\0"), @"a file with the control character U+0000 (`key`), expected the secret alone, as text in UTF-8");
    insta::assert_snapshot!(problem_of(b"hunter2\xff"), @"the byte 0xFF, which is not UTF-8 (`key`), expected text in UTF-8");
}
