//! The failure detector's packets: what is decoded encodes to the same value again, and a node
//! that gets them as a member's stands.
#![no_main]

use foca::Codec;
use grapevine_fuzz::{Node, messages, sealed};
use grapevine_gossip::codec::SwimCodec;
use grapevine_gossip::message::{KIND_MESSAGE_SWIM, KIND_SWIM, KIND_SWIM_SHORT};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(header) = SwimCodec.decode_header(data) {
        let mut bytes = Vec::new();
        SwimCodec.encode_header(&header, &mut bytes).expect("it was decoded");
        assert_eq!(SwimCodec.decode_header(&bytes[..]).expect("it was encoded"), header);
    }
    if let Ok(member) = SwimCodec.decode_member(data) {
        let mut bytes = Vec::new();
        SwimCodec.encode_member(&member, &mut bytes).expect("it was decoded");
        assert_eq!(SwimCodec.decode_member(&bytes[..]).expect("it was encoded"), member);
    }
    let mut node = Node::with_member();
    for packet in messages(data) {
        for kind in [KIND_SWIM, KIND_SWIM_SHORT, KIND_MESSAGE_SWIM] {
            let mut body = vec![kind];
            body.extend_from_slice(packet);
            node.datagram(&sealed(&body));
        }
    }
});
