//! Certificates for nodes, clients and other servers.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion,
};
use tempfile::TempDir;

use super::node::Nsqd;

/// An authority, a certificate of it for 127.0.0.1, and one for a client, in files.
pub(crate) struct Certificates {
    dir: TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("temporary folder");
        let mut params = CertificateParams::new([]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
            .expect("an authority");
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).expect("a file");
        for name in ["server", "client"] {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("parameters");
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, format!("{name}.example"));
            let certificate = params.signed_by(&key, &authority).expect("a certificate");
            std::fs::write(dir.path().join(format!("{name}.pem")), certificate.pem())
                .expect("a file");
            std::fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem())
                .expect("a file");
        }
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn flag(&self, flag: &str, name: &str) -> String {
        format!("-{flag}={}", self.path(name).display())
    }

    /// A node with the server's certificate and these flags.
    pub(crate) fn node(&self, flags: &[&str]) -> Nsqd {
        let (cert, key) = (self.flag("tls-cert", "server.pem"), self.flag("tls-key", "server.key"));
        Nsqd::start(&[&[cert.as_str(), &key, "-https-address=127.0.0.1:0"], flags].concat())
    }

    /// TLS over `wire` as a client that trusts the authority, with its own certificate if wanted.
    pub(crate) fn client(
        &self,
        wire: TcpStream,
        version: &'static SupportedProtocolVersion,
        has_certificate: bool,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.path("ca.pem")).expect("a PEM file"))
            .expect("a root");
        let builder = ClientConfig::builder_with_protocol_versions(&[version]);
        let builder = builder.with_root_certificates(roots);
        let config = if has_certificate {
            let chain =
                vec![CertificateDer::from_pem_file(self.path("client.pem")).expect("a PEM file")];
            let key = PrivateKeyDer::from_pem_file(self.path("client.key")).expect("a PEM file");
            builder.with_client_auth_cert(chain, key).expect("a client certificate")
        } else {
            builder.with_no_client_auth()
        };
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a TLS client"), wire)
    }

    /// What a server with this certificate needs.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let read = |name| CertificateDer::from_pem_file(self.path(name)).expect("a PEM file");
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).expect("a PEM file");
        let config = ServerConfig::builder_with_protocol_versions(&[&TLS12, &TLS13]);
        let config = config.with_no_client_auth().with_single_cert(vec![read("server.pem")], key);
        Arc::new(config.expect("a certificate and its key"))
    }
}
