use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::request;

const SUBSCRIBED: Gate =
    Gate { state: ClientState::Subscribed, heartbeats_enabled: true, tls_missing: false };
const CLOSING: Gate = Gate { state: ClientState::Closing, ..SUBSCRIBED };
const INIT: Gate = Gate { state: ClientState::Init, ..SUBSCRIBED };
const ID: &str = "0123456789abcdef";

/// What one connection's bytes lead to, as text: every command, then how it stands.
fn run(pieces: &[&[u8]], gate: Gate, limits: &Limits) -> Vec<String> {
    let (mut decoder, mut input, mut seen) = (Decoder::new(), BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&input, gate, limits) {
                Ok(Decoded::Command { command, consumed }) => {
                    seen.push(show(command));
                    let _ = input.split_to(consumed);
                }
                Ok(Decoded::MpubStarted { topic }) => seen.push(format!("MPUB {topic} begins")),
                Ok(Decoded::Incomplete { needed }) => {
                    assert!(needed > 0);
                    assert!(input.len() + needed <= LINE_BYTES_MAX + 8 + (5 << 20));
                    break;
                }
                Ok(Decoded::LineTooLong) => {
                    seen.push("line too long".into());
                    return seen;
                }
                Err(error) => {
                    seen.push(error.to_string());
                    return seen;
                }
            }
        }
    }
    seen.push(decoder.at_end().map_or_else(|| "end".into(), |error| format!("at end: {error}")));
    seen
}

fn show(command: Command<'_>) -> String {
    match command {
        Command::Mpub { topic, messages } => {
            let messages: Vec<_> = messages.map(String::from_utf8_lossy).collect();
            format!("MPUB {topic} {messages:?}")
        }
        other => format!("{other:?}"),
    }
}

fn error_in(input: &[u8], gate: Gate) -> String {
    let seen = run(&[input], gate, &Limits::default());
    seen.into_iter().find(|line| line.starts_with("E_")).expect("an error")
}

fn at_end(input: &[u8]) -> String {
    run(&[input], INIT, &Limits::default()).pop().expect("the end")
}

fn sized(line: &str, size: i32) -> Vec<u8> {
    [line.as_bytes(), b"\n", &size.to_be_bytes()].concat()
}

