//! A writer of nsqd's files, made from the format's description (storage, sections 5 and 6).

use std::path::Path;

/// A message as it lies in a queue of nsqd.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct QueueMessage {
    /// Wall clock, in nanoseconds since 1970.
    pub(crate) timestamp: i64,
    /// How often it has been handed out.
    pub(crate) attempts: u16,
    /// Hexadecimal digits, if nsqd wrote it.
    pub(crate) id: [u8; 16],
    /// The message itself.
    pub(crate) body: Vec<u8>,
}

impl QueueMessage {
    /// Message number `id`, never handed out.
    pub(crate) fn new(id: u64, body: &str) -> Self {
        let digits = format!("{id:016x}");
        Self {
            timestamp: 1_700_000_000_000_000_000 + (id & 0xffff_ffff) as i64,
            attempts: 0,
            id: digits.as_bytes().try_into().expect("sixteen digits"),
            body: body.into(),
        }
    }

    /// The same message after `attempts` deliveries.
    pub(crate) fn tried(self, attempts: u16) -> Self {
        Self { attempts, ..self }
    }

    /// Its record: length, timestamp, attempts, id, body; big-endian.
    pub(crate) fn record(&self) -> Vec<u8> {
        let len = 8 + 2 + self.id.len() + self.body.len();
        let mut record = (len as u32).to_be_bytes().to_vec();
        record.extend(self.timestamp.to_be_bytes());
        record.extend(self.attempts.to_be_bytes());
        record.extend(self.id);
        record.extend(&self.body);
        record
    }
}

/// Writes data file `number` of a queue.
pub(crate) fn write_data(dir: &Path, queue: &str, number: u64, messages: &[QueueMessage]) {
    let records: Vec<u8> = messages.iter().flat_map(QueueMessage::record).collect();
    let path = dir.join(format!("{queue}.diskqueue.{number:06}.dat"));
    std::fs::write(path, records).expect("data file");
}

/// Writes the meta file of a queue.
pub(crate) fn write_meta(dir: &Path, queue: &str, text: &str) {
    std::fs::write(dir.join(format!("{queue}.diskqueue.meta.dat")), text).expect("meta file");
}

/// Writes a queue of one file as a clean stop leaves it.
pub(crate) fn write_queue(dir: &Path, queue: &str, messages: &[QueueMessage]) {
    write_data(dir, queue, 0, messages);
    let bytes: usize = messages.iter().map(|message| message.record().len()).sum();
    write_meta(dir, queue, &format!("{}\n0,0\n0,{bytes}\n", messages.len()));
}

/// Writes `nsqd.dat`; `topics` is what stands between the brackets.
pub(crate) fn write_metadata(dir: &Path, topics: &str) {
    let json = format!(r#"{{"topics":[{topics}],"version":"1.3.0"}}"#);
    std::fs::write(dir.join("nsqd.dat"), json).expect("nsqd.dat");
}
