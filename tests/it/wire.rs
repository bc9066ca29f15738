//! Protocol V2, byte for byte.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Frame, Nsqd, RawClient, is_reference, message_body_of, mpub_body};

const OK_FRAME: &[u8] = b"\0\0\0\x06\0\0\0\0OK";

#[test]
fn any_magic_but_v2_is_answered_once_and_closed() {
    let node = Nsqd::start(&[]);
    for magic in [b"  V1", b"GET ", b"\0\0\0\0"] {
        let mut client = RawClient::connect(&node.tcp());
        client.send(magic);
        assert_eq!(client.bytes(22), b"\0\0\0\x12\0\0\0\x01E_BAD_PROTOCOL");
        assert_eq!(client.frame(), Frame::Closed);
    }
}

#[test]
fn a_message_has_timestamp_attempts_id_and_body_in_this_layout() {
    let node = Nsqd::start(&[]);
    let mut producer = RawClient::connect(&node.tcp());
    producer.send(b"  V2PUB t\n\0\0\0\x05hello");
    assert_eq!(producer.bytes(10), OK_FRAME);

    let mut consumer = RawClient::connect(&node.tcp());
    consumer.send(b"  V2SUB t c\nRDY 1\n");
    assert_eq!(consumer.bytes(10), OK_FRAME);
    let frame = consumer.bytes(4 + 0x23);

    assert_eq!(&frame[..8], b"\0\0\0\x23\0\0\0\x02");
    let timestamp = i64::from_be_bytes(frame[8..16].try_into().unwrap());
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as i64;
    assert!((now - 60_000_000_000..=now).contains(&timestamp), "{timestamp} is not about {now}");
    assert_eq!(&frame[16..18], b"\0\x01", "the first attempt");
    let is_id = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    assert!(frame[18..34].iter().all(is_id), "{:?}", &frame[18..34]);
    assert_eq!(&frame[34..], b"hello");

    let mut finish = b"FIN ".to_vec();
    finish.extend_from_slice(&frame[18..34]);
    finish.push(b'\n');
    consumer.send(&finish);
    node.wait_for_stat("t", "c", "in_flight_count", 0);
    assert_eq!(node.channel_stats("t", "c")["depth"], 0);
}

