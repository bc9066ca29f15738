//! From the bytes of a client to its commands.

use std::str;

use crate::command::{ClientState, Command, Gate, Limits};
use crate::error::{ClientError, Code, Verb, go_quote};
use crate::message_id::MessageId;
use crate::mpub::{self, Checked, Progress, word_at};
use crate::name::is_valid_name;

/// Bytes of a command line at most, its newline included: nsqd's read buffer.
pub const LINE_BYTES_MAX: usize = 16_384;

/// Bytes of the length in front of a body.
const SIZE_BYTES: usize = 4;

/// What the bytes at the start of the input are.
#[derive(Clone, Debug)]
pub enum Decoded<'a> {
    /// A whole command in the first `consumed` bytes; drop them and decode again.
    Command {
        /// What the client asks for.
        command: Command<'a>,
        /// Bytes to drop from the front of the input.
        consumed: usize,
    },
    /// The line of an `MPUB` is complete: check the authorization and create the topic **now**,
    /// then decode the same input again at once. Reported exactly once for every MPUB, before
    /// anything behind its line is looked at, since nsqd creates the topic before it reads the
    /// body.
    MpubStarted {
        /// A valid topic name.
        topic: &'a str,
    },
    /// Nothing can happen before `needed` more bytes have come (never more than there will be).
    Incomplete {
        /// At least this many bytes are missing, 1 or more.
        needed: usize,
    },
    /// [`LINE_BYTES_MAX`] bytes without a newline: close the connection, without a frame.
    LineTooLong,
}

/// Cuts the bytes of one connection (behind its magic) into commands.
///
/// A state machine without I/O: call [`decode`](Self::decode) with everything received and not yet
/// consumed, always starting with the first byte of a command. After [`Decoded::Incomplete`] the
/// next input must be the same bytes and more. After an error the connection is over.
///
/// Checks are made in nsqd's order and as early as nsqd makes them: the state before the
/// parameters, a size before the body it announces (tcp-protocol, sections 4, 5 and 9).
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    /// Bytes at the front that hold no newline.
    scanned: usize,
    /// The MPUB under way: the bytes of its line, newline included, and how far its body is
    /// checked.
    mpub: Option<(usize, Progress)>,
    waiting: Waiting,
}

/// What the last call did not find.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Waiting {
    /// A command line.
    #[default]
    Line,
    Size(Verb),
    Body(Verb),
    /// The content of an MPUB, of which this many bytes are there.
    Content(usize),
}

