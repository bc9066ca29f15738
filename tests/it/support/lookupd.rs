//! An nsqlookupd that notes what it is told, and misbehaves when it is asked to.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

use super::wait::eventually_ok;

/// News of a topic takes milliseconds; the rest is for a busy machine, and for a node that waits
/// some seconds between two attempts to connect.
const NEWS_MAX: Duration = Duration::from_secs(20);

/// How it answers.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// As nsqlookupd does.
    Good,
    /// Takes everything and says nothing.
    Silent,
    /// Says this, whatever it is told.
    Says(Vec<u8>),
    /// Closes every connection.
    Closes,
}

#[derive(Debug)]
struct State {
    manner: Manner,
    /// What a GET over HTTP is answered with, status line and all; `None`: nothing ever.
    http_answer: Option<String>,
    /// Lines as they came, over all connections.
    lines: Vec<String>,
    /// Bodies of IDENTIFY.
    identities: Vec<Value>,
    /// What was asked over HTTP.
    questions: Vec<String>,
    live: Vec<TcpStream>,
}

/// A fake nsqlookupd on two free ports; its threads end with the test process.
pub(crate) struct FakeLookupd {
    address: String,
    state: Arc<Mutex<State>>,
}

impl FakeLookupd {
    /// One that behaves, and knows no channels.
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            manner: Manner::Good,
            http_answer: Some(channels(&[])),
            lines: Vec::new(),
            identities: Vec::new(),
            questions: Vec::new(),
            live: Vec::new(),
        }));
        let http = listen(&state, |stream, state| answer_http(stream, &state));
        let http_port = http.rsplit_once(':').expect("a port").1.parse().expect("a number");
        let address = listen(&state, move |stream, state| serve(stream, &state, http_port));
        Self { address, state }
    }

    /// Where nsqds register.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The flag that makes a node register here.
    pub(crate) fn flag(&self) -> String {
        format!("-lookupd-tcp-address={}", self.address)
    }

    /// From now on it answers like this.
    pub(crate) fn set_manner(&self, manner: Manner) {
        self.state().manner = manner;
    }

    /// From now on it knows these channels of every topic.
    pub(crate) fn set_channels(&self, names: &[&str]) {
        self.set_http_answer(Some(channels(names)));
    }

    /// From now on it answers this over HTTP, status line and all; `None`: nothing ever.
    pub(crate) fn set_http_answer(&self, answer: Option<String>) {
        self.state().http_answer = answer;
    }

    /// Breaks every connection.
    pub(crate) fn disconnect(&self) {
        for stream in self.state().live.drain(..) {
            let _ = stream.shutdown(Shutdown::Both); // it may have ended by itself
        }
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.state().live.len()
    }

    /// Everything it was told, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    /// The bodies of all IDENTIFYs.
    pub(crate) fn identities(&self) -> Vec<Value> {
        self.state().identities.clone()
    }

    /// What it was asked over HTTP: request targets.
    pub(crate) fn questions(&self) -> Vec<String> {
        self.state().questions.clone()
    }

    /// What is registered by the newest connection: topics, and topics with a channel.
    pub(crate) fn registered(&self) -> BTreeSet<String> {
        let state = self.state();
        let newest = state.lines.iter().rposition(|line| line == "IDENTIFY").unwrap_or(0);
        let mut table = BTreeSet::new();
        for line in &state.lines[newest..] {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["REGISTER", topic] => {
                    table.insert(topic.to_owned());
                }
                ["REGISTER", topic, channel] => {
                    table.insert(topic.to_owned());
                    table.insert(format!("{topic} {channel}"));
                }
                ["UNREGISTER", topic] => {
                    table.retain(|entry: &String| entry.split(' ').next() != Some(topic));
                }
                ["UNREGISTER", topic, channel] => {
                    table.remove(&format!("{topic} {channel}"));
                }
                _ => {}
            }
        }
        table
    }

    /// Waits until exactly this is registered.
    #[track_caller]
    pub(crate) fn wait_for(&self, entries: &[&str]) {
        let want: BTreeSet<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
        eventually_ok(NEWS_MAX, "the nsqlookupd knows what there is", || {
            let table = self.registered();
            if table == want { Ok(()) } else { Err(format!("{table:?}, not {want:?}")) }
        });
    }

    /// Waits until it has been introduced `count` times.
    #[track_caller]
    pub(crate) fn wait_for_identities(&self, count: usize) {
        eventually_ok(NEWS_MAX, "a node introduces itself", || {
            let identities = self.identities();
            if identities.len() >= count { Ok(()) } else { Err(format!("{identities:?}")) }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of a fake panics")
    }
}

/// The answer of `/channels`.
fn channels(names: &[&str]) -> String {
    let body = json!({ "channels": names }).to_string();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn listen(
    state: &Arc<Mutex<State>>,
    serve: impl Fn(TcpStream, Arc<Mutex<State>>) + Clone + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (serve, state) = (serve.clone(), Arc::clone(&state));
            std::thread::spawn(move || serve(stream, state));
        }
    });
    address
}

