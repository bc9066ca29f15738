//! Many messages in one body: the content of `MPUB`, of HTTP `/mpub?binary` and of text `/mpub`.

use crate::error::{ClientError, Code};

/// Least bytes of one message in a binary body: its size and one byte of content.
const MESSAGE_BYTES_MIN: u64 = 5;

/// Bytes of a size or a count.
const WORD_BYTES: usize = 4;

/// The messages of a body that has been checked already, in order.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    /// The content behind the count, at least as long as its messages.
    content: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        let (size, rest) = self.content.split_first_chunk::<WORD_BYTES>()?;
        let (body, rest) =
            rest.split_at_checked(usize::try_from(u32::from_be_bytes(*size)).ok()?)?;
        self.content = rest;
        self.left -= 1;
        Some(body)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Messages<'_> {}

/// How far a binary body has been checked.
///
/// Remembers the place between calls, so that a body of 5 MB that comes in small pieces is looked
/// at once and not once per piece.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Bytes of content checked: the count and whole messages.
    checked: usize,
    /// Messages announced; 0 while the count has not been read.
    count: u32,
    /// Messages checked.
    done: u32,
}

/// Whether a binary body is all there.
pub(crate) enum Checked<'a> {
    Complete {
        messages: Messages<'a>,
        consumed: usize,
    },
    /// Nothing can happen before the content is this long.
    Incomplete {
        content_len: usize,
    },
}

impl Progress {
    /// Checks as much of `content`, which starts with the count, as is there.
    ///
    /// # Errors
    ///
    /// The first count or size that is out of range, as soon as it can be read.
    pub(crate) fn check<'a>(
        &mut self,
        content: &'a [u8],
        msg_bytes_max: u32,
        body_bytes_max: u32,
    ) -> Result<Checked<'a>, ClientError> {
        if self.count == 0 {
            let Some(count) = word_at(content, 0) else {
                return Ok(Checked::Incomplete { content_len: WORD_BYTES });
            };
            self.count = check_count(count, body_bytes_max)?;
            self.checked = WORD_BYTES;
        }
        while self.done < self.count {
            let Some(size) = word_at(content, self.checked) else {
                return Ok(Checked::Incomplete { content_len: self.checked + WORD_BYTES });
            };
            let size = check_message_size(size, self.done, msg_bytes_max)?;
            let end = self.checked + WORD_BYTES + size;
            // Content is not compared with the length declared for it, as in nsqd; but nsqd reads
            // it message by message, while here it waits in one buffer, which must have an end.
            if end as u64 > u64::from(body_bytes_max) {
                return Err(body_too_big(end as u64, body_bytes_max));
            }
            if content.len() < end {
                return Ok(Checked::Incomplete { content_len: end });
            }
            self.checked = end;
            self.done += 1;
        }
        let messages = Messages { content: &content[WORD_BYTES..], left: self.count as usize };
        Ok(Checked::Complete { messages, consumed: self.checked })
    }

    /// What is missing if `content_len` bytes are all there will ever be.
    pub(crate) fn missing(&self, content_len: usize) -> ClientError {
        if self.count == 0 {
            ClientError::new(Code::BadBody, "MPUB failed to read message count")
        } else if content_len < self.checked + WORD_BYTES {
            let text = format!("MPUB failed to read message({}) body size", self.done);
            ClientError::new(Code::BadMessage, text)
        } else {
            ClientError::new(Code::BadMessage, "MPUB failed to read message body")
        }
    }
}

/// The messages of a whole binary body: a count, then for every message its size and its bytes.
///
/// The body of HTTP `POST /mpub?binary=true`; bytes behind the last message are ignored.
///
/// # Errors
///
/// What `MPUB` would answer; HTTP shows [`Code::http_message`] of it with status 413.
pub fn parse_mpub(
    content: &[u8],
    msg_bytes_max: u32,
    body_bytes_max: u32,
) -> Result<Messages<'_>, ClientError> {
    let mut progress = Progress::default();
    match progress.check(content, msg_bytes_max, body_bytes_max)? {
        Checked::Complete { messages, .. } => Ok(messages),
        Checked::Incomplete { .. } => Err(progress.missing(content.len())),
    }
}

/// The messages of a text body: one a line, empty lines left out, a `\r` kept.
///
/// The body of HTTP `POST /mpub`. Sizes are for the caller to check.
pub fn split_mpub_lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = body;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            if !line.is_empty() {
                return Some(line);
            }
        }
        None
    })
}

/// The declared length of an MPUB body is beyond `--max-body-size`.
pub(crate) fn body_too_big(bytes: u64, body_bytes_max: u32) -> ClientError {
    ClientError::new(Code::BadBody, format!("MPUB body too big {bytes} > {body_bytes_max}"))
}

fn check_count(count: i32, body_bytes_max: u32) -> Result<u32, ClientError> {
    let count_max = u64::from(body_bytes_max).saturating_sub(4) / MESSAGE_BYTES_MIN;
    match u32::try_from(count) {
        Ok(count) if count > 0 && u64::from(count) <= count_max => Ok(count),
        Ok(_) | Err(_) => {
            Err(ClientError::new(Code::BadBody, format!("MPUB invalid message count {count}")))
        }
    }
}

fn check_message_size(size: i32, index: u32, msg_bytes_max: u32) -> Result<usize, ClientError> {
    match u32::try_from(size) {
        Ok(size) if size > msg_bytes_max => {
            let text = format!("MPUB message too big {size} > {msg_bytes_max}");
            Err(ClientError::new(Code::BadMessage, text))
        }
        Ok(size) if size > 0 => Ok(size as usize),
        Ok(_) | Err(_) => {
            let text = format!("MPUB invalid message({index}) body size {size}");
            Err(ClientError::new(Code::BadMessage, text))
        }
    }
}

/// The big-endian number at `at`, if it is all there.
pub(crate) fn word_at(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk::<WORD_BYTES>().map(|word| i32::from_be_bytes(*word))
}
