//! TLS, snappy and deflate after IDENTIFY, and HTTPS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};
use serde_json::Value;

use crate::support::{AuthServer, Certificates, Nsqd, eventually, is_reference, refusal};

/// How long an expected answer may take on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(10);

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One stream for a reader and a writer that do not know of each other.
#[derive(Clone)]
struct Shared(Arc<Mutex<dyn Stream>>);

impl Read for Shared {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panicked").read(room)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panicked").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.lock().expect("nobody panicked").flush()
    }
}

/// A client on whatever is between it and the socket.
struct Layered {
    reader: Box<dyn Read>,
    writer: Box<dyn Write>,
}

impl Layered {
    fn plain(stream: impl Stream + 'static) -> Self {
        let shared = Shared(Arc::new(Mutex::new(stream)));
        Self { reader: Box::new(shared.clone()), writer: Box::new(shared) }
    }

    fn packed(stream: impl Stream + 'static, kind: &str) -> Self {
        let shared = Shared(Arc::new(Mutex::new(stream)));
        match kind {
            "snappy" => Self {
                reader: Box::new(snap::read::FrameDecoder::new(shared.clone())),
                writer: Box::new(snap::write::FrameEncoder::new(shared)),
            },
            _ => Self {
                reader: Box::new(flate2::read::DeflateDecoder::new(shared.clone())),
                writer: Box::new(flate2::write::DeflateEncoder::new(
                    shared,
                    flate2::Compression::new(6),
                )),
            },
        }
    }

    #[track_caller]
    fn command(&mut self, line: &str, body: Option<&[u8]>) {
        self.writer.write_all(&command(line, body)).expect("the server takes the bytes");
        self.writer.flush().expect("the server takes the bytes");
        // flate2 leaves the flush marker out after much data, and nsqd waits for it.
        self.writer.flush().expect("the server takes the bytes");
    }

    /// Type and data of the next frame.
    #[track_caller]
    fn frame(&mut self) -> (u32, Vec<u8>) {
        let mut head = [0; 8];
        self.reader.read_exact(&mut head).expect("the server answers");
        let (size, kind) = head.split_at(4);
        let size = u32::from_be_bytes(size.try_into().expect("four bytes")) as usize;
        let mut data = vec![0; size - 4];
        self.reader.read_exact(&mut data).expect("the server answers");
        (u32::from_be_bytes(kind.try_into().expect("four bytes")), data)
    }

    #[track_caller]
    fn expect_ok(&mut self) {
        assert_eq!(self.frame(), (0, b"OK".to_vec()));
    }

    /// Publishes `body` and takes it as a consumer.
    #[track_caller]
    fn echo(&mut self, topic: &str, body: &[u8]) {
        self.command(&format!("PUB {topic}"), Some(body));
        self.expect_ok();
        self.command(&format!("SUB {topic} c"), None);
        self.expect_ok();
        self.command("RDY 1", None);
        let (kind, data) = self.frame();
        assert_eq!(kind, 2);
        assert!(data[26..] == *body, "the body comes as it went");
        self.command(&format!("FIN {}", String::from_utf8_lossy(&data[10..26])), None);
    }
}

fn command(line: &str, body: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = format!("{line}\n").into_bytes();
    if let Some(body) = body {
        bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
        bytes.extend_from_slice(body);
    }
    bytes
}

