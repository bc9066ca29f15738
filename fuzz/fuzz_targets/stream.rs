//! Frames of a stream, as the one that was called and as the caller: a node stands, and answers
//! in frames that are not too long.
#![no_main]

use grapevine_fuzz::{Node, messages, sealed};
use grapevine_gossip::cluster::{ConnId, Input};
use grapevine_gossip::codec::{decode_frame, encode};
use grapevine_gossip::message::Frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&mode, data)) = data.split_first() else { return };
    let mut node = Node::with_member();
    // The node asked its seed by itself: stream 0 is its own.
    let mut conn = ConnId(0);
    if mode & 1 == 0 {
        conn = ConnId(ConnId::ACCEPTED + 1);
        node.tell(Input::Accepted(conn));
    } else {
        node.tell(Input::Resolved { seed: 0, addrs: vec![([10, 0, 0, 2], 4162).into()] });
        node.tell(Input::Connected(conn));
    }
    for frame in messages(data) {
        if let Ok(decoded) = decode_frame::<Frame>(frame) {
            let again = decode_frame::<Frame>(&encode(&decoded));
            assert_eq!(again.expect("it was encoded"), decoded);
        }
        node.tell(Input::Frame(conn, &sealed(frame)));
    }
    node.tell(Input::Closed { conn, is_refused: mode & 2 != 0 });
});
