//! Every event of a run in a file, one JSON object a line, with the fields in a fixed order.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Refusal;
use crate::case::{self, COMMIT};
use crate::plan::Plan;
use crate::trace::{Record, Recorder};

/// Fast; traces are long and repeat themselves.
const ZSTD_LEVEL: i32 = 3;

/// A plan of a thousand nodes is some 100 KB.
const PLAN_BYTES_MAX: u64 = 16 << 20;

/// Writes events to a file as they happen.
pub(super) struct TraceFile {
    file: Sink,
    /// The first that went wrong; nothing is written after it.
    error: Option<io::Error>,
}

enum Sink {
    Plain(BufWriter<File>),
    Packed(Box<zstd::Encoder<'static, BufWriter<File>>>),
}

impl TraceFile {
    /// Creates the file; a name that ends with `.zst` is compressed. Its first line is the plan.
    ///
    /// # Errors
    ///
    /// The file cannot be created.
    pub(super) fn create(path: &Path, plan: &Plan) -> io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        let packed = path.extension().is_some_and(|extension| extension == "zst");
        let file = if packed {
            Sink::Packed(Box::new(zstd::Encoder::new(file, ZSTD_LEVEL)?))
        } else {
            Sink::Plain(file)
        };
        let mut created = Self { file, error: None };
        created.line(&json!({ "k": "run", "commit": COMMIT, "plan": plan }));
        Ok(created)
    }

    fn line(&mut self, value: &Value) {
        if self.error.is_some() {
            return;
        }
        let mut text = value.to_string();
        text.push('\n');
        let written = match &mut self.file {
            Sink::Plain(file) => file.write_all(text.as_bytes()),
            Sink::Packed(encoder) => encoder.write_all(text.as_bytes()),
        };
        self.error = written.err();
    }

    /// Writes what is left.
    ///
    /// # Errors
    ///
    /// The first error of any write.
    pub(super) fn finish(self) -> io::Result<()> {
        if let Some(error) = self.error {
            return Err(error);
        }
        match self.file {
            Sink::Plain(mut file) => file.flush(),
            Sink::Packed(encoder) => encoder.finish()?.flush(),
        }
    }
}

impl Recorder for TraceFile {
    fn record(&mut self, record: &Record) {
        self.line(&object(record));
    }
}

/// Whether a file of this name is a trace.
pub(super) fn is_name(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with(".jsonl") || name.ends_with(".jsonl.zst")
}

/// What a trace says of its run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    /// What was executed.
    pub(super) plan: Plan,
    /// By a program built from this commit.
    pub(super) commit: String,
    /// The hash that its last event has; `None`: there is none, as when writing it was cut short.
    pub(super) last: Option<String>,
}

/// Reads what a trace says of its run.
///
/// # Errors
///
/// The file cannot be read, or does not begin with a plan that can be run.
pub(super) fn read(path: &Path) -> Result<Head, Refusal> {
    let refused =
        |reason: &dyn std::fmt::Display| Refusal::new(format!("{}: {reason}", path.display()));
    let file = File::open(path).map_err(|error| refused(&error))?;
    let packed = path.extension().is_some_and(|extension| extension == "zst");
    let reader: Box<dyn io::Read> = if packed {
        Box::new(zstd::Decoder::new(file).map_err(|error| refused(&error))?)
    } else {
        Box::new(file)
    };
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    (&mut reader).take(PLAN_BYTES_MAX).read_line(&mut line).map_err(|error| refused(&error))?;
    let value: Value = serde_json::from_str(&line).map_err(|error| refused(&error))?;
    let plan = value.get("plan").cloned().unwrap_or_default();
    let plan: Plan =
        serde_json::from_value(plan).map_err(|_| refused(&"it does not begin with a plan"))?;
    if let Some(problem) = case::problem(&plan) {
        return Err(refused(&format!("its plan cannot be run: {problem}")));
    }
    let commit = value["commit"].as_str().unwrap_or("unknown").to_owned();
    Ok(Head { plan, commit, last: last_hash(reader) })
}

/// The hash of the last line.
fn last_hash(mut reader: impl io::BufRead) -> Option<String> {
    let (mut line, mut last) = (Vec::new(), Vec::new());
    while reader.read_until(b'\n', &mut line).ok()? > 0 {
        std::mem::swap(&mut line, &mut last);
        line.clear();
    }
    let value: Value = serde_json::from_slice(&last).ok()?;
    Some(value.get("h")?.as_str()?.to_owned())
}

/// Keeps the hash of the last event, as a trace has it.
#[derive(Debug, Default)]
pub(super) struct LastHash(Option<u64>);

impl LastHash {
    pub(super) fn text(&self) -> Option<String> {
        self.0.map(hash_text)
    }
}

impl Recorder for LastHash {
    fn record(&mut self, record: &Record) {
        self.0 = Some(record.h);
    }
}

fn hash_text(hash: u64) -> String {
    format!("{hash:016x}")
}

/// `{"i":812,"t":20.104233,"k":"recv","n":3,...,"lamport":77,"h":"9f.."}`: time in seconds, hash
/// in hex, since JSON's readers lose the last digits of large numbers.
pub(super) fn object(record: &Record) -> Value {
    let mut line = Map::new();
    line.insert("i".to_owned(), record.i.into());
    line.insert("t".to_owned(), (record.t as f64 / 1e9).into());
    if let Ok(Value::Object(mut fields)) = serde_json::to_value(&record.what) {
        line.insert("k".to_owned(), fields.shift_remove("k").unwrap_or_default());
        line.insert("n".to_owned(), record.n.into());
        line.append(&mut fields);
    }
    line.insert("lamport".to_owned(), record.lamport.into());
    line.insert("h".to_owned(), hash_text(record.h).into());
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::failing_plan;
    use crate::trace::What;

    fn record() -> Record {
        let what = What::Recv { id: 9, from: 1, msg: "deltas", sz: 212, stream: false };
        Record { i: 812, t: 20_104_233_000, n: Some(3), lamport: 77, what, h: u64::MAX - 1 }
    }

    #[test]
    fn a_line_has_its_fields_in_a_fixed_order() {
        assert_eq!(
            object(&record()).to_string(),
            concat!(
                r#"{"i":812,"t":20.104233,"k":"recv","n":3,"id":9,"from":1,"msg":"deltas","#,
                r#""sz":212,"stream":false,"lamport":77,"h":"fffffffffffffffe"}"#
            )
        );
    }

    #[test]
    fn a_file_may_be_compressed_by_its_name() {
        let dir = tempfile::TempDir::new().unwrap();
        for name in ["t.jsonl", "t.jsonl.zst"] {
            let path = dir.path().join(name);
            let mut file = TraceFile::create(&path, &failing_plan()).unwrap();
            file.record(&record());
            file.record(&record());
            file.finish().unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            if name.ends_with("zst") {
                bytes = zstd::decode_all(bytes.as_slice()).unwrap();
            }
            assert_eq!(String::from_utf8(bytes.clone()).unwrap().lines().count(), 3, "{name}");
            assert!(is_name(&path));
            let last = Some("fffffffffffffffe".to_owned());
            let head = Head { plan: failing_plan(), commit: COMMIT.to_owned(), last };
            assert_eq!(read(&path).unwrap(), head);
            if name == "t.jsonl" {
                let cut = &bytes[..bytes.len() - 9];
                std::fs::write(&path, cut).unwrap();
                assert_eq!(read(&path).unwrap(), Head { last: None, ..head });
            }
        }
    }
}
