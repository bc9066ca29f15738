//! Commands of nsqd's protocol: the same come out however the bytes arrive.
#![no_main]

use grapevine_protocol::{ClientState, Command, Decoded, Decoder, Gate, Limits};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits =
    Limits { msg_bytes_max: 64, body_bytes_max: 256, rdy_max: 100, req_timeout_ms_max: 1000 };

fuzz_target!(|data: &[u8]| {
    let Some((&step, data)) = data.split_first() else { return };
    let states = [ClientState::Init, ClientState::Subscribed, ClientState::Closing];
    let gate = Gate { state: states[usize::from(step) % 3], ..Gate::default() };
    assert_eq!(run(data, data.len(), gate), run(data, usize::from(step / 3).max(1), gate));
});

/// What comes out of `data` when it arrives in parts of `step` bytes.
fn run(data: &[u8], step: usize, gate: Gate) -> Vec<String> {
    let (mut decoder, mut said) = (Decoder::new(), Vec::new());
    let (mut begin, mut end) = (0, step.min(data.len()));
    loop {
        match decoder.decode(&data[begin..end], gate, &LIMITS) {
            Ok(Decoded::Command { command, consumed }) => {
                assert!(0 < consumed && consumed <= end - begin);
                said.push(match command {
                    // Its Debug shows what lies behind the last message, too.
                    Command::Mpub { topic, messages } => {
                        format!("{topic} {:?}", messages.collect::<Vec<_>>())
                    }
                    command => format!("{command:?}"),
                });
                begin += consumed;
            }
            Ok(Decoded::MpubStarted { topic }) => said.push(format!("started {topic}")),
            Ok(Decoded::Incomplete { needed }) => {
                assert!(needed > 0);
                if end == data.len() {
                    said.push(format!("{:?}", decoder.at_end()));
                    return said;
                }
                end = (end + step).min(data.len());
            }
            Ok(Decoded::LineTooLong) => {
                said.push("too long".to_owned());
                return said;
            }
            Err(error) => {
                said.push(format!("{error:?}"));
                return said;
            }
        }
    }
}