fn identify(features: &[&str]) -> Vec<u8> {
    let wishes: String = features.iter().map(|feature| format!(r#","{feature}":true"#)).collect();
    let body = format!(r#"{{"feature_negotiation":true{wishes}}}"#);
    command("IDENTIFY", Some(body.as_bytes()))
}

/// Connects and asks for `features`; all of them must be granted.
#[track_caller]
fn negotiate(node: &Nsqd, features: &[&str]) -> TcpStream {
    let stream = TcpStream::connect(node.tcp()).expect("the server listens");
    stream.set_read_timeout(Some(ANSWER_MAX)).expect("read timeout");
    let mut plain = Layered::plain(stream.try_clone().expect("another handle"));
    plain
        .writer
        .write_all(&[b"  V2", &identify(features)[..]].concat())
        .expect("the server takes the bytes");
    let (_, answer) = plain.frame();
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    for feature in features {
        assert_eq!(answer[feature], true, "{feature} in {answer}");
    }
    stream
}

/// Longer than a snappy chunk, and than what a socket takes at once.
fn long_body() -> Vec<u8> {
    (0..150_000_u32).flat_map(|number| number.wrapping_mul(number).to_le_bytes()).collect()
}

#[test]
fn compressed_messages_come_out_as_they_went_in() {
    let node = Nsqd::start(&[]);
    for kind in ["snappy", "deflate"] {
        let mut client = Layered::packed(negotiate(&node, &[kind]), kind);
        client.expect_ok();
        client.echo(kind, &long_body());
        node.wait_for_stat(kind, "c", "in_flight_count", 0);
        let shown = &node.channel_stats(kind, "c")["clients"][0];
        assert_eq!(shown["snappy"], kind == "snappy", "{shown}");
        assert_eq!(shown["deflate"], kind == "deflate", "{shown}");
        assert_eq!(shown["tls"], false, "{shown}");
    }
}

#[test]
fn tls_carries_commands_and_shows_in_stats() {
    let certificates = Certificates::new();
    let node = certificates.node(&[]);
    for (version, name) in [(&TLS12, "TLS1.2"), (&TLS13, "TLS1.3")] {
        let stream = negotiate(&node, &["tls_v1"]);
        let mut client = Layered::plain(certificates.client(stream, version, false));
        client.expect_ok();
        client.echo(name, &long_body());
        let shown = &node.channel_stats(name, "c")["clients"][0];
        assert_eq!(shown["tls"], true, "{shown}");
        assert_eq!(shown["tls_version"], name, "{shown}");
        if !is_reference() {
            assert!(shown["tls_cipher_suite"].as_str().unwrap().starts_with("TLS_"), "{shown}");
        }
    }
    node.client().publish("plain", b"still spoken");
}

#[test]
fn compression_works_inside_tls_with_an_ok_for_each() {
    let certificates = Certificates::new();
    let node = certificates.node(&[]);
    for kind in ["snappy", "deflate"] {
        let stream = negotiate(&node, &["tls_v1", kind]);
        let mut tls = certificates.client(stream, &TLS13, false);
        let mut ok = [0; 10];
        tls.read_exact(&mut ok).unwrap();
        assert_eq!(&ok, b"\0\0\0\x06\0\0\0\0OK");
        let mut client = Layered::packed(tls, kind);
        client.expect_ok();
        client.echo(kind, &long_body());
    }
}

#[test]
fn what_comes_with_the_identify_is_the_front_of_the_new_layer() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    let mut early = snap::write::FrameEncoder::new(Vec::new());
    early.write_all(&command("PUB t", Some(b"early"))).unwrap();
    let early = early.into_inner().unwrap();
    let mut stream = TcpStream::connect(node.tcp()).unwrap();
    stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
    stream.write_all(&[b"  V2", &identify(&["snappy"])[..], &early].concat()).unwrap();
    Layered::plain(stream.try_clone().unwrap()).frame();
    let mut client = Layered::packed(stream, "snappy");
    client.expect_ok();
    client.expect_ok();
}

#[test]
fn a_layer_is_put_on_once_however_often_it_is_asked_for() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    let mut client = Layered::packed(negotiate(&node, &["snappy"]), "snappy");
    client.expect_ok();
    for feature in ["snappy", "deflate"] {
        client.writer.write_all(&identify(&[feature])).unwrap();
        client.writer.flush().unwrap();
        let answer: Value = serde_json::from_slice(&client.frame().1).unwrap();
        assert_eq!(answer[feature], false, "{answer}");
    }
    client.echo("t", b"one layer");
}

#[test]
fn https_answers_the_same_api() {
    let certificates = Certificates::new();
    let node = certificates.node(&[]);
    let listening = || node.log().lines().find(|line| line.contains("HTTPS: ")).map(str::to_owned);
    eventually(ANSWER_MAX, "the log names the HTTPS port", || listening().is_some());
    let line = listening().unwrap();
    let port: u16 = line.rsplit_once(':').unwrap().1.trim().parse().unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
    let mut tls = certificates.client(stream, &TLS13, false);
    tls.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("OK"), "{answer}");
}