#[test]
fn identify_negotiates_and_says_what_the_server_allows() {
    let node = Nsqd::start(&[]);
    let mut client = node.client();
    client.command("IDENTIFY", Some(br#"{"feature_negotiation":true,"msg_timeout":5000}"#));
    let Frame::Response(body) = client.frame() else { panic!("a response") };
    let answer: Value = serde_json::from_slice(&body).unwrap();

    for (key, want) in [
        ("max_rdy_count", 2500),
        ("max_msg_timeout", 900_000),
        ("msg_timeout", 5000),
        ("max_deflate_level", 6),
        ("sample_rate", 0),
        ("output_buffer_size", 16_384),
        ("output_buffer_timeout", 250),
    ] {
        assert_eq!(answer[key], want, "{key} in {answer}");
    }
    for key in ["tls_v1", "deflate", "snappy", "auth_required"] {
        assert_eq!(answer[key], false, "{key} in {answer}");
    }
    assert!(answer["version"].as_str().unwrap().starts_with("1.3.0"), "{answer}");
}

#[test]
fn identify_without_negotiation_is_answered_ok() {
    let node = Nsqd::start(&[]);
    let mut client = node.client();
    client.command("IDENTIFY", Some(b"{}"));
    client.expect_ok();
    client.command("IDENTIFY", Some(b"[]"));
    client.expect_fatal("E_BAD_BODY IDENTIFY failed to decode JSON body");
}

#[test]
fn the_three_answers_to_a_message_fail_without_closing() {
    let node = Nsqd::start(&[]);
    let mut client = node.consumer("t", "c", 1);
    for (line, code, verb) in [
        ("FIN 0123456789abcdef", "E_FIN_FAILED", "FIN"),
        ("REQ 0123456789abcdef 0", "E_REQ_FAILED", "REQ"),
        ("TOUCH 0123456789abcdef", "E_TOUCH_FAILED", "TOUCH"),
    ] {
        client.command(line, None);
        client.expect_error(&format!("{code} {verb} 0123456789abcdef failed ID not in flight"));
    }
    client.command("PUB t", Some(b"still open"));
    let frames = [client.frame(), client.frame()];
    assert!(frames.contains(&Frame::Response(b"OK".to_vec())), "{frames:?}");
    assert!(frames.iter().any(|frame| matches!(frame, Frame::Message { .. })), "{frames:?}");
}

#[test]
fn a_fatal_error_is_sent_before_the_connection_closes() {
    let node = Nsqd::start(&[]);
    for (bytes, text) in [
        (&b"BOGUS\n"[..], "E_INVALID invalid command BOGUS"),
        (b"\n", "E_INVALID invalid command "),
        (b"nop\n", "E_INVALID invalid command nop"),
        (b"SUB t\n", "E_INVALID SUB insufficient number of parameters"),
        (b"SUB  c\n", r#"E_BAD_TOPIC SUB topic name "" is not valid"#),
        (b"SUB t c/d\n", r#"E_BAD_CHANNEL SUB channel name "c/d" is not valid"#),
        (b"RDY 1\n", "E_INVALID cannot RDY in current state"),
        (b"FIN 0123456789abcdef\n", "E_INVALID cannot FIN in current state"),
        (b"CLS\n", "E_INVALID cannot CLS in current state"),
        (b"PUB\n", "E_INVALID PUB insufficient number of parameters"),
        (b"PUB t\n\0\0\0\0", "E_BAD_MESSAGE PUB invalid message body size 0"),
        (b"PUB t\n\xff\xff\xff\xff", "E_BAD_MESSAGE PUB invalid message body size -1"),
        (b"PUB t\n\0\x10\0\x01", "E_BAD_MESSAGE PUB message too big 1048577 > 1048576"),
        (b"DPUB t x\n", "E_INVALID DPUB could not parse timeout x"),
        (b"DPUB t 3600001\n", "E_INVALID DPUB timeout 3600001 out of range 0-3600000"),
        (b"MPUB t\n\0\0\0\x04\0\0\0\0", "E_BAD_BODY MPUB invalid message count 0"),
        (b"IDENTIFY\n\0\0\0\0", "E_BAD_BODY IDENTIFY invalid body size 0"),
        (b"AUTH\n\0\0\0\x01x", "E_AUTH_DISABLED AUTH disabled"),
    ] {
        let mut client = node.client();
        client.send(bytes);
        client.expect_fatal(text);
    }
}

#[test]
fn errors_of_a_subscribed_client_are_fatal_too() {
    let node = Nsqd::start(&[]);
    for (line, text) in [
        ("SUB t c", "E_INVALID cannot SUB in current state"),
        ("IDENTIFY", "E_INVALID cannot IDENTIFY in current state"),
        ("RDY -1", "E_INVALID RDY could not parse count -1"),
        ("RDY 2501", "E_INVALID RDY count 2501 out of range 0-2500"),
        ("FIN short", "E_INVALID invalid message ID"),
        ("REQ 0123456789abcdef", "E_INVALID REQ insufficient number of params"),
        ("REQ 0123456789abcdef x", "E_INVALID REQ could not parse timeout x"),
    ] {
        let mut client = node.consumer("t", "c", 1);
        client.command(line, None);
        client.expect_fatal(text);
    }
}

#[test]
fn mpub_stores_all_of_its_messages_or_none() {
    let node = Nsqd::start(&[]);
    node.create_channel("t", "c");
    let mut producer = node.client();
    producer.command("MPUB t", Some(&mpub_body(&["one", "two", "three"])));
    producer.expect_ok();
    let mut bad = mpub_body(&["four", "five"]);
    bad.extend_from_slice(&[0; 4]);
    bad[3] = 3; // the third message is empty
    producer.command("MPUB t", Some(&bad));
    producer.expect_fatal("E_BAD_MESSAGE MPUB invalid message(2) body size 0");

    let mut consumer = node.consumer("t", "c", 10);
    let mut bodies: Vec<String> = (0..3).map(|_| consumer.take()).collect();
    bodies.sort();
    assert_eq!(bodies, ["one", "three", "two"]);
    node.wait_for_stat("t", "c", "in_flight_count", 0);
    assert_eq!(node.channel_stats("t", "c")["message_count"], 3);
}

#[test]
fn a_deferred_message_comes_when_its_time_has_come() {
    let node = Nsqd::start(&[]);
    let mut consumer = node.consumer("t", "c", 5);
    let mut producer = node.client();
    let start = Instant::now();
    producer.command("DPUB t 700", Some(b"later"));
    producer.expect_ok();
    producer.publish("t", b"now");

    assert_eq!(consumer.take(), "now");
    node.wait_for_stat("t", "c", "deferred_count", 1);
    let (_, attempts, body) = consumer.message();
    assert_eq!((attempts, body.as_str()), (1, "later"));
    assert!(start.elapsed() >= Duration::from_millis(690), "{:?}", start.elapsed());
}

#[test]
fn a_requeued_message_comes_back_with_one_more_attempt() {
    let node = Nsqd::start(&[]);
    let mut consumer = node.consumer("t", "c", 1);
    node.client().publish("t", b"again");
    let (first, attempts, _) = consumer.message();
    assert_eq!(attempts, 1);
    consumer.command(&format!("REQ {first} 0"), None);
    let (second, attempts, body) = consumer.message();
    assert_eq!((second, attempts, body.as_str()), (first, 2, "again"));
}

#[test]
fn an_unanswered_message_comes_back_after_its_timeout_and_touch_postpones_it() {
    let node = Nsqd::start(&["-msg-timeout=3s"]);
    let mut consumer = node.consumer("t", "c", 1);
    node.client().publish("t", b"slow");
    let (id, _, _) = consumer.message();
    let start = Instant::now();
    // Part of the timeout has to pass; two seconds are left for a machine that is slow.
    std::thread::sleep(Duration::from_millis(1_000));
    consumer.command(&format!("TOUCH {id}"), None);
    let (again, attempts, _) = consumer.message();

    assert_eq!((again, attempts), (id.clone(), 2));
    assert!(start.elapsed() >= Duration::from_millis(3_990), "{:?}", start.elapsed());
    node.wait_for_stat("t", "c", "timeout_count", 1);
    consumer.command(&format!("FIN {id}"), None);
    node.wait_for_stat("t", "c", "in_flight_count", 0);
}

#[test]
fn the_messages_of_a_lost_consumer_reach_another_one() {
    let node = Nsqd::start(&["-msg-timeout=2s"]);
    let mut lost = node.consumer("t", "c", 1);
    node.client().publish("t", b"handed on");
    let (id, attempts, _) = lost.message();
    assert_eq!(attempts, 1);
    drop(lost);
    let mut other = node.consumer("t", "c", 1);
    assert_eq!(other.message(), (id, 2, "handed on".to_owned()));
}

#[test]
fn rdy_is_a_level_and_not_a_credit() {
    let node = Nsqd::start(&[]);
    let mut consumer = node.consumer("t", "c", 2);
    let mut producer = node.client();
    producer.command("MPUB t", Some(&mpub_body(&["1", "2", "3", "4"])));
    producer.expect_ok();

    let (first, _, _) = consumer.message();
    consumer.message();
    assert_eq!(consumer.frame_or_silence(Duration::from_millis(300)), Frame::Silence);
    consumer.command(&format!("FIN {first}"), None);
    consumer.message();
    consumer.command("RDY 0", None);
    assert_eq!(consumer.frame_or_silence(Duration::from_millis(300)), Frame::Silence);
}

#[test]
fn heartbeats_come_at_the_interval_asked_for_and_silence_ends_the_connection() {
    let node = Nsqd::start(&[]);
    let mut client = node.client();
    client.command("IDENTIFY", Some(br#"{"heartbeat_interval":1000}"#));
    client.expect_ok();
    let start = Instant::now();
    let heartbeat = Frame::Response(b"_heartbeat_".to_vec());
    assert_eq!(client.frame_within(Duration::from_secs(5)), heartbeat);
    client.send(b"NOP\n");
    assert_eq!(client.frame_within(Duration::from_secs(5)), heartbeat);
    assert!(start.elapsed() >= Duration::from_millis(1_400), "{:?}", start.elapsed());
    // Unanswered from here on: closed after twice the interval.
    let last = loop {
        match client.frame_within(Duration::from_secs(8)) {
            frame if frame == heartbeat => {}
            frame => break frame,
        }
    };
    assert_eq!(last, Frame::Closed);
}

#[test]
fn cls_is_answered_and_leaves_the_messages_in_flight_answerable() {
    let node = Nsqd::start(&[]);
    let mut consumer = node.consumer("t", "c", 1);
    node.client().publish("t", b"last");
    let (id, _, _) = consumer.message();
    consumer.command("CLS", None);
    assert_eq!(consumer.frame(), Frame::Response(b"CLOSE_WAIT".to_vec()));
    consumer.command(&format!("FIN {id}"), None);
    node.wait_for_stat("t", "c", "in_flight_count", 0);
    assert_eq!(node.channel_stats("t", "c")["depth"], 0);
    node.client().publish("t", b"not for this one");
    assert_eq!(consumer.frame_or_silence(Duration::from_millis(300)), Frame::Silence);
    consumer.command("CLS", None);
    consumer.expect_fatal("E_INVALID cannot CLS in current state");
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let node = Nsqd::start(&[]);
    let mut client = node.client();
    let mut bytes = Vec::new();
    for index in 0..300_u32 {
        bytes.extend_from_slice(b"PUB t\n\0\0\0\x04");
        bytes.extend_from_slice(&index.to_be_bytes());
    }
    bytes.extend_from_slice(b"BOGUS\n");
    client.send(&bytes);
    for _ in 0..300 {
        client.expect_ok();
    }
    client.expect_fatal("E_INVALID invalid command BOGUS");

    let mut consumer = node.consumer("t", "c", 500);
    let mut seen = Vec::new();
    for _ in 0..300 {
        let Frame::Message { body, .. } = consumer.frame() else { panic!("a message") };
        seen.push(u32::from_be_bytes(body.try_into().unwrap()));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..300).collect::<Vec<_>>());
}

#[test]
fn bytes_that_arrive_one_by_one_mean_the_same() {
    let node = Nsqd::start(&[]);
    let mut client = RawClient::connect(&node.tcp());
    for byte in b"  V2PUB t\r\n\0\0\0\x02hiSUB t c\nRDY 1\n" {
        client.send(&[*byte]);
        std::thread::sleep(Duration::from_millis(1));
    }
    client.expect_ok();
    client.expect_ok();
    assert_eq!(message_body_of(&client.frame()), "hi");
}

#[test]
fn a_line_without_an_end_is_cut_off() {
    let node = Nsqd::start(&[]);
    let mut client = node.client();
    let _ = client.try_send(&[b'x'; 20_000]);
    assert_eq!(client.frame(), Frame::Closed);
    assert_eq!(node.get("/ping").text(), "OK", "the node lives");
}

#[test]
fn a_message_of_the_greatest_size_passes_whole() {
    let node = Nsqd::start(&[]);
    let body: Vec<u8> = (0..1_048_576_u32).map(|index| (index % 251) as u8).collect();
    let mut consumer = node.consumer("t", "c", 1);
    node.client().publish("t", &body);
    let Frame::Message { body: received, .. } = consumer.frame() else { panic!("a message") };
    assert!(received == body);
}

#[test]
fn the_first_channel_gets_the_backlog_and_later_ones_only_what_is_new() {
    let node = Nsqd::start(&[]);
    node.client().publish("t", b"old");
    assert_eq!(node.consumer("t", "first", 1).take(), "old");
    let mut second = node.consumer("t", "second", 1);
    node.client().publish("t", b"new");
    assert_eq!(second.take(), "new");
    assert_eq!(node.consumer("t", "first", 1).take(), "new");
}

#[test]
fn ephemeral_channels_and_topics_end_with_their_last_client() {
    let node = Nsqd::start(&[]);
    let consumer = node.consumer("t#ephemeral", "c#ephemeral", 1);
    let topics = || node.get("/stats?format=json").json()["topics"].clone();
    assert_eq!(topics()[0]["topic_name"], "t#ephemeral");
    drop(consumer);
    crate::support::eventually(Duration::from_secs(5), "the topic is gone", || {
        topics().as_array().is_none_or(Vec::is_empty)
    });
}

#[test]
fn a_client_that_never_sends_its_magic_does_not_delay_a_clean_stop() {
    if is_reference() {
        return; // a defect of nsqd: it waits for such clients
    }
    let mut node = Nsqd::start(&[]);
    let _silent = RawClient::connect(&node.tcp());
    let start = Instant::now();
    assert!(node.terminate().success());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
