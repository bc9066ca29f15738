//! What a server sends: size, type, data (tcp-protocol, section 2).

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::error::ClientError;
use crate::message_id::{MESSAGE_ID_LEN, MessageId};

/// The first bytes of a connection that speaks protocol V2.
pub const MAGIC_V2: &[u8; 4] = b"  V2";

/// Data of the response to most commands that succeed.
pub const OK: &[u8] = b"OK";

/// Data of the response that asks for a sign of life.
pub const HEARTBEAT: &[u8] = b"_heartbeat_";

/// Data of the response to `CLS`.
pub const CLOSE_WAIT: &[u8] = b"CLOSE_WAIT";

/// The whole frame of [`OK`], for the most frequent answer there is.
pub const OK_FRAME: &[u8; 10] = b"\0\0\0\x06\0\0\0\0OK";

/// Bytes of a message frame in front of the body: size, type, timestamp, attempts, id.
pub const MESSAGE_HEADER_LEN: usize = 8 + MESSAGE_FIELDS_LEN;

/// Bytes of the data of a message frame in front of the body.
const MESSAGE_FIELDS_LEN: usize = 8 + 2 + MESSAGE_ID_LEN;

/// Bytes of size and type.
const FRAME_HEADER_LEN: usize = 8;

/// Bytes of the type, which the size counts.
const TYPE_LEN: usize = 4;

/// What the data of a frame is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameType {
    /// An answer, or a heartbeat.
    Response,
    /// A refusal.
    Error,
    /// A message of the channel subscribed to.
    Message,
}

impl FrameType {
    const fn as_u32(self) -> u32 {
        match self {
            Self::Response => 0,
            Self::Error => 1,
            Self::Message => 2,
        }
    }
}

/// Appends a response frame.
pub fn response(out: &mut BytesMut, data: &[u8]) {
    frame(out, FrameType::Response, &[data]);
}

/// Appends an error frame.
pub fn error(out: &mut BytesMut, error: &ClientError) {
    frame(out, FrameType::Error, &[&error.payload()]);
}

/// Appends a message frame.
///
/// `timestamp` is the time of publishing in nanoseconds since 1970, `attempts` counts this
/// delivery. The caller keeps `body` below `--max-msg-size`, so that the size fits.
pub fn message(out: &mut BytesMut, timestamp: i64, attempts: u16, id: u64, body: &[u8]) {
    let size = u32::try_from(TYPE_LEN + MESSAGE_FIELDS_LEN + body.len()).unwrap_or(u32::MAX);
    let mut header = [0; MESSAGE_HEADER_LEN];
    header[..4].copy_from_slice(&size.to_be_bytes());
    header[4..8].copy_from_slice(&FrameType::Message.as_u32().to_be_bytes());
    header[8..16].copy_from_slice(&timestamp.to_be_bytes());
    header[16..18].copy_from_slice(&attempts.to_be_bytes());
    header[18..].copy_from_slice(MessageId::from_u64(id).as_bytes());
    out.reserve(MESSAGE_HEADER_LEN + body.len());
    out.put_slice(&header);
    out.put_slice(body);
}

fn frame(out: &mut BytesMut, frame_type: FrameType, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.reserve(FRAME_HEADER_LEN + len);
    out.put_u32(u32::try_from(TYPE_LEN + len).unwrap_or(u32::MAX));
    out.put_u32(frame_type.as_u32());
    for part in parts {
        out.put_slice(part);
    }
}

/// A frame as a client receives it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// An answer, or [`HEARTBEAT`].
    Response(Bytes),
    /// A refusal: code, space, text.
    Error(Bytes),
    /// A message.
    Message(Message),
}

/// A message as a client receives it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Time of publishing, nanoseconds since 1970.
    pub timestamp: i64,
    /// Deliveries so far, this one included; wraps at 65536.
    pub attempts: u16,
    /// What `FIN`, `REQ` and `TOUCH` call it.
    pub id: MessageId,
    /// What was published.
    pub body: Bytes,
}

/// The server sent something that is no frame; the connection is of no more use.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// The size is negative, or leaves no room for the type.
    #[error("frame size {0} is not valid")]
    Size(i32),
    /// The frame is larger than the reader takes.
    #[error("frame of {size} bytes is larger than {max}")]
    TooBig {
        /// Size of the frame in bytes, type included.
        size: usize,
        /// What the reader takes.
        max: usize,
    },
    /// A type that protocol V2 does not have.
    #[error("frame type {0} is not known")]
    Type(u32),
    /// A message frame too short for its fields.
    #[error("message frame is too short")]
    Message,
}

