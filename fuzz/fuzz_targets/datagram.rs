//! Messages: what is decoded encodes to the same value again, and a node that gets them from a
//! member stands, says nothing too long, and keeps its own section.
#![no_main]

use grapevine_fuzz::{Node, messages, sealed};
use grapevine_gossip::codec::{decode_datagram, encode};
use grapevine_gossip::message::{KIND_MESSAGE, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut node = Node::with_member();
    for message in messages(data) {
        if let Ok(decoded) = decode_datagram::<Message>(message) {
            let again = decode_datagram::<Message>(&encode(&decoded));
            assert_eq!(again.expect("it was encoded"), decoded);
        }
        let mut body = vec![KIND_MESSAGE];
        body.extend_from_slice(message);
        node.datagram(&sealed(&body));
        node.datagram(message);
    }
});
