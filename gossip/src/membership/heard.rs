//! News that this node has heard before, so that nobody looks at it again.
//!
//! In SWIM each node sends each rumour eight times, so of eight rumours seven are known to whoever
//! gets them. What foca knows of a member only grows, by identity, incarnation and state, until the
//! member is forgotten a day after its death: the same news once more changes nothing. It is
//! recognised by its bytes, before they are decoded and before foca searches its members.

use arrayvec::ArrayVec;

use super::foca_config::SHOWN_BYTES_MAX;
use crate::codec::{endpoint, split_member};
use crate::identity::Endpoint;
use crate::keyed;

/// Places for each member: in a partition there are two rumours about each, and an alive one.
const PLACES_PER_MEMBER: usize = 2;

/// Fewest and most places, of 4 bytes each.
const PLACES: (usize, usize) = (64, 8192);

/// Room that is made for news that a packet brings.
const NEWS_USUAL: usize = 8;

/// Bytes of nearly all ports, after an address.
const PORT_BYTES_USUAL: usize = 3;

/// Hashes of the news heard last.
#[derive(Default)]
pub(super) struct Heard {
    /// Two neighbours are for the same news. Zero: none.
    places: Vec<Mark>,
}

/// What is kept of a hash: of two thousand million news one is taken for one of the two that are
/// kept in its place, and that node finds out by comparing views.
type Mark = u32;

/// A packet as foca is shown it, which is never longer.
pub(super) type Shown = ArrayVec<u8, SHOWN_BYTES_MAX>;

/// Whether a packet with these updates tells of anybody, which most do not while nothing happens.
pub(super) fn has_news(updates: &[u8]) -> bool {
    !matches!(updates.split_first_chunk::<2>(), None | Some(([0, 0], _)))
}

impl Heard {
    /// Puts `packet`, of which so many bytes are its header and the rest a count and so many
    /// members, into `shown`, without news that was heard before; the hashes of what is left are
    /// for [`believed`](Self::believed). News about `me` are never left out: each is to be refuted.
    /// `key` is of the hash, `members` how many are known. What cannot be read stays as it is.
    #[inline(never)]
    pub(super) fn sift(
        &mut self,
        packet: &[u8],
        header_bytes: usize,
        (key, me, members): (u64, Endpoint, usize),
        shown: &mut Shown,
    ) -> Vec<u64> {
        let begin = shown.len();
        let whole = |shown: &mut Shown, news| {
            shown.truncate(begin);
            put(shown, packet);
            news
        };
        let (header, updates) = packet.split_at(header_bytes);
        let Some((count, mut rest)) = updates.split_first_chunk::<2>() else {
            return whole(shown, Vec::new());
        };
        put(shown, header);
        let count_at = shown.len();
        put(shown, count);
        let count = u16::from_be_bytes(*count);
        self.make_room(members);
        let mut pending = Vec::with_capacity(usize::from(count).min(NEWS_USUAL));
        let me = endpoint(me);
        let me = me.as_slice();
        // The last byte of the address, where most differ, before all of it.
        let last = me.len().saturating_sub(PORT_BYTES_USUAL + 1);
        let mut kept: u16 = 0;
        for _ in 0..count {
            let Some(news) = split_member(&mut rest) else { return whole(shown, pending) };
            let is_about_me = news.get(last) == me.get(last) && news.starts_with(me);
            if !is_about_me {
                let hash = keyed::hash(key, news);
                if self.has(hash) {
                    continue;
                }
                pending.push(hash);
            }
            put(shown, news);
            kept += 1;
        }
        if !rest.is_empty() {
            return whole(shown, pending);
        }
        shown[count_at..count_at + 2].copy_from_slice(&kept.to_be_bytes());
        pending
    }

    /// These were believed.
    pub(super) fn believed(&mut self, news: &[u64]) {
        for &hash in news {
            let place = self.place(hash);
            // The older of the two goes.
            self.places[place ^ 1] = self.places[place];
            self.places[place] = mark(hash);
        }
    }

