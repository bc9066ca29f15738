//! How much a node may hold.

use grapevine_gossip::catalogue::DETACHED_KEYS_MAX;
use grapevine_gossip::cluster::Sizes;
use grapevine_gossip::membership::MEMBERS_MAX;
use grapevine_gossip::section::SECTION_KEYS_MAX;
use grapevine_gossip::wish::WISHES_MAX;

use super::rules::{BOUNDS, Broken};

/// Compares what a node holds with every bound. `owners`: how many there ever were.
pub(super) fn check(sizes: &Sizes, owners: usize) -> Result<(), Broken> {
    let bounds = [
        ("owners", sizes.owners, owners.min(MEMBERS_MAX + 1)),
        // What is held once for each owner may be of one that has just been forgotten.
        ("rumours", sizes.rumours, owners),
        ("pulls", sizes.pulls, owners),
        ("members", sizes.members, MEMBERS_MAX),
        ("left", sizes.left, MEMBERS_MAX),
        ("wishes", sizes.wishes, WISHES_MAX),
        // Once a second what is too much is dropped, and until then one more may go down.
        ("detached-keys", sizes.detached_keys, DETACHED_KEYS_MAX + SECTION_KEYS_MAX),
        ("outbound", sizes.outbound, Sizes::STREAMS_MAX),
        ("inbound", sizes.inbound, Sizes::STREAMS_MAX),
        ("staged-bytes", sizes.staged_bytes, Sizes::STAGED_BYTES_MAX),
    ];
    let broken = bounds.into_iter().find(|(_, held, most)| held > most);
    broken.map_or(Ok(()), |(what, held, most)| {
        Err(Broken::new(&BOUNDS, format!("what={what} held={held} most={most}")))
    })
}

/// Names in the index that no section has: it would grow for ever with topics that come and go.
pub(super) fn unowned(topics: usize) -> Broken {
    Broken::new(&BOUNDS, format!("what=unowned-topics held={topics} most=0"))
}
