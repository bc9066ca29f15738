//! Deltas and snapshots applied to a catalogue: whatever comes, the rules of a copy hold, and a
//! copy of the copy is the same.
#![no_main]

use grapevine_fuzz::{ME, PEER, PEER_EPOCH, messages};
use grapevine_gossip::catalogue::Catalogue;
use grapevine_gossip::codec::decode_frame;
use grapevine_gossip::config::Timings;
use grapevine_gossip::message::Frame;
use grapevine_gossip::section::{Applied, Section, Snapshot};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut catalogue = Catalogue::new(ME, 5, &Timings::default());
    catalogue.member_up(PEER, PEER_EPOCH);
    let mut head = (0, 0);
    for message in messages(data) {
        let (deltas, snapshot) = match decode_frame::<Frame>(message) {
            Ok(Frame::Deltas(deltas)) => (deltas, None),
            Ok(Frame::Snapshot { epoch, ver, floor, ops, .. }) => {
                (vec![], Some(Snapshot { epoch, ver, floor, ops }))
            }
            _ => continue,
        };
        for owned in &deltas {
            let applied = catalogue.apply_delta(PEER, &owned.delta);
            head = after(&catalogue, head, &applied);
        }
        if let Some(snapshot) = snapshot {
            let applied = catalogue.apply_snapshot(PEER, &snapshot);
            head = after(&catalogue, head, &applied);
        }
        let section = &catalogue.replica(PEER).expect("it is up").section;
        check(section);
        for (key, _) in section.live() {
            let _ = catalogue.row(&key.topic);
        }
        let _ = catalogue.producers();
    }
});

/// The head after something was applied to one that had `head`.
fn after(catalogue: &Catalogue, head: (u64, u64), applied: &Applied) -> (u64, u64) {
    let section = &catalogue.replica(PEER).expect("it is up").section;
    let after = (section.epoch, section.ver);
    match applied {
        Applied::Changed(_) => assert!(after > head, "{after:?} is not after {head:?}"),
        Applied::Stale | Applied::Gap { .. } | Applied::Invalid => assert_eq!(after, head),
    }
    after
}

fn check(section: &Section) {
    assert!(section.floor <= section.ver);
    let mut versions = Vec::new();
    for (key, entry) in section.entries() {
        assert!(entry.ver <= section.ver, "{key:?} is of the future");
        assert!(entry.value.is_some() || entry.ver > section.floor, "{key:?} is forgotten");
        versions.push(entry.ver);
    }
    versions.sort_unstable();
    assert!(versions.is_sorted_by(|a, b| a < b), "two keys have one version");
    let snapshot = section.snapshot();
    assert_eq!(snapshot.ops.len(), section.len());
    if section.ver == 0 {
        return;
    }
    let mut copy = Section::default();
    assert!(matches!(copy.apply_snapshot(&snapshot), Applied::Changed(_)));
    assert_eq!(&copy, section);
    let mut copy = Section::new(section.epoch);
    while copy.ver < section.ver {
        let Some(delta) = section.delta_since(copy.ver, 2, usize::MAX) else { return };
        assert!(matches!(copy.apply_delta(&delta), Applied::Changed(_)));
    }
    assert!(copy.live().eq(section.live()));
}