impl Decoder {
    /// A decoder at the start of a command.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes what is at the front of `input`.
    ///
    /// # Errors
    ///
    /// The error to send; all of them are fatal. Nothing of the command has been consumed.
    pub fn decode<'a>(
        &mut self,
        input: &'a [u8],
        gate: Gate,
        limits: &Limits,
    ) -> Result<Decoded<'a>, ClientError> {
        if let Some((line_len, progress)) = self.mpub {
            return self.resume_mpub(input, line_len, progress, limits);
        }
        let window = &input[..input.len().min(LINE_BYTES_MAX)];
        let unseen = window.get(self.scanned..).unwrap_or_default();
        let Some(newline) = memchr::memchr(b'\n', unseen) else {
            self.waiting = Waiting::Line;
            self.scanned = window.len();
            return Ok(match window.len() {
                LINE_BYTES_MAX => Decoded::LineTooLong,
                _ => Decoded::Incomplete { needed: 1 },
            });
        };
        let newline = self.scanned + newline;
        self.scanned = 0;
        let line = &input[..newline];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.dispatch(Line::new(line), input, newline + 1, gate, limits)
    }

    /// What to send if the input ends here, after the last call said [`Decoded::Incomplete`].
    ///
    /// `None` if it ended between two commands or inside a line, which nsqd takes for a normal end.
    pub fn at_end(&self) -> Option<ClientError> {
        match self.waiting {
            Waiting::Line => None,
            Waiting::Size(verb) => Some(short(verb, " size")),
            Waiting::Body(verb) => Some(short(verb, "")),
            Waiting::Content(len) => self.mpub.map(|(_, progress)| progress.missing(len)),
        }
    }

    fn dispatch<'a>(
        &mut self,
        mut line: Line<'a>,
        input: &'a [u8],
        line_len: usize,
        gate: Gate,
        limits: &Limits,
    ) -> Result<Decoded<'a>, ClientError> {
        if gate.tls_missing && line.name != b"IDENTIFY" {
            return Err(cannot(line.name, " in current state (TLS required)"));
        }
        let command =
            match line.name {
                b"FIN" => Command::Fin(line.message_id(Verb::Fin, gate)?),
                b"PUB" => {
                    line.publish_params(Verb::Pub, 1)?;
                    let topic = line.topic(Verb::Pub)?;
                    return self.with_body(input, line_len, Verb::Pub, limits, |body| {
                        Command::Pub { topic, body }
                    });
                }
                b"RDY" => line.rdy(gate, limits)?,
                b"REQ" => line.req(gate, limits)?,
                b"TOUCH" => Command::Touch(line.message_id(Verb::Touch, gate)?),
                b"NOP" => Command::Nop,
                b"MPUB" => {
                    line.publish_params(Verb::Mpub, 1)?;
                    let topic = line.topic(Verb::Mpub)?;
                    self.mpub = Some((line_len, Progress::default()));
                    self.waiting = Waiting::Size(Verb::Mpub);
                    return Ok(Decoded::MpubStarted { topic });
                }
                b"DPUB" => {
                    line.publish_params(Verb::Dpub, 2)?;
                    let topic = line.topic(Verb::Dpub)?;
                    let delay_ms = line.dpub_delay(limits)?;
                    return self.with_body(input, line_len, Verb::Dpub, limits, |body| {
                        Command::Dpub { topic, delay_ms, body }
                    });
                }
                b"SUB" => line.sub(gate)?,
                b"CLS" => {
                    line.require(gate.state == ClientState::Subscribed)?;
                    Command::Cls
                }
                b"IDENTIFY" => {
                    line.require(gate.state == ClientState::Init)?;
                    let (verb, command) = (Verb::Identify, Command::Identify);
                    return self.with_body(input, line_len, verb, limits, command);
                }
                b"AUTH" => {
                    line.require(gate.state == ClientState::Init)?;
                    if line.params.is_some() {
                        return Err(invalid("AUTH invalid number of parameters"));
                    }
                    return self.with_body(input, line_len, Verb::Auth, limits, Command::Auth);
                }
                name => {
                    let mut detail = b"invalid command ".to_vec();
                    detail.extend_from_slice(name);
                    return Err(invalid(detail));
                }
            };
        self.waiting = Waiting::Line;
        Ok(Decoded::Command { command, consumed: line_len })
    }

    /// A command with one body behind its line.
    fn with_body<'a>(
        &mut self,
        input: &'a [u8],
        line_len: usize,
        verb: Verb,
        limits: &Limits,
        command: impl FnOnce(&'a [u8]) -> Command<'a>,
    ) -> Result<Decoded<'a>, ClientError> {
        let body_at = line_len + SIZE_BYTES;
        let Some(size) = word_at(input, line_len) else {
            self.waiting = Waiting::Size(verb);
            return Ok(Decoded::Incomplete { needed: body_at - input.len() });
        };
        let consumed = body_at + check_size(verb, size, limits)?;
        match input.get(body_at..consumed) {
            Some(body) => {
                self.waiting = Waiting::Line;
                Ok(Decoded::Command { command: command(body), consumed })
            }
            None => {
                self.waiting = Waiting::Body(verb);
                Ok(Decoded::Incomplete { needed: consumed - input.len() })
            }
        }
    }

    fn resume_mpub<'a>(
        &mut self,
        input: &'a [u8],
        line_len: usize,
        mut progress: Progress,
        limits: &Limits,
    ) -> Result<Decoded<'a>, ClientError> {
        let content_at = line_len + SIZE_BYTES;
        let Some(size) = word_at(input, line_len) else {
            self.waiting = Waiting::Size(Verb::Mpub);
            let needed = content_at.saturating_sub(input.len()).max(1);
            return Ok(Decoded::Incomplete { needed });
        };
        check_size(Verb::Mpub, size, limits)?;
        let content = input.get(content_at..).unwrap_or_default();
        match progress.check(content, limits.msg_bytes_max, limits.body_bytes_max)? {
            Checked::Complete { messages, consumed } => {
                self.mpub = None;
                self.waiting = Waiting::Line;
                let line = &input[..line_len - 1];
                let mut line = Line::new(line.strip_suffix(b"\r").unwrap_or(line));
                let topic = line.topic(Verb::Mpub)?;
                let command = Command::Mpub { topic, messages };
                Ok(Decoded::Command { command, consumed: content_at + consumed })
            }
            Checked::Incomplete { content_len } => {
                self.mpub = Some((line_len, progress));
                self.waiting = Waiting::Content(content.len());
                Ok(Decoded::Incomplete { needed: content_len - content.len() })
            }
        }
    }
}

