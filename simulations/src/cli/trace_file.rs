//! Every event of a run in a file, one JSON object a line, with the fields in a fixed order.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Refusal;
use crate::case::COMMIT;
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

/// The plan whose run a trace is.
///
/// # Errors
///
/// The file cannot be read, or does not begin with a plan.
pub(super) fn plan(path: &Path) -> Result<Plan, Refusal> {
    let refused =
        |reason: &dyn std::fmt::Display| Refusal::new(format!("{}: {reason}", path.display()));
    let file = File::open(path).map_err(|error| refused(&error))?;
    let packed = path.extension().is_some_and(|extension| extension == "zst");
    let reader: Box<dyn io::Read> = if packed {
        Box::new(zstd::Decoder::new(file).map_err(|error| refused(&error))?)
    } else {
        Box::new(file)
    };
    let mut line = String::new();
    BufReader::new(reader.take(PLAN_BYTES_MAX))
        .read_line(&mut line)
        .map_err(|error| refused(&error))?;
    let value: Value = serde_json::from_str(&line).map_err(|error| refused(&error))?;
    let plan = value.get("plan").cloned().unwrap_or_default();
    serde_json::from_value(plan).map_err(|_| refused(&"it does not begin with a plan"))
}

/// `{"i":812,"t":20.104233,"k":"recv","n":3,...,"lamport":77,"h":"9f.."}`: time in seconds, hash
/// in hex, since JSON's readers lose the last digits of large numbers.
fn object(record: &Record) -> Value {
    let mut line = Map::new();
    line.insert("i".to_owned(), record.i.into());
    line.insert("t".to_owned(), (record.t as f64 / 1e9).into());
    if let Ok(Value::Object(mut fields)) = serde_json::to_value(&record.what) {
        line.insert("k".to_owned(), fields.shift_remove("k").unwrap_or_default());
        line.insert("n".to_owned(), record.n.into());
        line.append(&mut fields);
    }
    line.insert("lamport".to_owned(), record.lamport.into());
    line.insert("h".to_owned(), format!("{:016x}", record.h).into());
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
            assert_eq!(String::from_utf8(bytes).unwrap().lines().count(), 3, "{name}");
            assert!(is_name(&path));
            assert_eq!(plan(&path).unwrap(), failing_plan());
        }
    }
}