fn serve(stream: TcpStream, state: &Mutex<State>, http_port: u16) {
    let lock = || state.lock().expect("no thread of a fake panics");
    lock().live.push(stream.try_clone().expect("a handle"));
    let _ = converse(&stream, state, http_port); // it ends one way or another
    let _ = stream.shutdown(Shutdown::Both);
    let end = stream.peer_addr().ok();
    lock().live.retain(|other| other.peer_addr().is_ok_and(|peer| Some(peer) != end));
}

fn converse(stream: &TcpStream, state: &Mutex<State>, http_port: u16) -> std::io::Result<()> {
    let lock = || state.lock().expect("no thread of a fake panics");
    let (mut input, mut output) = (BufReader::new(stream), stream);
    if matches!(lock().manner, Manner::Closes) {
        return Ok(());
    }
    let mut magic = [0; 4];
    input.read_exact(&mut magic)?;
    assert_eq!(&magic, b"  V1", "the magic of nsqlookupd's protocol");
    let mut line = String::new();
    while input.read_line(&mut line)? > 0 {
        let command = std::mem::take(&mut line).trim_end_matches('\n').to_owned();
        let mut answer = b"OK".to_vec();
        if command == "IDENTIFY" {
            let mut size = [0; 4];
            input.read_exact(&mut size)?;
            let mut body = vec![0; u32::from_be_bytes(size) as usize];
            input.read_exact(&mut body)?;
            let identity = serde_json::from_slice(&body).expect("the body of IDENTIFY is JSON");
            lock().identities.push(identity);
            let own = json!({
                "broadcast_address": "127.0.0.1", "hostname": "fake", "http_port": http_port,
                "tcp_port": 1, "version": "1.3.0",
            });
            answer = own.to_string().into_bytes();
        }
        let mut state = lock();
        state.lines.push(command);
        let manner = state.manner.clone();
        drop(state);
        match manner {
            Manner::Good => {
                output.write_all(&(answer.len() as u32).to_be_bytes())?;
                output.write_all(&answer)?;
            }
            Manner::Silent => {}
            Manner::Says(bytes) => output.write_all(&bytes)?,
            Manner::Closes => return Ok(()),
        }
    }
    Ok(())
}

fn answer_http(stream: TcpStream, state: &Mutex<State>) {
    let mut input = BufReader::new(&stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if !matches!(input.read_line(&mut head), Ok(len) if len > 0) {
            return;
        }
    }
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut state = state.lock().expect("no thread of a fake panics");
    state.questions.push(target);
    let answer = state.http_answer.clone();
    drop(state);
    match answer {
        Some(answer) => {
            let _ = (&stream).write_all(answer.as_bytes()); // who asked may have gone
        }
        // Until the other side has had enough.
        None => {
            let _ = input.read_line(&mut head);
        }
    }
}
