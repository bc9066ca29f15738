//! AUTH, by auth servers and by the file of `-auth-file`.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    AuthServer, Certificates, Frame, Nsqd, RawClient, eventually, is_reference, refusal,
};

/// A second of TTL, or a look at the file, on a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// An address where nobody listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

fn asks(address: &str) -> String {
    format!("-auth-http-address={address}")
}

/// Sends the secret and reads the answer, which must be good.
#[track_caller]
fn authenticate(client: &mut RawClient, secret: &str) -> Value {
    client.command("AUTH", Some(secret.as_bytes()));
    match client.frame() {
        Frame::Response(answer) => serde_json::from_slice(&answer).expect("JSON"),
        other => panic!("AUTH with {secret}: {other:?}"),
    }
}

/// A client that is let in.
#[track_caller]
fn known(node: &Nsqd, secret: &str) -> RawClient {
    let mut client = node.client();
    authenticate(&mut client, secret);
    client
}

/// Repeats a command that is answered with `OK` until it is an error, which is returned.
#[track_caller]
fn until_refused(client: &mut RawClient, line: &str, body: &[u8]) -> String {
    let end = Instant::now() + SOON;
    loop {
        client.command(line, Some(body));
        match client.frame() {
            Frame::Error(error) => return error,
            Frame::Response(_) => assert!(Instant::now() < end, "{line} is permitted for ever"),
            other => panic!("{line}: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A file that is replaced as editors do it: another takes its name.
struct AuthFile {
    dir: TempDir,
}

impl AuthFile {
    fn new(text: &str) -> Self {
        let file = Self { dir: TempDir::new().expect("temporary folder") };
        file.replace(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("auth.toml")
    }

    fn flag(&self) -> String {
        format!("-auth-file={}", self.path().display())
    }

    fn replace(&self, text: &str) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, text).expect("a file");
        std::fs::rename(new, self.path()).expect("a new name");
    }
}

fn entry(secret: &str, topic: &str) -> String {
    format!(
        "[[client]]\nsecret = \"{secret}\"\nidentity = \"{secret}-name\"\n[[client.permit]]\n\
         topic = \"{topic}\"\nchannels = [\".*\"]\npermissions = [\"publish\", \"subscribe\"]\n"
    )
}

#[test]
fn any_auth_server_that_answers_is_enough_and_those_that_fail_are_named_once() {
    let broken = AuthServer::start(|_| (500, String::new()));
    let good = [0, 1].map(|_| AuthServer::start(|_| (200, AuthServer::everything(3_600))));
    let mut flags = vec![asks(&nowhere()), asks(&broken.address())];
    flags.extend(good.iter().map(|server| asks(&server.address())));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let node = Nsqd::start(&flags);
    for _ in 0..60 {
        known(&node, "s").publish("t", b"x");
    }
    let counts = good.iter().map(|server| server.asked().len()).collect::<Vec<_>>();
    assert_eq!(counts.iter().sum::<usize>(), 60, "each client is asked about once");
    assert!(counts.iter().all(|&count| count > 0), "the first one is any of them: {counts:?}");
    let tries = broken.asked().len();
    assert!((1..60).contains(&tries), "it is not always first, nor never: {tries}");
    if !is_reference() {
        let log = node.log();
        assert_eq!(log.matches("WARNING: auth server fails").count(), 2, "{log}");
        assert!(!log.contains("secret="), "{log}");
    }
}

#[test]
fn an_auth_server_that_says_no_is_not_taken_for_a_broken_one() {
    let server = AuthServer::start(|asked| match asked.path.contains("secret=good") {
        true => (200, AuthServer::everything(3_600)),
        false => (403, "{}".to_owned()),
    });
    let node = Nsqd::start(&[&asks(&server.address())]);
    let mut client = node.client();
    client.command("AUTH", Some(b"bad"));
    client.expect_fatal("E_AUTH_FAILED AUTH failed");
    assert!(!node.log().contains("auth server"), "outsiders must not fill the log");
    assert_eq!(authenticate(&mut node.client(), "good")["permission_count"], 1);
}

#[test]
fn an_auth_server_that_hangs_is_given_up_for_the_next() {
    let (_hold, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let hanging = AuthServer::start(move |_| {
        let _ = held.lock().expect("nobody panicked").recv();
        (200, String::new())
    });
    let good = AuthServer::start(|_| (200, AuthServer::everything(3_600)));
    let flags = [asks(&hanging.address()), asks(&good.address())];
    let node = Nsqd::start(&[&flags[0], &flags[1], "-http-client-request-timeout=100ms"]);
    eventually(SOON, "the one that hangs is asked first now and then", || {
        known(&node, "s").publish("t", b"x");
        !hanging.asked().is_empty()
    });
}

#[test]
fn a_stopping_node_waits_for_no_auth_server() {
    if is_reference() {
        return;
    }
    let (_hold, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let hanging = AuthServer::start(move |_| {
        let _ = held.lock().expect("nobody panicked").recv();
        (200, String::new())
    });
    let flag = asks(&hanging.address());
    let mut node = Nsqd::start(&[&flag, "-http-client-request-timeout=1m"]);
    let mut client = node.client();
    client.command("AUTH", Some(b"s"));
    eventually(SOON, "the server is asked", || !hanging.asked().is_empty());
    assert!(node.terminate().success());
    assert!(!node.log().contains("some clients did not end in time"), "{}", node.log());
}

#[test]
fn an_auth_server_over_https_must_be_vouched_for_and_keeps_the_query_of_its_address() {
    let certificates = Certificates::new();
    let everything = || (200, AuthServer::everything(3_600));
    let https = AuthServer::start_tls(certificates.server(), move |_| everything());
    let told = format!(r#"{{"message":"TLS_REQUIRED","https_port":{}}}"#, https.port());
    let http = AuthServer::start(move |_| (403, told.clone()));
    let authority = certificates.flag("tls-root-ca-file", "ca.pem");

    let node = Nsqd::start(&[&asks(&http.address()), &authority]);
    known(&node, "one");
    assert_eq!(http.paths(), https.paths(), "asked again, and for the same");

    let address = format!("https://127.0.0.1:{}/who?key=1", https.port());
    let node = Nsqd::start(&[&asks(&address), &authority]);
    known(&node, "two");
    if !is_reference() {
        let want = "/who?key=1&common_name=&remote_ip=127.0.0.1&secret=two&tls=false";
        assert_eq!(https.paths().last().map(String::as_str), Some(want));
    }

    let node = Nsqd::start(&[&asks(&address)]);
    let mut client = node.client();
    client.command("AUTH", Some(b"three"));
    client.expect_fatal("E_AUTH_FAILED AUTH failed");
    assert!(!https.paths().iter().any(|path| path.contains("three")), "told to a stranger");
}

#[test]
fn a_client_on_a_unix_socket_has_no_address() {
    let dir = TempDir::new().expect("temporary folder");
    let path = dir.path().join("nsqd.sock");
    let server = AuthServer::start(|_| (200, AuthServer::everything(3_600)));
    let address = format!("-tcp-address={}", path.display());
    let node = Nsqd::start(&[&asks(&server.address()), &address]);
    let mut stream = UnixStream::connect(&path).expect("the node listens");
    stream.write_all(b"  V2AUTH\n\0\0\0\x01s").expect("the node reads");
    let mut head = [0; 8];
    stream.read_exact(&mut head).expect("the node answers");
    assert_eq!(head[4..], [0; 4], "a response");
    assert_eq!(server.paths(), ["/auth?common_name=&remote_ip=&secret=s&tls=false"]);
    drop(node);
}

#[test]
fn what_came_before_a_refused_publish_is_stored_and_acknowledged() {
    let server = AuthServer::start(|_| (200, AuthServer::topics("^mine$", 3_600)));
    let node = Nsqd::start(&[&asks(&server.address())]);
    node.create_channel("mine", "c");
    for refused in ["PUB other\n\0\0\0\x01x", "DPUB other 0\n\0\0\0\x01x", "MPUB other\n"] {
        let mut client = known(&node, "s");
        let wanted = "PUB mine\n\0\0\0\x01x".repeat(3);
        client.send(format!("{wanted}{refused}").as_bytes());
        for _ in 0..3 {
            client.expect_ok();
        }
        let verb = refused.split(' ').next().unwrap_or_default();
        let error = format!("E_UNAUTHORIZED AUTH failed for {verb} on \"other\" \"\"");
        client.expect_fatal(&error);
    }
    node.wait_for_stat("mine", "c", "depth", 9);
    let topics = node.get("/stats?format=json").json()["topics"].clone();
    assert_eq!(topics.as_array().map(Vec::len), Some(1), "no refused topic was made: {topics}");
}

#[test]
fn permissions_are_asked_for_anew_when_their_time_is_over_and_consumers_stay() {
    let is_up = Arc::new(AtomicBool::new(true));
    let is_there = Arc::clone(&is_up);
    let server = AuthServer::start(move |_| match is_there.load(Ordering::SeqCst) {
        true => (200, AuthServer::everything(1)),
        false => (500, String::new()),
    });
    let node = Nsqd::start(&[&asks(&server.address())]);
    let mut consumer = known(&node, "s");
    consumer.command("SUB t c", None);
    consumer.expect_ok();
    consumer.command("RDY 100", None);
    let mut clients = [0, 1, 2].map(|_| known(&node, "s"));
    assert_eq!(server.asked().len(), 4);
    eventually(SOON, "a second passes", || {
        clients[0].publish("u", b"x");
        server.asked().len() == 5
    });
    is_up.store(false, Ordering::SeqCst);
    let one = [0, 0, 0, 1, 0, 0, 0, 1, b'x'];
    let commands = [("PUB u", &b"x"[..]), ("MPUB u", &one), ("DPUB u 0", b"x")];
    for (client, (line, body)) in clients.iter_mut().zip(commands) {
        assert_eq!(until_refused(client, line, body), "E_AUTH_FAILED AUTH failed");
        assert_eq!(client.frame(), Frame::Closed);
    }
    node.post_ok("/pub?topic=t", b"still delivered");
    assert_eq!(consumer.take(), "still delivered");
}

#[test]
fn no_auth_server_is_asked_for_each_of_many_publishes_of_many_topics() {
    let server = AuthServer::start(|_| (200, AuthServer::topics("^t", 3_600)));
    let node = Nsqd::start(&[&asks(&server.address())]);
    let mut client = known(&node, "s");
    for number in 0..600 {
        client.publish(&format!("t{}", number % 300), b"x");
    }
    client.command("PUB u", Some(b"x"));
    client.expect_fatal("E_UNAUTHORIZED AUTH failed for PUB on \"u\" \"\"");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_stranger_does_not_learn_that_a_node_drains() {
    if is_reference() {
        return;
    }
    let server = AuthServer::start(|_| (200, AuthServer::everything(3_600)));
    let node = Nsqd::start(&[&asks(&server.address())]);
    node.post_ok("/drain", b"");
    let mut stranger = node.client();
    stranger.command("PUB t", Some(b"x"));
    stranger.expect_fatal("E_AUTH_FIRST AUTH required before PUB");
}

#[test]
fn the_auth_file_lets_clients_in_and_a_change_counts_while_they_are_connected() {
    if is_reference() {
        return;
    }
    let file = AuthFile::new(&(entry("alice", "^a") + &entry("bob", "^b")));
    let node = Nsqd::start(&[&file.flag()]);
    let mut alice = node.client();
    alice.command("IDENTIFY", Some(br#"{"feature_negotiation":true}"#));
    let Frame::Response(answer) = alice.frame() else { panic!("no answer to IDENTIFY") };
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!(answer["auth_required"], true);
    let answer = authenticate(&mut alice, "alice");
    assert_eq!(answer["identity"], "alice-name");
    alice.command("SUB a c", None);
    alice.expect_ok();
    let shown = node.channel_stats("a", "c")["clients"][0].clone();
    assert_eq!(shown["authed"], true, "{shown}");
    assert_eq!(shown["auth_identity"], "alice-name", "{shown}");

    let (mut publisher, mut bob) = (known(&node, "alice"), known(&node, "bob"));
    publisher.publish("a", b"x");
    bob.publish("b", b"x");
    let mut stranger = node.client();
    stranger.command("AUTH", Some(b"carol"));
    stranger.expect_fatal("E_AUTH_FAILED AUTH failed");

    file.replace("no TOML");
    eventually(SOON, "the bad file is noticed", || node.log().contains("changed auth file"));
    publisher.publish("a", b"the one before stays in force");

    file.replace(&(entry("alice", "^other") + &entry("carol", ".*")));
    let gone = until_refused(&mut bob, "PUB b", b"x");
    assert_eq!(gone, "E_AUTH_FAILED AUTH failed", "the secret is gone");
    let denied = until_refused(&mut publisher, "PUB a", b"x");
    assert_eq!(denied, "E_UNAUTHORIZED AUTH failed for PUB on \"a\" \"\"");
    known(&node, "carol").publish("c", b"x");
    alice.command("RDY 1", None);
    assert_eq!(alice.take(), "x", "who is subscribed stays so");

    let log = node.log();
    assert_eq!(log.matches("ERROR: the changed auth file is bad").count(), 1, "{log}");
    assert_eq!(log.matches("auth file read again").count(), 1, "{log}");
    assert_eq!(node.get("/config/auth_file").text(), file.path().display().to_string());
}

#[test]
fn the_file_is_asked_before_the_servers() {
    if is_reference() {
        return;
    }
    let server = AuthServer::start(|_| (200, AuthServer::topics("^server$", 3_600)));
    let file = AuthFile::new(&entry("alice", "^file$"));
    let node = Nsqd::start(&[&file.flag(), &asks(&server.address())]);
    known(&node, "alice").publish("file", b"x");
    assert!(server.asked().is_empty(), "the file knows alice");
    let mut bob = known(&node, "bob");
    bob.publish("server", b"x");

    file.replace(&(entry("alice", "^file$") + &entry("carol", "^file$")));
    eventually(SOON, "the file is read again", || node.log().contains("read again"));
    bob.publish("server", b"the server's word is good until its time is over");
    assert_eq!(server.asked().len(), 1);

    file.replace(&entry("bob", "^file$"));
    let error = until_refused(&mut bob, "PUB server", b"x");
    assert_eq!(error, "E_UNAUTHORIZED AUTH failed for PUB on \"server\" \"\"");
}

#[test]
fn a_node_that_could_not_let_anybody_in_does_not_start_and_says_why() {
    if is_reference() {
        return;
    }
    let file = AuthFile::new("[[client]]\nsecret = \"s3cret\"\nsecrets = 1\n");
    let line = refusal(&[&file.flag()]);
    assert!(line.contains("--auth-file") && line.contains("auth.toml"), "{line}");
    assert!(line.contains("line 3: unknown field `secrets`"), "{line}");
    assert!(!line.contains("s3cret\""), "{line}");
    let missing = Path::new("/no/such/auth.toml");
    let line = refusal(&[&format!("-auth-file={}", missing.display())]);
    assert!(line.contains("--auth-file \"/no/such/auth.toml\": No such file"), "{line}");
    let line = refusal(&[&asks("ftp://auth.example")]);
    assert!(line.contains("--auth-http-address \"ftp://auth.example\" is neither"), "{line}");
    let line = refusal(&[&asks("https://auth.example"), "-tls-root-ca-file=/no/such.pem"]);
    assert!(line.contains("--tls-root-ca-file \"/no/such.pem\""), "{line}");
}
