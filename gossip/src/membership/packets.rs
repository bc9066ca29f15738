//! Packets of the failure detector: what is let in, and what of it foca sees.

use std::net::SocketAddr;

use foca::Member;
use grapevine_protocol::Moment;

use super::Membership;
use super::effects::refused;
use super::foca_config::SWIM_BYTES_MAX;
use super::guard::told;
use super::heard::{Shown, has_news, put};
use super::sends::curb;
use crate::NodeId;
use crate::codec::{SHOWN_SENDER_BYTES, peek_header, sender_bytes, shown_sender, split_sender};
use crate::identity::Identity;

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
        let (node, epoch, parts) = split_sender(bytes).ok_or("dropped_swim_malformed")?;
        self.handle_short_swim(now, from, (node, epoch), &parts.concat())
    }

    /// The same without its sender's node and epoch, which are these.
    ///
    /// # Errors
    ///
    /// Why it was refused, as the name of a counter.
    pub fn handle_short_swim(
        &mut self,
        now: Moment,
        from: SocketAddr,
        (node, epoch): (NodeId, u64),
        bytes: &[u8],
    ) -> Result<(), &'static str> {
        self.effects.advance(now);
        if self.has_left {
            return Ok(());
        }
        if bytes.len() + sender_bytes(node, epoch) > SWIM_BYTES_MAX {
            return Err("dropped_swim_malformed");
        }
        let (src, kind, updates) =
            peek_header(bytes, node, epoch).ok_or("dropped_swim_malformed")?;
        let is_stranger = self.is_stranger(&src);
        if let Some(reason) = self.refusal(from, (&src, is_stranger), kind, updates) {
            return Err(reason);
        }
        let sent_before = self.effects.sends.len();
        self.effects.has_received = false;
        let is_full = !is_stranger && self.foca.updates_backlog() >= PASSED_ON_MAX;
        let mut packet = Shown::new();
        put(&mut packet, &shown_sender(node, epoch));
        let header_bytes = bytes.len() - updates.len();
        let news = if has_news(updates) {
            let about = (self.hash_key, self.me().addr, self.known_count());
            self.heard.sift(bytes, header_bytes, about, &mut packet)
        } else {
            put(&mut packet, bytes);
            Vec::new()
        };
        let mut not_passed_on: Vec<Member<Identity>> = Vec::new();
        if is_full {
            std::hint::cold_path();
            let header_end = SHOWN_SENDER_BYTES + header_bytes;
            not_passed_on.extend(told(&packet[header_end..]));
            packet.truncate(header_end);
        }
        let result = self.foca.handle_data(&packet, &mut self.effects);
        if is_stranger {
            self.curb_answer(&src, sent_before, bytes.len());
        }
        self.settle();
        // foca does not look at what a member that is down has to say.
        let is_active = self.active.get(&src.node) == Some(&src);
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

    /// Of what is sent after the first `kept` packets a stranger gets no more bytes than it sent,
    /// as they travel and with the node and epoch.
    #[cold]
    fn curb_answer(&mut self, stranger: &Identity, kept: usize, sent: usize) {
        let me = self.me();
        let [mine, its] = [me, *stranger].map(|id| sender_bytes(id.node, id.epoch));
        let bytes_max = (sent + its).saturating_sub(mine).min(sent);
        let curbs = (stranger.addr, bytes_max);
        self.effects.curbed += curb(&mut self.effects.sends, kept, me, curbs);
    }
}
