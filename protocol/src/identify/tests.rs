use super::*;

fn run(body: &str) -> Result<(Negotiated, ClientSettings), ClientError> {
    run_with(body, &ServerSettings::default())
}

fn run_with(
    body: &str,
    server: &ServerSettings,
) -> Result<(Negotiated, ClientSettings), ClientError> {
    let mut client = ClientSettings::new("127.0.0.1", server);
    let identify = Identify::parse(body.as_bytes())?;
    negotiate(&identify, server, &mut client).map(|negotiated| (negotiated, client))
}

fn error(body: &str) -> String {
    run(body).expect_err(body).to_string()
}

fn settings(body: &str) -> ClientSettings {
    run(body).expect(body).1
}

fn full_server() -> ServerSettings {
    ServerSettings { tls_v1: true, deflate: true, snappy: true, ..ServerSettings::default() }
}

#[test]
fn the_answer_has_nsqds_keys_in_nsqds_order() {
    let (negotiated, _) = run(r#"{"feature_negotiation":true}"#).expect("valid");
    let want = concat!(
        r#"{"max_rdy_count":2500,"version":"1.3.0+grapevine.0.1.0","max_msg_timeout":900000,"#,
        r#""msg_timeout":60000,"tls_v1":false,"deflate":false,"deflate_level":6,"#,
        r#""max_deflate_level":6,"snappy":false,"sample_rate":0,"auth_required":false,"#,
        r#""output_buffer_size":16384,"output_buffer_timeout":250,"topology_region":"","#,
        r#""topology_zone":""}"#
    );
    assert_eq!(String::from_utf8_lossy(&negotiated.response), want);
}

#[test]
fn without_feature_negotiation_the_answer_is_ok_and_nothing_is_upgraded() {
    let body = r#"{"snappy":true,"tls_v1":true}"#;
    let (negotiated, _) = run_with(body, &full_server()).expect("valid");
    assert_eq!(negotiated.response, b"OK");
    assert!(!negotiated.snappy && !negotiated.tls_v1 && !negotiated.deflate);
}

#[test]
fn bodies_are_read_by_gos_rules() {
    for body in [
        "{}",
        " \n{} ",
        "null",
        r#"{"client_id":null,"tls_v1":null,"msg_timeout":null,"sample_rate":null}"#,
        r#"{"short_id":"a","long_id":["b",{"x":1.5e3}]}"#,
        r#"{"msg_timeout":2000,"msg_timeout":3000,"msg_timeout":null}"#,
    ] {
        assert!(run(body).is_ok(), "{body}");
    }
    for body in [
        "[]",
        "\"x\"",
        "1",
        "true",
        "{",
        "",
        "{}x",
        "{}{}",
        "not json",
        r#"{"heartbeat_interval":"1000"}"#,
        r#"{"msg_timeout":1000.5}"#,
        r#"{"msg_timeout":7.0}"#,
        r#"{"msg_timeout":1e4}"#,
        r#"{"msg_timeout":9223372036854775808}"#,
        r#"{"sample_rate":2147483648}"#,
        r#"{"feature_negotiation":"yes"}"#,
        r#"{"client_id":5}"#,
        r#"{"tls_v1":1}"#,
    ] {
        assert_eq!(error(body), "E_BAD_BODY IDENTIFY failed to decode JSON body", "{body}");
    }
}

#[test]
fn keys_match_in_any_case_and_the_last_one_wins() {
    let client = settings(r#"{"Msg_Timeout":2000,"MSG_TIMEOUT":3000,"H\u006fſtname":"h"}"#);
    assert_eq!(client.msg_timeout, Duration::from_secs(3));
    assert_eq!(client.hostname, "h");
}

#[test]
fn bytes_that_are_not_utf8_do_not_stop_a_client() {
    let identify = Identify::parse(b"{\"client_id\":\"a\xffb\"}").expect("valid");
    assert_eq!(identify.client_id, "a\u{fffd}b");
}

#[test]
fn heartbeat_interval_follows_the_table() {
    let of = |ms: i64| settings(&format!(r#"{{"heartbeat_interval":{ms}}}"#)).heartbeat_interval;
    assert_eq!(of(-1), None);
    assert_eq!(of(0), Some(Duration::from_secs(30)));
    assert_eq!(of(1_000), Some(Duration::from_secs(1)));
    assert_eq!(of(60_000), Some(Duration::from_secs(60)));
    for bad in [-2, 1, 999, 60_001, 1 << 31] {
        let text = format!("E_BAD_BODY IDENTIFY heartbeat interval ({bad}) is invalid");
        assert_eq!(error(&format!(r#"{{"heartbeat_interval":{bad}}}"#)), text);
    }
}

#[test]
fn output_buffer_follows_the_table() {
    let of = |size: i64, timeout: i64| {
        let body = format!(r#"{{"output_buffer_size":{size},"output_buffer_timeout":{timeout}}}"#);
        let client = settings(&body);
        (client.output_buffer_size, client.output_buffer_timeout.as_millis())
    };
    assert_eq!(of(0, 0), (16_384, 250));
    assert_eq!(of(64, 25), (64, 25));
    assert_eq!(of(65_536, 30_000), (65_536, 30_000));
    assert_eq!(of(-1, 1_000), (1, 0));
    assert_eq!(of(1_000, -1), (1_000, 0));
    for bad in [-2, 1, 63, 65_537] {
        let text = format!("E_BAD_BODY IDENTIFY output buffer size ({bad}) is invalid");
        assert_eq!(error(&format!(r#"{{"output_buffer_size":{bad}}}"#)), text);
    }
    for bad in [-2, 1, 24, 30_001] {
        let text = format!("E_BAD_BODY IDENTIFY output buffer timeout ({bad}) is invalid");
        assert_eq!(error(&format!(r#"{{"output_buffer_timeout":{bad}}}"#)), text);
    }
}

#[test]
fn sample_rate_and_msg_timeout_follow_the_table() {
    for good in [0, 1, 99] {
        assert_eq!(settings(&format!(r#"{{"sample_rate":{good}}}"#)).sample_rate, good);
    }
    for bad in [-1, 100, 1_000] {
        let text = format!("E_BAD_BODY IDENTIFY sample rate ({bad}) is invalid");
        assert_eq!(error(&format!(r#"{{"sample_rate":{bad}}}"#)), text);
    }
    for (ms, effective) in [(0, 60_000), (1_000, 1_000), (900_000, 900_000)] {
        let client = settings(&format!(r#"{{"msg_timeout":{ms}}}"#));
        assert_eq!(client.msg_timeout.as_millis(), effective);
    }
    for bad in [-1, 1, 999, 900_001] {
        let text = format!("E_BAD_BODY IDENTIFY msg timeout ({bad}) is invalid");
        assert_eq!(error(&format!(r#"{{"msg_timeout":{bad}}}"#)), text);
    }
}

#[test]
fn settings_are_checked_in_nsqds_order() {
    let fields = [
        ("heartbeat_interval", "heartbeat interval"),
        ("output_buffer_timeout", "output buffer timeout"),
        ("output_buffer_size", "output buffer size"),
        ("sample_rate", "sample rate"),
        ("msg_timeout", "msg timeout"),
    ];
    for (from, (_, name)) in fields.iter().enumerate() {
        let wrong: Vec<_> =
            fields[from..].iter().rev().map(|(field, _)| format!("\"{field}\":-7")).collect();
        let body = format!("{{{}}}", wrong.join(","));
        assert_eq!(error(&body), format!("E_BAD_BODY IDENTIFY {name} (-7) is invalid"));
    }
}

#[test]
fn deflate_level_is_clamped_and_never_refused() {
    for (asked, effective) in [(1, 1), (4, 4), (6, 6), (9, 6), (0, 6), (-1, 6)] {
        let body =
            format!(r#"{{"feature_negotiation":true,"deflate":true,"deflate_level":{asked}}}"#);
        let (negotiated, _) = run_with(&body, &full_server()).expect("valid");
        assert!(negotiated.deflate);
        assert_eq!(negotiated.deflate_level, effective);
    }
    let server = ServerSettings { max_deflate_level: 3, ..ServerSettings::default() };
    let (negotiated, _) = run_with(r#"{"feature_negotiation":true}"#, &server).expect("valid");
    assert_eq!(negotiated.deflate_level, 3);
}

#[test]
fn two_compressions_at_once_are_refused_only_if_both_are_on_offer() {
    let body = r#"{"feature_negotiation":true,"snappy":true,"deflate":true,"tls_v1":true}"#;
    let error = run_with(body, &full_server()).expect_err("both");
    let text = "E_IDENTIFY_FAILED cannot enable both deflate and snappy compression";
    assert_eq!(error.to_string(), text);

    let server = ServerSettings { deflate: false, ..full_server() };
    let (negotiated, _) = run_with(body, &server).expect("one only");
    assert!(negotiated.snappy && negotiated.tls_v1 && !negotiated.deflate);
}

#[test]
fn a_second_identify_keeps_what_it_does_not_name_except_the_sample_rate() {
    let server = ServerSettings::default();
    let mut client = ClientSettings::new("10.0.0.1", &server);
    for body in [r#"{"msg_timeout":2000,"sample_rate":30,"client_id":"me"}"#, "{}"] {
        let identify = Identify::parse(body.as_bytes()).expect("valid");
        negotiate(&identify, &server, &mut client).expect("in range");
    }
    assert_eq!(client.msg_timeout, Duration::from_secs(2));
    assert_eq!(client.sample_rate, 0);
    assert_eq!((&client.client_id[..], &client.hostname[..]), ("me", "10.0.0.1"));
}