    /// Something was forgotten: all may be news.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn has(&self, hash: u64) -> bool {
        let place = self.place(hash);
        self.places[place..place + 2].contains(&mark(hash))
    }

    fn place(&self, hash: u64) -> usize {
        // An even place and the odd one after it; the number of places is a power of two.
        (hash as usize) & (self.places.len() - 1) & !1
    }

    fn make_room(&mut self, members: usize) {
        let (least, most) = PLACES;
        let wanted = (members * PLACES_PER_MEMBER).next_power_of_two().clamp(least, most);
        if self.places.len() < wanted {
            self.places = vec![0; wanted];
        }
    }
}

/// Appends to a packet that has room: what is shown of one is no longer than all of it.
#[inline]
pub(super) fn put(shown: &mut Shown, bytes: &[u8]) {
    shown.try_extend_from_slice(bytes).expect("a packet is no longer than the longest");
}

/// Of other bits than those that say where it is. Zero is for no news.
fn mark(hash: u64) -> Mark {
    ((hash >> 32) as Mark).max(1)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use foca::{Codec, Member, State};

    use super::*;
    use crate::NodeId;
    use crate::codec::SwimCodec;
    use crate::identity::Identity;

    fn endpoint(node: u64) -> Endpoint {
        SocketAddr::from(([10, 0, 0, node as u8], 4162)).into()
    }

    fn member(node: u64, incarnation: u16, state: State) -> Member<Identity> {
        let id = Identity { addr: endpoint(node), node: NodeId(node), epoch: 7, renew: 0 };
        Member::new(id, incarnation, state)
    }

    fn packet(members: &[Member<Identity>]) -> Vec<u8> {
        let mut bytes = b"header".to_vec();
        bytes.extend_from_slice(&(members.len() as u16).to_be_bytes());
        for member in members {
            SwimCodec.encode_member(member, &mut bytes).unwrap();
        }
        bytes
    }

    fn sifted(heard: &mut Heard, packet: &[u8]) -> (Vec<u8>, Vec<u64>) {
        let mut shown = Shown::new();
        let news = heard.sift(packet, b"header".len(), (1, endpoint(1), 10), &mut shown);
        (shown.to_vec(), news)
    }

    fn sift(heard: &mut Heard, packet: &[u8]) -> Vec<u8> {
        sifted(heard, packet).0
    }

    fn believe(heard: &mut Heard, packet: &[u8]) {
        let (_, news) = sifted(heard, packet);
        heard.believed(&news);
    }

    #[test]
    fn news_that_was_believed_is_left_out_and_other_news_is_not() {
        let mut heard = Heard::default();
        let old = member(2, 0, State::Suspect);
        let first = packet(std::slice::from_ref(&old));
        assert_eq!(sift(&mut heard, &first), first);
        assert_eq!(sift(&mut heard, &first), first, "nobody said that it was believed");
        believe(&mut heard, &first);
        let other = member(2, 1, State::Suspect);
        let both = packet(&[other.clone(), old]);
        assert_eq!(sift(&mut heard, &both), packet(&[other]));
        heard.clear();
        assert_eq!(sift(&mut heard, &both), both);
    }

    #[test]
    fn news_about_this_node_is_never_left_out() {
        let mut heard = Heard::default();
        let mine = packet(&[member(1, 0, State::Down)]);
        for _ in 0..2 {
            assert_eq!(sift(&mut heard, &mine), mine);
            believe(&mut heard, &mine);
        }
    }

    #[test]
    fn what_cannot_be_read_stays_as_it_is() {
        let mut heard = Heard::default();
        let whole = packet(&[member(2, 0, State::Alive), member(3, 0, State::Alive)]);
        believe(&mut heard, &whole);
        for len in b"header".len()..whole.len() {
            assert_eq!(sift(&mut heard, &whole[..len]), &whole[..len]);
        }
        let longer = [whole, b"rest".to_vec()].concat();
        assert_eq!(sift(&mut heard, &longer), longer, "custom broadcasts may follow");
    }
}
