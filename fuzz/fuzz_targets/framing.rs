//! Stream framing: the same frames come out however the bytes are cut.
#![no_main]

use grapevine_gossip::framing::Splitter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&step, data)) = data.split_first() else { return };
    let (whole, error) = split(data, data.len().max(1));
    let (parts, part_error) = split(data, usize::from(step).max(1));
    assert_eq!((&whole, error), (&parts, part_error));
    let mut at = 0;
    for frame in &whole {
        assert_eq!(&data[at + 4..at + 4 + frame.len()], frame);
        at += 4 + frame.len();
    }
});

fn split(data: &[u8], step: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut splitter, mut frames) = (Splitter::default(), Vec::new());
    for part in data.chunks(step) {
        splitter.push(part);
        loop {
            match splitter.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}