/// A command line without its end, split at the first space.
struct Line<'a> {
    name: &'a [u8],
    /// Parameters not yet taken; `None` after the last one.
    params: Option<&'a [u8]>,
}

impl<'a> Line<'a> {
    fn new(line: &'a [u8]) -> Self {
        // Names are short: a plain loop beats a call.
        let (name, params) = match line.iter().position(|&byte| byte == b' ') {
            Some(space) => (&line[..space], Some(&line[space + 1..])),
            None => (line, None),
        };
        Self { name, params }
    }

    /// The next parameter, which may be empty.
    fn next_param(&mut self) -> Option<&'a [u8]> {
        let params = self.params?;
        match memchr::memchr(b' ', params) {
            Some(space) => {
                self.params = Some(&params[space + 1..]);
                Some(&params[..space])
            }
            None => {
                self.params = None;
                Some(params)
            }
        }
    }

    fn params_left(&self) -> usize {
        self.params.map_or(0, |params| 1 + memchr::memchr_iter(b' ', params).take(1).count())
    }

    /// The command is allowed only if `in_state`.
    fn require(&self, in_state: bool) -> Result<(), ClientError> {
        if in_state { Ok(()) } else { Err(cannot(self.name, " in current state")) }
    }

    fn publish_params(&self, verb: Verb, wanted: usize) -> Result<(), ClientError> {
        if self.params_left() < wanted {
            return Err(invalid(format!("{} insufficient number of parameters", verb.as_str())));
        }
        Ok(())
    }

    fn topic(&mut self, verb: Verb) -> Result<&'a str, ClientError> {
        let name = self.next_param().unwrap_or_default();
        valid_name(name).ok_or_else(|| {
            // nsqd 1.3.0 says the code twice for MPUB; clients match on the first word.
            let twice = if verb == Verb::Mpub { "E_BAD_TOPIC " } else { "" };
            let (verb, name) = (verb.as_str(), go_quote(name));
            let text = format!("{twice}{verb} topic name {name} is not valid");
            ClientError::new(Code::BadTopic, text)
        })
    }

    fn sub(&mut self, gate: Gate) -> Result<Command<'a>, ClientError> {
        self.require(gate.state == ClientState::Init)?;
        if !gate.heartbeats_enabled {
            return Err(invalid("cannot SUB with heartbeats disabled"));
        }
        self.publish_params(Verb::Sub, 2)?;
        let topic = self.topic(Verb::Sub)?;
        let channel = self.next_param().unwrap_or_default();
        match valid_name(channel) {
            Some(channel) => Ok(Command::Sub { topic, channel }),
            None => {
                let text = format!("SUB channel name {} is not valid", go_quote(channel));
                Err(ClientError::new(Code::BadChannel, text))
            }
        }
    }

    fn rdy(&mut self, gate: Gate, limits: &Limits) -> Result<Command<'a>, ClientError> {
        if gate.state == ClientState::Closing {
            return Ok(Command::Nop);
        }
        self.require(gate.state == ClientState::Subscribed)?;
        let Some(param) = self.next_param() else {
            return Ok(Command::Rdy(1));
        };
        let count = parse_number(param).ok_or_else(|| unparsable("RDY", "count", param))?;
        if count > limits.rdy_max {
            // nsqd keeps the count as a signed number, and shows it so.
            let (count, max) = (count.cast_signed(), limits.rdy_max);
            return Err(invalid(format!("RDY count {count} out of range 0-{max}")));
        }
        Ok(Command::Rdy(count))
    }

    fn req(&mut self, gate: Gate, limits: &Limits) -> Result<Command<'a>, ClientError> {
        self.require(gate.state != ClientState::Init)?;
        if self.params_left() < 2 {
            return Err(invalid("REQ insufficient number of params"));
        }
        let id = message_id(self.next_param().unwrap_or_default())?;
        let param = self.next_param().unwrap_or_default();
        let delay_ms = parse_number(param).ok_or_else(|| unparsable("REQ", "timeout", param))?;
        let delay_ms = nanos_of(delay_ms).max(0) / NANOS_PER_MILLI;
        Ok(Command::Req(id, delay_ms.cast_unsigned().min(limits.req_timeout_ms_max)))
    }

    fn dpub_delay(&mut self, limits: &Limits) -> Result<u64, ClientError> {
        let param = self.next_param().unwrap_or_default();
        let delay_ms = parse_number(param).ok_or_else(|| unparsable("DPUB", "timeout", param))?;
        let nanos = nanos_of(delay_ms);
        let max = limits.req_timeout_ms_max;
        if nanos < 0 || (nanos / NANOS_PER_MILLI).cast_unsigned() > max {
            return Err(invalid(format!("DPUB timeout {delay_ms} out of range 0-{max}")));
        }
        Ok((nanos / NANOS_PER_MILLI).cast_unsigned())
    }

    /// The id of `FIN` and `TOUCH`.
    fn message_id(&mut self, verb: Verb, gate: Gate) -> Result<MessageId, ClientError> {
        self.require(gate.state != ClientState::Init)?;
        match self.next_param() {
            Some(id) => message_id(id),
            None => Err(invalid(format!("{} insufficient number of params", verb.as_str()))),
        }
    }
}