/// Takes one frame of at most `max` bytes (type and data) off the front of `input`.
///
/// `None` until it is all there. For clients: the load generator, the tools and the tests.
///
/// # Errors
///
/// [`FrameError`] if the bytes are no frame; `input` is left as it was or without the frame.
pub fn decode_frame(input: &mut BytesMut, max: usize) -> Result<Option<Frame>, FrameError> {
    let Some(size) = input.first_chunk::<4>() else {
        return Ok(None);
    };
    let size = i32::from_be_bytes(*size);
    let len = match usize::try_from(size) {
        Ok(len) if len >= TYPE_LEN => len,
        Ok(_) | Err(_) => return Err(FrameError::Size(size)),
    };
    if len > max {
        return Err(FrameError::TooBig { size: len, max });
    }
    if input.len() < 4 + len {
        return Ok(None);
    }
    input.advance(4);
    let mut data = input.split_to(len).freeze();
    match data.get_u32() {
        0 => Ok(Some(Frame::Response(data))),
        1 => Ok(Some(Frame::Error(data))),
        2 => decode_message(data).map(|message| Some(Frame::Message(message))),
        other => Err(FrameError::Type(other)),
    }
}

fn decode_message(mut data: Bytes) -> Result<Message, FrameError> {
    if data.len() < MESSAGE_FIELDS_LEN {
        return Err(FrameError::Message);
    }
    let timestamp = data.get_i64();
    let attempts = data.get_u16();
    let id = data.split_to(MESSAGE_ID_LEN);
    let id = MessageId::from_bytes(&id).ok_or(FrameError::Message)?;
    Ok(Message { timestamp, attempts, id, body: data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_frame_has_nsqds_bytes() {
        let mut out = BytesMut::new();
        message(&mut out, 0x18e9_ec62_18bb_7e05, 1, 0x18a2_8e47_cee6_9000, b"hello");

        let mut want = b"\0\0\0\x23\0\0\0\x02\x18\xe9\xec\x62\x18\xbb\x7e\x05\0\x01".to_vec();
        want.extend_from_slice(b"18a28e47cee69000hello");
        assert_eq!(out, want);
    }

    #[test]
    fn responses_and_errors_have_nsqds_bytes() {
        let mut out = BytesMut::new();
        response(&mut out, OK);
        assert_eq!(out, &OK_FRAME[..]);

        out.clear();
        error(&mut out, &ClientError::bad_protocol());
        assert_eq!(out, &b"\0\0\0\x12\0\0\0\x01E_BAD_PROTOCOL"[..]);
    }

    #[test]
    fn a_client_reads_back_what_a_server_writes_however_it_is_cut() {
        let mut stream = BytesMut::new();
        response(&mut stream, HEARTBEAT);
        message(&mut stream, -1, u16::MAX, u64::MAX, b"body");
        error(&mut stream, &ClientError::sub_failed("exiting"));

        for step in 1..stream.len() {
            let (mut input, mut frames) = (BytesMut::new(), Vec::new());
            for piece in stream.chunks(step) {
                input.extend_from_slice(piece);
                while let Some(frame) = decode_frame(&mut input, 100).expect("frames are good") {
                    frames.push(frame);
                }
            }
            let [Frame::Response(beat), Frame::Message(message), Frame::Error(error)] = &frames[..]
            else {
                panic!("step {step}: {frames:?}");
            };
            assert_eq!(beat, HEARTBEAT);
            assert_eq!((message.timestamp, message.attempts), (-1, u16::MAX));
            assert_eq!((message.id.as_u64(), &message.body[..]), (Some(u64::MAX), &b"body"[..]));
            assert_eq!(error, &b"E_SUB_FAILED SUB failed exiting"[..]);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_before_it_is_stored() {
        let decode = |bytes: &[u8]| decode_frame(&mut BytesMut::from(bytes), 1_000);
        assert_eq!(decode(b"\xff\xff\xff\xff"), Err(FrameError::Size(-1)));
        assert_eq!(decode(b"\0\0\0\x03"), Err(FrameError::Size(3)));
        assert_eq!(decode(b"HTTP"), Err(FrameError::TooBig { size: 0x4854_5450, max: 1_000 }));
        assert_eq!(decode(b"\0\0\0\x04\0\0\0\x07"), Err(FrameError::Type(7)));
        assert_eq!(decode(b"\0\0\0\x05\0\0\0\x02x"), Err(FrameError::Message));
    }
}