#[test]
fn a_client_without_the_certificate_it_must_show_is_refused() {
    let certificates = Certificates::new();
    let authority = certificates.flag("tls-root-ca-file", "ca.pem");
    // tcp-https: the helper asks for /ping in plain HTTP.
    let policy = ["-tls-client-auth-policy=require-verify", "-tls-required=tcp-https", &authority];
    let node = certificates.node(&policy);
    let with = certificates.client(negotiate(&node, &["tls_v1"]), &TLS13, true);
    let mut client = Layered::plain(with);
    client.expect_ok();
    client.echo("t", b"known");
    let mut without = certificates.client(negotiate(&node, &["tls_v1"]), &TLS13, false);
    assert!(without.read_exact(&mut [0; 10]).is_err());
}

#[test]
fn the_common_name_of_a_client_s_certificate_reaches_the_auth_server() {
    let server = AuthServer::start(|_| (200, AuthServer::everything(3_600)));
    let certificates = Certificates::new();
    let address = format!("-auth-http-address={}", server.address());
    let node = certificates.node(&[
        "-tls-client-auth-policy=require",
        "-tls-required=tcp-https",
        &address,
    ]);
    let stream = negotiate(&node, &["tls_v1"]);
    let mut client = Layered::plain(certificates.client(stream, &TLS13, true));
    client.expect_ok();
    client.command("AUTH", Some(b"a b"));
    let (kind, answer) = client.frame();
    assert_eq!(kind, 0, "{}", String::from_utf8_lossy(&answer));
    let query = "common_name=client.example&remote_ip=127.0.0.1&secret=a+b&tls=true";
    assert_eq!(server.paths(), [format!("/auth?{query}")]);
}

#[test]
fn a_handshake_that_never_comes_ends_after_five_seconds() {
    let certificates = Certificates::new();
    let node = certificates.node(&[]);
    let stream = negotiate(&node, &["tls_v1"]);
    let begun = Instant::now();
    let (kind, text) = Layered::plain(stream).frame();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(kind, 1);
    assert!(text.starts_with("E_IDENTIFY_FAILED IDENTIFY failed "), "{text}");
    assert!(text.ends_with("i/o timeout"), "{text}");
    assert!(begun.elapsed() > Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn tls_1_2_is_the_oldest_version_whatever_the_flag_allows() {
    if is_reference() {
        return;
    }
    let certificates = Certificates::new();
    let log = certificates.node(&["-tls-min-version=tls1.0"]).log();
    assert_eq!(log.matches("1.2 is the oldest version spoken").count(), 1, "{log}");
    let log = certificates.node(&["-tls-min-version=tls1.3"]).log();
    assert!(!log.contains("oldest version"), "{log}");
}

#[test]
fn a_certificate_that_cannot_be_used_is_one_line_that_names_the_flag() {
    if is_reference() {
        return;
    }
    let certificates = Certificates::new();
    let file = |flag, name| certificates.flag(flag, name);
    let cert = file("tls-cert", "server.pem");
    let cases = [
        (file("tls-cert", "server.key"), file("tls-key", "server.key"), "--tls-cert"),
        (cert.clone(), file("tls-key", "server.pem"), "--tls-key"),
        (cert.clone(), file("tls-key", "client.key"), "--tls-key"),
        (cert, "-tls-key=".to_owned(), "--tls-key"),
    ];
    for (cert, key, flag) in cases {
        let line = refusal(&[&cert, &key]);
        assert!(line.contains("failed to build TLS config") && line.contains(flag), "{line}");
    }
}

/// nsqd takes it. `support/keys/rsa-1024.pem` is a certificate that nobody trusts, and its key.
#[test]
fn a_key_that_is_too_short_to_be_safe_is_refused_at_the_start() {
    if is_reference() {
        return;
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/keys/rsa-1024.pem");
    let line = refusal(&[&format!("-tls-cert={file}"), &format!("-tls-key={file}")]);
    assert!(line.contains("--tls-key") && line.contains("rsa-1024.pem"), "{line}");
}

#[test]
fn a_policy_without_its_authority_is_refused() {
    if is_reference() {
        return;
    }
    let certificates = Certificates::new();
    let cert = certificates.flag("tls-cert", "server.pem");
    let key = certificates.flag("tls-key", "server.key");
    let line = refusal(&[&cert, &key, "-tls-client-auth-policy=require-verify"]);
    assert!(line.contains("--tls-root-ca-file"), "{line}");
}
