//! Packets of the failure detector: what is let in, and what of it foca sees.

use std::net::SocketAddr;

use foca::{Codec, Member};
use grapevine_protocol::Moment;

use super::Membership;
use super::effects::refused;
use super::guard::told;
use super::heard::{Sifted, has_news};
use super::sends::curb;
use crate::codec::{SwimCodec, sender_bytes};
use crate::identity::Identity;
use crate::message::DATAGRAM_BYTES_MAX;

/// Rumours about members in line from which on what packets tell is believed but not passed on: so
/// many take a second, and comparisons of views are faster than more of them. Each takes some 150
/// bytes, and room for them is never given back.
const PASSED_ON_MAX: usize = 96;

impl Membership {
    /// A packet of the failure detector that came from `from`.
    ///
    /// # Errors
    ///
    /// Why it was refused, as the name of a counter.
    pub fn handle_swim(
        &mut self,
        now: Moment,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), &'static str> {
        self.effects.advance(now);
        if self.has_left {
            return Ok(());
        }
        let mut updates = bytes;
        let header = SwimCodec.decode_header(&mut updates).map_err(|_| "dropped_swim_malformed")?;
        let is_stranger = self.is_stranger(&header.src);
        if let Some(reason) = self.refusal(from, (&header, is_stranger), updates) {
            return Err(reason);
        }
        let sent_before = self.effects.sends.len();
        self.effects.has_received = false;
        let about = (self.hash_key, self.me().addr, self.known_count());
        let header_bytes = bytes.len() - updates.len();
        let is_full = !is_stranger && self.foca.updates_backlog() >= PASSED_ON_MAX;
        let mut room;
        let Sifted { mut packet, news } = if has_news(updates) {
            room = [0; DATAGRAM_BYTES_MAX];
            self.heard.sift(bytes, updates.len(), about, &mut room)
        } else {
            Sifted { packet: bytes, news: Vec::new() }
        };
        let mut not_passed_on: Vec<Member<Identity>> = Vec::new();
        if is_full {
            std::hint::cold_path();
            not_passed_on.extend(told(&packet[header_bytes..]));
            packet = &packet[..header_bytes];
        }
        let result = self.foca.handle_data(packet, &mut self.effects);
        if is_stranger {
            std::hint::cold_path();
            // As they travel: without the node and epoch of who sends them.
            let (src, me) = (header.src, self.me());
            let saved = |id: Identity| sender_bytes(id.node, id.epoch);
            let bytes_max = (bytes.len() + saved(me)).saturating_sub(saved(src)).min(bytes.len());
            self.effects.curbed += curb(&mut self.effects.sends, sent_before, src.addr, bytes_max);
        }
        self.settle();
        // foca does not look at what a member that is down has to say.
        let is_active = self.active.get(&header.src.node) == Some(&header.src);
        if result.is_ok() && self.effects.has_received && is_active {
            if !not_passed_on.is_empty() {
                std::hint::cold_path();
                let news = not_passed_on.into_iter();
                if let Err(error) = self.foca.apply_many(news, false, &mut self.effects) {
                    refused(&error, "news of members");
                }
                self.settle();
            }
            if !news.is_empty() {
                self.heard.believed(&news);
            }
        }
        match result {
            Ok(()) => Ok(()),
            Err(foca::Error::DataFromOurselves | foca::Error::IndirectForOurselves) => Ok(()),
            Err(_) => Err("dropped_swim_malformed"),
        }
    }
}
