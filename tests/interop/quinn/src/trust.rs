//! Certificates: the client's own, and the checks of the server's chain, usage and URI.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue, verify_server_cert_signed_by_trust_anchor,
};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, NamedGroup, RootCertStore,
    SignatureScheme,
};
use serde_json::Value;

/// The TLS configuration of one connection, from the fields of a `connect` command.
pub fn config(asked: &Value, tickets: Arc<Counted>) -> Result<ClientConfig, String> {
    let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in certificates(&text("authority"))? {
        roots.add(root).map_err(|error| error.to_string())?;
    }
    let server = text("server");
    let verifier = ByUri {
        roots,
        server,
        provider: provider.clone(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous() // host names are not checked, because identities are URIs: see ByUri
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut made = match text("certificate").as_str() {
        "" => builder.with_no_client_auth(),
        path => builder
            .with_client_auth_cert(
                certificates(path)?,
                PrivateKeyDer::from_pem_file(text("key")).map_err(|error| error.to_string())?,
            )
            .map_err(|error| error.to_string())?,
    };
    made.alpn_protocols = vec![text("alpn").into_bytes()];
    made.enable_early_data = true;
    made.resumption = Resumption::store(tickets);
    Ok(made)
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| format!("{path}: {error}"))
}

/// Verifies that a chain leads to the authority, and that the leaf has exactly the wanted URI.
#[derive(Debug)]
struct ByUri {
    roots: RootCertStore,
    server: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ByUri {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, others, now, algorithms)?;
        let named = webpki::EndEntityCert::try_from(leaf)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if named.valid_uri_names().eq([self.server.as_str()]) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("QUIC has no TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Keeps and counts the session tickets that servers issue.
#[derive(Debug)]
pub struct Counted {
    kept: ClientSessionMemoryCache,
    count: AtomicUsize,
}

impl Default for Counted {
    fn default() -> Self {
        Counted {
            kept: ClientSessionMemoryCache::new(8),
            count: AtomicUsize::new(0),
        }
    }
}

impl Counted {
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl ClientSessionStore for Counted {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.kept.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept.kx_hint(server)
    }

    fn set_tls12_session(&self, _server: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.kept.insert_tls13_ticket(server, value);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.take_tls13_ticket(server)
    }
}
