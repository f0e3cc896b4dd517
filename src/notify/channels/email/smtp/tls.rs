//! TLS to a mail server, with the system's certificates and those of `ca_file`.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Trusted certificates, and the name that the server's certificate must contain.
#[derive(Clone)]
pub(crate) struct TlsTrust {
    connector: TlsConnector,
    name: String,
}

impl TlsTrust {
    /// Trusts the system's certificates and these. Fails if `extra_pem` has no usable certificate.
    pub(crate) fn new(name: String, extra_pem: Option<&[u8]>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        // A system certificate that cannot be read does not affect the others.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for certificate in extra_pem.map(certificates).transpose()?.unwrap_or_default() {
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Runs the TLS handshake over a stream.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let name = ServerName::try_from(self.name.clone()).map_err(io::Error::other)?;
        self.connector.connect(name, stream).await
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("no PEM certificate in `ca_file`".to_owned()),
        Err(error) => Err(format!("`ca_file` holds no valid PEM: {error}")),
    }
}

/// Returns true if the server answered a handshake with something other than TLS.
pub(crate) fn is_no_tls(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::InvalidMessage(_)))
}
