//! What a node's TLS is made of: certificate, versions, and who must show a certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, InconsistentKeys, RootCertStore,
    ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use tracing::info;

use crate::config::{Options, TlsVersion};

/// The node's TLS, for clients and for HTTPS; `None` without a certificate.
///
/// TLS 1.2 and 1.3 are spoken. A lower `-tls-min-version` (nsqd's default is 1.0) means 1.2: the
/// versions below are broken, and rustls does not have them.
///
/// # Errors
///
/// One line that names the flag and what is wrong with its file.
pub(crate) fn server_config(options: &Options) -> Result<Option<Arc<ServerConfig>>, String> {
    if options.tls_cert.is_empty() && options.tls_key.is_empty() {
        return Ok(None);
    }
    let config = build(options).map_err(|error| format!("failed to build TLS config - {error}"))?;
    if options.tls_min_version < TlsVersion::Tls12 {
        info!("TLS: 1.2 is the oldest version spoken, although -tls-min-version would allow older");
    }
    Ok(Some(Arc::new(config)))
}

fn build(options: &Options) -> Result<ServerConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let key = certified_key(options, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(options))
        .map_err(|error| error.to_string())?;
    let builder = match client_policy(options, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    Ok(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key))))
}

fn versions(options: &Options) -> &'static [&'static SupportedProtocolVersion] {
    static NEW: [&SupportedProtocolVersion; 1] = [&TLS13];
    static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match options.tls_min_version {
        TlsVersion::Tls13 => &NEW,
        TlsVersion::Tls10 | TlsVersion::Tls11 | TlsVersion::Tls12 => &BOTH,
    }
}

/// TLS of this node as a client of other servers: those are trusted whose certificates
/// `-tls-root-ca-file` vouches for, or the system without it.
///
/// # Errors
///
/// One line that names the flag and what is wrong with its file.
pub(crate) fn client_config(options: &Options) -> Result<Arc<ClientConfig>, String> {
    let roots = match options.tls_root_ca_file.as_str() {
        "" => {
            let mut roots = RootCertStore::empty();
            // What the system has may be odd or nothing; who needs it finds out when it connects.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
        path => roots(path)?,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions(options))
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// The certificates of `-tls-root-ca-file`.
fn roots(path: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("--tls-root-ca-file", path)? {
        let added = roots.add(certificate);
        added.map_err(|error| format!("--tls-root-ca-file {path:?}: {error}"))?;
    }
    Ok(roots)
}

fn certified_key(options: &Options, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let chain = certificates("--tls-cert", &options.tls_cert)?;
    let bad_key =
        |error: &dyn std::fmt::Display| format!("--tls-key {:?}: {error}", options.tls_key);
    let key = PrivateKeyDer::from_pem_file(&options.tls_key).map_err(|error| bad_key(&error))?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| bad_key(&error))?;
    let certified = CertifiedKey::new(chain, key);
    // Whether a certificate is good is for clients to say; only a wrong key is our business.
    match certified.keys_match() {
        Err(error @ Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(bad_key(&error)),
        _ => Ok(certified),
    }
}

fn certificates(flag: &str, path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let bad = |error: &dyn std::fmt::Display| format!("{flag} {path:?}: {error}");
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(Path::new(path)).map_err(|error| bad(&error))?.collect();
    let certificates = certificates.map_err(|error| bad(&error))?;
    match certificates.is_empty() {
        true => Err(bad(&"no certificate in it")),
        false => Ok(certificates),
    }
}

/// Who must show a certificate. Any other word than nsqd's two asks for none, as in nsqd.
///
/// Source: `buildTLSConfig`, nsqd/nsqd.go (nsq 3103474b).
fn client_policy(
    options: &Options,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    match options.tls_client_auth_policy.as_str() {
        "require" => Ok(Some(Arc::new(AnyCertificate(provider)))),
        "require-verify" => {
            if options.tls_root_ca_file.is_empty() {
                let what = "--tls-client-auth-policy=require-verify needs --tls-root-ca-file";
                return Err(what.to_owned());
            }
            let roots = Arc::new(roots(&options.tls_root_ca_file)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            verifier.map(|verifier| Some(verifier as _)).map_err(|error| error.to_string())
        }
        _ => Ok(None),
    }
}

/// `-tls-client-auth-policy=require`: a client proves that it has the key of the certificate it
/// shows, and nobody asks who signed that.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Self(provider) = self;
        verify_tls12_signature(message, cert, dss, &provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Self(provider) = self;
        verify_tls13_signature(message, cert, dss, &provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let Self(provider) = self;
        provider.signature_verification_algorithms.supported_schemes()
    }
}
