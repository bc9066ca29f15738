//! Envelopes: nothing but this cluster's is opened, and what is opened closes to the same bytes.
#![no_main]

use grapevine_gossip::envelope::Seal;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let seal = Seal::none("fuzz");
    if let Ok((sender, body)) = seal.open(data) {
        assert_eq!(seal.seal(sender, body), data);
    }
});
