//! Commands as a client writes them: for the load generator, the tools and the tests.
//!
//! Names are written as given; a server refuses those that are not valid.

use bytes::{BufMut as _, BytesMut};

use crate::message_id::MessageId;

/// Appends `IDENTIFY` with a JSON body.
pub fn identify(out: &mut BytesMut, json: &[u8]) {
    line(out, &[b"IDENTIFY"]);
    body(out, json);
}

/// Appends `AUTH` with a secret.
pub fn auth(out: &mut BytesMut, secret: &[u8]) {
    line(out, &[b"AUTH"]);
    body(out, secret);
}

/// Appends `SUB`.
pub fn sub(out: &mut BytesMut, topic: &str, channel: &str) {
    line(out, &[b"SUB", topic.as_bytes(), channel.as_bytes()]);
}

/// Appends `RDY`.
pub fn rdy(out: &mut BytesMut, count: u64) {
    line(out, &[b"RDY", count.to_string().as_bytes()]);
}

/// Appends `FIN`.
pub fn fin(out: &mut BytesMut, id: MessageId) {
    line(out, &[b"FIN", id.as_bytes()]);
}

/// Appends `REQ`; the delay in milliseconds.
pub fn req(out: &mut BytesMut, id: MessageId, delay_ms: u64) {
    line(out, &[b"REQ", id.as_bytes(), delay_ms.to_string().as_bytes()]);
}

/// Appends `TOUCH`.
pub fn touch(out: &mut BytesMut, id: MessageId) {
    line(out, &[b"TOUCH", id.as_bytes()]);
}

/// Appends `CLS`.
pub fn cls(out: &mut BytesMut) {
    line(out, &[b"CLS"]);
}

/// Appends `NOP`, the answer to a heartbeat.
pub fn nop(out: &mut BytesMut) {
    line(out, &[b"NOP"]);
}

/// Appends `PUB` with one message.
pub fn publish(out: &mut BytesMut, topic: &str, message: &[u8]) {
    line(out, &[b"PUB", topic.as_bytes()]);
    body(out, message);
}

/// Appends `DPUB` with one message; the delay in milliseconds.
pub fn publish_deferred(out: &mut BytesMut, topic: &str, delay_ms: u64, message: &[u8]) {
    line(out, &[b"DPUB", topic.as_bytes(), delay_ms.to_string().as_bytes()]);
    body(out, message);
}

/// Appends `MPUB` with many messages.
pub fn publish_many<M: AsRef<[u8]>>(out: &mut BytesMut, topic: &str, messages: &[M]) {
    line(out, &[b"MPUB", topic.as_bytes()]);
    let size: usize = messages.iter().map(|message| 4 + message.as_ref().len()).sum();
    out.reserve(8 + size);
    put_len(out, 4 + size);
    put_len(out, messages.len());
    for message in messages {
        body(out, message.as_ref());
    }
}

fn line(out: &mut BytesMut, words: &[&[u8]]) {
    out.reserve(words.iter().map(|word| word.len() + 1).sum());
    for (at, word) in words.iter().enumerate() {
        if at > 0 {
            out.put_u8(b' ');
        }
        out.put_slice(word);
    }
    out.put_u8(b'\n');
}

fn body(out: &mut BytesMut, bytes: &[u8]) {
    out.reserve(4 + bytes.len());
    put_len(out, bytes.len());
    out.put_slice(bytes);
}

/// What does not fit is written as a length that every server refuses.
fn put_len(out: &mut BytesMut, len: usize) {
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}