#[test]
fn every_command_is_understood() {
    let mut input = BytesMut::new();
    let id = MessageId::from_u64(0x0123_4567_89ab_cdef);
    request::publish(&mut input, "t", b"one\n\0");
    request::publish_many(&mut input, "t#ephemeral", &[&b"a"[..], b"bc\n"]);
    request::publish_deferred(&mut input, "t", 3_600_000, b"later");
    request::nop(&mut input);
    request::rdy(&mut input, 2_500);
    request::fin(&mut input, id);
    request::req(&mut input, id, 500);
    request::touch(&mut input, id);
    request::cls(&mut input);
    assert_eq!(
        run(&[&input], SUBSCRIBED, &Limits::default()),
        [
            r#"Pub { topic: "t", body: [111, 110, 101, 10, 0] }"#,
            "MPUB t#ephemeral begins",
            r#"MPUB t#ephemeral ["a", "bc\n"]"#,
            r#"Dpub { topic: "t", delay_ms: 3600000, body: [108, 97, 116, 101, 114] }"#,
            "Nop",
            "Rdy(2500)",
            "Fin(MessageId(0123456789abcdef))",
            "Req(MessageId(0123456789abcdef), 500)",
            "Touch(MessageId(0123456789abcdef))",
            "Cls",
            "end",
        ]
    );

    let mut input = BytesMut::new();
    request::identify(&mut input, b"{}");
    request::auth(&mut input, b"s");
    request::sub(&mut input, "t", "c");
    assert_eq!(
        run(&[&input], INIT, &Limits::default()),
        ["Identify([123, 125])", "Auth([115])", r#"Sub { topic: "t", channel: "c" }"#, "end"]
    );
}

#[test]
fn line_ends_and_extra_words_do_not_matter() {
    let input = b"NOP\r\nNOP a b\nNOP \nNOP  \r\nRDY\nRDY \nRDY 5 6\nFIN 0123456789abcdef x\n\
                  IDENTIFY a b\n";
    let seen = run(&[input], SUBSCRIBED, &Limits::default());
    assert_eq!(seen[..4], ["Nop", "Nop", "Nop", "Nop"]);
    assert_eq!(seen[4..7], ["Rdy(1)", "Rdy(0)", "Rdy(5)"]);
    assert_eq!(
        seen[7..],
        ["Fin(MessageId(0123456789abcdef))", "E_INVALID cannot IDENTIFY in current state"]
    );
}

#[test]
fn unknown_commands_are_named() {
    for (line, text) in [
        ("BOGUS a b\n", "E_INVALID invalid command BOGUS"),
        ("nop\n", "E_INVALID invalid command nop"),
        ("\n", "E_INVALID invalid command "),
        ("\r\n", "E_INVALID invalid command "),
        (" NOP\n", "E_INVALID invalid command "),
        ("NOP\t\n", "E_INVALID invalid command NOP\t"),
    ] {
        assert_eq!(error_in(line.as_bytes(), INIT), text);
    }
    let error = Decoder::new().decode(b"\xff\xfe x\n", INIT, &Limits::default());
    assert_eq!(error.expect_err("unknown").payload(), b"E_INVALID invalid command \xff\xfe");
}

#[test]
fn the_state_is_checked_before_anything_else() {
    for (gate, names) in [
        (INIT, &["RDY", "FIN", "REQ", "TOUCH", "CLS"][..]),
        (SUBSCRIBED, &["SUB", "IDENTIFY", "AUTH x"]),
        (CLOSING, &["SUB", "IDENTIFY", "AUTH", "CLS"]),
    ] {
        for name in names {
            let text = format!("E_INVALID cannot {} in current state", name.trim_end_matches(" x"));
            assert_eq!(error_in(format!("{name}\n").as_bytes(), gate), text);
        }
    }
    assert_eq!(run(&[b"RDY nonsense\n"], CLOSING, &Limits::default()), ["Nop", "end"]);
    let deaf = Gate { heartbeats_enabled: false, ..INIT };
    assert_eq!(error_in(b"SUB\n", deaf), "E_INVALID cannot SUB with heartbeats disabled");
    let deaf = Gate { heartbeats_enabled: false, ..SUBSCRIBED };
    assert_eq!(error_in(b"SUB\n", deaf), "E_INVALID cannot SUB in current state");
}

#[test]
fn before_tls_only_identify_passes() {
    let gate = Gate { tls_missing: true, ..INIT };
    for name in ["NOP", "PUB", "BOGUS", ""] {
        let text = format!("E_INVALID cannot {name} in current state (TLS required)");
        assert_eq!(error_in(format!("{name} x\n").as_bytes(), gate), text);
    }
    let seen = run(&[b"IDENTIFY\n\0\0\0\x02{}"], gate, &Limits::default());
    assert_eq!(seen, ["Identify([123, 125])", "end"]);
}

#[test]
fn parameters_are_checked_in_nsqds_order_and_words() {
    for (gate, line, text) in [
        (INIT, "AUTH x", "E_INVALID AUTH invalid number of parameters"),
        (INIT, "AUTH ", "E_INVALID AUTH invalid number of parameters"),
        (INIT, "SUB", "E_INVALID SUB insufficient number of parameters"),
        (INIT, "SUB a$b", "E_INVALID SUB insufficient number of parameters"),
        (INIT, "SUB a$b c$d", r#"E_BAD_TOPIC SUB topic name "a$b" is not valid"#),
        (INIT, "SUB  t c", r#"E_BAD_TOPIC SUB topic name "" is not valid"#),
        (INIT, "SUB a c\x01d", r#"E_BAD_CHANNEL SUB channel name "c\x01d" is not valid"#),
        (INIT, "SUB a  c", r#"E_BAD_CHANNEL SUB channel name "" is not valid"#),
        (SUBSCRIBED, "RDY -1", "E_INVALID RDY could not parse count -1"),
        (SUBSCRIBED, "RDY 0x1", "E_INVALID RDY could not parse count 0x1"),
        (SUBSCRIBED, "RDY 2501", "E_INVALID RDY count 2501 out of range 0-2500"),
        (SUBSCRIBED, "RDY 18446744073709551615", "E_INVALID RDY count -1 out of range 0-2500"),
        (SUBSCRIBED, "FIN", "E_INVALID FIN insufficient number of params"),
        (SUBSCRIBED, "TOUCH", "E_INVALID TOUCH insufficient number of params"),
        (SUBSCRIBED, "REQ", "E_INVALID REQ insufficient number of params"),
        (SUBSCRIBED, "REQ 0123456789abcdef", "E_INVALID REQ insufficient number of params"),
        (SUBSCRIBED, "FIN ", "E_INVALID invalid message ID"),
        (SUBSCRIBED, "TOUCH 0123456789abcde", "E_INVALID invalid message ID"),
        (SUBSCRIBED, "REQ 0123456789abcdef0 x", "E_INVALID invalid message ID"),
        (SUBSCRIBED, "REQ 0123456789abcdef 1s", "E_INVALID REQ could not parse timeout 1s"),
        (INIT, "PUB", "E_INVALID PUB insufficient number of parameters"),
        (INIT, "MPUB", "E_INVALID MPUB insufficient number of parameters"),
        (INIT, "DPUB t", "E_INVALID DPUB insufficient number of parameters"),
        (INIT, "PUB a\"b", r#"E_BAD_TOPIC PUB topic name "a\"b" is not valid"#),
        (INIT, "MPUB a$b", r#"E_BAD_TOPIC E_BAD_TOPIC MPUB topic name "a$b" is not valid"#),
        (INIT, "DPUB a$b x", r#"E_BAD_TOPIC DPUB topic name "a$b" is not valid"#),
        (INIT, "DPUB t +5", "E_INVALID DPUB could not parse timeout +5"),
        (INIT, "DPUB t 3600001", "E_INVALID DPUB timeout 3600001 out of range 0-3600000"),
        (
            INIT,
            "DPUB t 18446744073709551615",
            "E_INVALID DPUB timeout 18446744073709551615 out of range 0-3600000",
        ),
    ] {
        assert_eq!(error_in(format!("{line}\n").as_bytes(), gate), text, "{line}");
    }
}

#[test]
fn numbers_are_gos() {
    let limits = Limits::default();
    for (line, command) in [
        (format!("REQ {ID} "), format!("Req(MessageId({ID}), 0)")),
        (format!("REQ {ID} 99999999"), format!("Req(MessageId({ID}), 3600000)")),
        (format!("REQ {ID} 18446744073709551615"), format!("Req(MessageId({ID}), 0)")),
        ("RDY 18446744073709551617".into(), "Rdy(1)".into()),
    ] {
        let seen = run(&[line.as_bytes(), b"\n"], SUBSCRIBED, &limits);
        assert_eq!(seen, [command.as_str(), "end"], "{line}");
    }
    let seen = run(&[b"DPUB t \n\0\0\0\x01x"], INIT, &limits);
    assert_eq!(seen, [r#"Dpub { topic: "t", delay_ms: 0, body: [120] }"#, "end"]);
}

#[test]
fn sizes_are_refused_before_the_body_comes() {
    for (line, size, text) in [
        ("IDENTIFY", 0, "E_BAD_BODY IDENTIFY invalid body size 0"),
        ("IDENTIFY", -1, "E_BAD_BODY IDENTIFY invalid body size -1"),
        ("IDENTIFY", 5_242_881, "E_BAD_BODY IDENTIFY body too big 5242881 > 5242880"),
        ("AUTH", 0, "E_BAD_BODY AUTH invalid body size 0"),
        ("AUTH", i32::MAX, "E_BAD_BODY AUTH body too big 2147483647 > 5242880"),
        ("PUB t", 0, "E_BAD_MESSAGE PUB invalid message body size 0"),
        ("PUB t", i32::MIN, "E_BAD_MESSAGE PUB invalid message body size -2147483648"),
        ("PUB t", 1_048_577, "E_BAD_MESSAGE PUB message too big 1048577 > 1048576"),
        ("DPUB t 0", -1, "E_BAD_MESSAGE DPUB invalid message body size -1"),
        ("DPUB t 0", 1_048_577, "E_BAD_MESSAGE DPUB message too big 1048577 > 1048576"),
        ("MPUB t", 0, "E_BAD_BODY MPUB invalid body size 0"),
        ("MPUB t", -1, "E_BAD_BODY MPUB invalid body size -1"),
        ("MPUB t", 5_242_881, "E_BAD_BODY MPUB body too big 5242881 > 5242880"),
    ] {
        assert_eq!(error_in(&sized(line, size), INIT), text);
    }
}

#[test]
fn the_largest_message_is_accepted() {
    let body = vec![7; 1 << 20];
    let mut input = BytesMut::new();
    request::publish(&mut input, "t", &body);
    let mut decoder = Decoder::new();
    let decoded = decoder.decode(&input, INIT, &Limits::default());
    let Ok(Decoded::Command { command: Command::Pub { body: got, .. }, consumed }) = decoded else {
        panic!("{decoded:?}");
    };
    assert_eq!((got.len(), consumed), (1 << 20, input.len()));
}

#[test]
fn the_content_of_an_mpub_is_checked_before_any_of_it_counts() {
    let words = |words: &[i32]| {
        let mut input = b"MPUB t\n".to_vec();
        for word in words {
            input.extend_from_slice(&word.to_be_bytes());
        }
        input
    };
    for (input, text) in [
        (words(&[4, 0]), "E_BAD_BODY MPUB invalid message count 0"),
        (words(&[4, -1]), "E_BAD_BODY MPUB invalid message count -1"),
        (words(&[4, 1_048_576]), "E_BAD_BODY MPUB invalid message count 1048576"),
        (words(&[4, 1, 0]), "E_BAD_MESSAGE MPUB invalid message(0) body size 0"),
        (words(&[4, 2, 4, 7, -5]), "E_BAD_MESSAGE MPUB invalid message(1) body size -5"),
        (words(&[4, 2, 4, 7, 1_048_577]), "E_BAD_MESSAGE MPUB message too big 1048577 > 1048576"),
    ] {
        let seen = run(&[&input], INIT, &Limits::default());
        assert_eq!(seen, ["MPUB t begins", text]);
    }
    let seen = run(&[&words(&[4, 1_048_575])], INIT, &Limits::default());
    assert_eq!(seen[0], "MPUB t begins", "the largest count is accepted");
    assert!(seen[1].starts_with("at end: "), "{seen:?}");
}

#[test]
fn the_declared_size_of_an_mpub_need_not_be_that_of_its_content() {
    let mut input = BytesMut::new();
    request::publish_many(&mut input, "t", &[&b"a"[..], b"b"]);
    input[7..11].copy_from_slice(&1_i32.to_be_bytes());
    let seen = run(&[&input], INIT, &Limits::default());
    assert_eq!(seen, ["MPUB t begins", r#"MPUB t ["a", "b"]"#, "end"]);
}

#[test]
fn the_content_of_an_mpub_has_an_end_whatever_was_declared() {
    let limits = Limits { msg_bytes_max: 100, body_bytes_max: 200, ..Limits::default() };
    let mut input = BytesMut::new();
    request::publish_many(&mut input, "t", &[[b'x'; 100]; 2]);
    input[7..11].copy_from_slice(&1_i32.to_be_bytes());
    let seen = run(&[&input], INIT, &limits);
    assert_eq!(seen, ["MPUB t begins", "E_BAD_BODY MPUB body too big 212 > 200"]);
}

#[test]
fn an_input_that_ends_in_a_body_is_told_what_was_missing() {
    for (input, text) in [
        (&b""[..], "end"),
        (b"PUB t", "end"),
        (b"NOP\n", "end"),
        (b"PUB t\n\0\0", "at end: E_BAD_MESSAGE PUB failed to read message body size"),
        (b"PUB t\n\0\0\0\x05abc", "at end: E_BAD_MESSAGE PUB failed to read message body"),
        (b"DPUB t 1\n", "at end: E_BAD_MESSAGE DPUB failed to read message body size"),
        (b"DPUB t 1\n\0\0\0\x05", "at end: E_BAD_MESSAGE DPUB failed to read message body"),
        (b"IDENTIFY\n\0\0", "at end: E_BAD_BODY IDENTIFY failed to read body size"),
        (b"IDENTIFY\n\0\0\0\x20{}", "at end: E_BAD_BODY IDENTIFY failed to read body"),
        (b"AUTH\n", "at end: E_BAD_BODY AUTH failed to read body size"),
        (b"AUTH\n\0\0\0\x20", "at end: E_BAD_BODY AUTH failed to read body"),
        (b"MPUB t\n", "at end: E_BAD_BODY MPUB failed to read body size"),
        (b"MPUB t\n\0\0", "at end: E_BAD_BODY MPUB failed to read body size"),
        (b"MPUB t\n\0\0\0\x64\0\0", "at end: E_BAD_BODY MPUB failed to read message count"),
        (
            b"MPUB t\n\0\0\0\x64\0\0\0\x02\0\0\0\x01x\0",
            "at end: E_BAD_MESSAGE MPUB failed to read message(1) body size",
        ),
        (
            b"MPUB t\n\0\0\0\x64\0\0\0\x01\0\0\0\x09abc",
            "at end: E_BAD_MESSAGE MPUB failed to read message body",
        ),
    ] {
        assert_eq!(at_end(input), text);
    }
}

#[test]
fn the_longest_line_is_processed_and_a_longer_one_is_cut_off() {
    let longest = [b"NOP ", &[b'x'; LINE_BYTES_MAX - 5][..], b"\n"].concat();
    assert_eq!(longest.len(), LINE_BYTES_MAX);
    assert_eq!(run(&[&longest], INIT, &Limits::default()), ["Nop", "end"]);

    let endless = vec![b'x'; LINE_BYTES_MAX];
    assert_eq!(run(&[&endless], INIT, &Limits::default()), ["line too long"]);
    let endless = [&endless[..], b"\nNOP\n"].concat();
    assert_eq!(run(&[&endless], INIT, &Limits::default()), ["line too long"]);
}

#[test]
fn what_has_been_checked_of_an_mpub_is_not_looked_at_again() {
    let mut input = BytesMut::new();
    request::publish_many(&mut input, "t", &[[b'x'; 10]; 100]);
    let (half, end) = (input.len() / 2, input.len());
    let mut decoder = Decoder::new();
    for _ in 0..2 {
        decoder.decode(&input[..half], INIT, &Limits::default()).expect("valid so far");
    }
    // The size of the first message; a second look would refuse it.
    let first = "MPUB t\n".len() + 8;
    input[first..first + 4].copy_from_slice(&[0xff; 4]);
    let decoded = decoder.decode(&input, INIT, &Limits::default());
    assert!(matches!(decoded, Ok(Decoded::Command { consumed, .. }) if consumed == end));
}

/// The bytes of one command that decodes in a subscribed connection.
fn any_command() -> impl Strategy<Value = Vec<u8>> {
    let body = || proptest::collection::vec(any::<u8>(), 1..40);
    let write = |write: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        write(&mut out);
        out.to_vec()
    };
    prop_oneof![
        Just(b"NOP\r\n".to_vec()),
        Just(b"RDY\n".to_vec()),
        (0..2_501_u64).prop_map(move |count| write(&|out| request::rdy(out, count))),
        any::<u64>().prop_map(move |id| write(&|out| request::fin(out, MessageId::from_u64(id)))),
        (any::<u64>(), any::<u64>()).prop_map(move |(id, delay_ms)| {
            write(&|out| request::req(out, MessageId::from_u64(id), delay_ms))
        }),
        body().prop_map(move |body| write(&|out| request::publish(out, "topic.name", &body))),
        (0..3_600_001_u64, body()).prop_map(move |(delay_ms, body)| {
            write(&|out| request::publish_deferred(out, "t", delay_ms, &body))
        }),
        proptest::collection::vec(body(), 1..5)
            .prop_map(move |bodies| write(&|out| request::publish_many(out, "t", &bodies))),
    ]
}

proptest! {
    #[test]
    fn any_split_of_a_stream_gives_the_same_commands(
        commands in proptest::collection::vec(any_command(), 1..12),
        mut cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..30),
        keep in any::<prop::sample::Index>(),
    ) {
        let whole = commands.concat();
        let stream = &whole[..=keep.index(whole.len())];
        let want = run(&[stream], SUBSCRIBED, &Limits::default());
        cuts.sort_by_key(|cut| cut.index(stream.len()));
        let (mut pieces, mut from) = (Vec::new(), 0);
        for cut in cuts {
            let to = cut.index(stream.len());
            pieces.push(&stream[from..to]);
            from = to;
        }
        pieces.push(&stream[from..]);
        prop_assert_eq!(&run(&pieces, SUBSCRIBED, &Limits::default()), &want);

        let bytes: Vec<_> = stream.chunks(1).collect();
        prop_assert_eq!(&run(&bytes, SUBSCRIBED, &Limits::default()), &want);
    }

    #[test]
    fn bytes_from_outside_never_panic_and_never_ask_for_more_than_the_limits(
        start in prop_oneof![
            Just(""), Just("PUB t\n"), Just("MPUB t\n"), Just("MPUB t\n\0\0\0\x09\0\0\0"),
            Just("IDENTIFY\n"), Just("DPUB t "), Just("REQ "), Just("FIN "), Just("SUB "),
        ],
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        state in 0..3,
    ) {
        let gate = [INIT, SUBSCRIBED, CLOSING][usize::try_from(state).unwrap_or_default()];
        let input = [start.as_bytes(), &bytes[..]].concat();
        let seen = run(&[&input], gate, &Limits::default());
        let pieces: Vec<_> = input.chunks(1).collect();
        prop_assert_eq!(run(&pieces, gate, &Limits::default()), seen);
    }
}