const NANOS_PER_MILLI: i64 = 1_000_000;

/// Milliseconds as Go's `time.Duration(ms) * time.Millisecond` computes them: modulo 2^64, signed.
const fn nanos_of(millis: u64) -> i64 {
    millis.cast_signed().wrapping_mul(NANOS_PER_MILLI)
}

/// Decimal digits only; none at all are 0; modulo 2^64 (tcp-protocol, section 5).
fn parse_number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9).then(|| number.wrapping_mul(10).wrapping_add(u64::from(digit)))
    })
}

fn valid_name(name: &[u8]) -> Option<&str> {
    if is_valid_name(name) { str::from_utf8(name).ok() } else { None }
}

fn message_id(param: &[u8]) -> Result<MessageId, ClientError> {
    MessageId::from_bytes(param).ok_or_else(|| invalid("invalid message ID"))
}

/// The size of the body of `verb`, if it is in range. nsqd checks the two ends in different orders.
fn check_size(verb: Verb, size: i32, limits: &Limits) -> Result<usize, ClientError> {
    let publish = matches!(verb, Verb::Pub | Verb::Dpub);
    let max = if publish { limits.msg_bytes_max } else { limits.body_bytes_max };
    let (code, name) = (body_code(verb), verb.as_str());
    match u32::try_from(size) {
        Ok(size) if size > max => Err(match (publish, verb) {
            (true, _) => ClientError::new(code, format!("{name} message too big {size} > {max}")),
            (false, Verb::Mpub) => mpub::body_too_big(u64::from(size), max),
            (false, _) => ClientError::new(code, format!("{name} body too big {size} > {max}")),
        }),
        Ok(size) if size > 0 => Ok(size as usize),
        Ok(_) | Err(_) => {
            let what = if publish { "message body" } else { "body" };
            Err(ClientError::new(code, format!("{name} invalid {what} size {size}")))
        }
    }
}

/// The input ended inside the body of `verb`, or inside its ` size`.
fn short(verb: Verb, what: &str) -> ClientError {
    let message = if matches!(verb, Verb::Pub | Verb::Dpub) { "message " } else { "" };
    let text = format!("{} failed to read {message}body{what}", verb.as_str());
    ClientError::new(body_code(verb), text)
}

const fn body_code(verb: Verb) -> Code {
    match verb {
        Verb::Pub | Verb::Dpub => Code::BadMessage,
        Verb::Identify
        | Verb::Auth
        | Verb::Mpub
        | Verb::Sub
        | Verb::Fin
        | Verb::Req
        | Verb::Touch => Code::BadBody,
    }
}

fn invalid(detail: impl Into<Vec<u8>>) -> ClientError {
    ClientError::new(Code::Invalid, detail)
}

fn cannot(name: &[u8], why: &str) -> ClientError {
    invalid([b"cannot ", name, why.as_bytes()].concat())
}

fn unparsable(name: &str, what: &str, param: &[u8]) -> ClientError {
    invalid([name.as_bytes(), b" could not parse ", what.as_bytes(), b" ", param].concat())
}

#[cfg(test)]
mod tests;
