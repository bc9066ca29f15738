//! Sections as they go by stream: deltas as long as they suffice, snapshots in parts.

use grapevine_protocol::Moment;

use super::{PASSED_ON_MAX, Role, STAGED_BYTES_MAX};
use crate::NodeId;
use crate::cluster::batch::{delta_bytes_max, encode_whole};
use crate::cluster::{Cluster, ConnId, Output};
use crate::codec::{DELTAS_HEAD_BYTES_MAX, deltas_frame, encode_into};
use crate::message::{DELTA_OPS_MAX, FRAME_BYTES_MAX, Frame, Head, OwnedDelta, Purpose};
use crate::section::{Op, SECTION_BYTES_MAX, Section, Snapshot};

/// Bytes of writes in one frame, well below [`FRAME_BYTES_MAX`].
const FRAME_OPS_BYTES_MAX: usize = 48 * 1024;

/// The same of many small deltas: most bytes of one, and what each takes besides its writes.
const FRAME_BATCH_BYTES_MAX: usize = FRAME_OPS_BYTES_MAX + DELTA_BYTES_MAX;

/// Owner, epoch, where it begins and ends, floor: nine bytes each; and the length and number of
/// writes.
const DELTA_BYTES_MAX: usize = 5 * 9 + 2 * 5;

/// Bytes of sections one exchange carries; what is left is found by the next digest.
const EXCHANGE_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Cluster {
    /// Takes part of a snapshot; it counts when the last part is there. False if the stream must
    /// end.
    pub(super) fn take_part(
        &mut self,
        now: Moment,
        id: ConnId,
        owner: NodeId,
        part: Snapshot,
        is_last: bool,
    ) -> bool {
        let Some(conn) = self.streams.conns.get_mut(&id) else { return false };
        conn.sections += usize::from(is_last);
        let passes_on = !matches!(conn.role, Role::Opener { purpose: Purpose::Join, .. })
            && conn.sections <= PASSED_ON_MAX;
        let Some((peer, _)) = conn.hello else { return false };
        let bytes: usize = part.ops.iter().map(Op::size).sum();
        let empty = || (owner, Snapshot { ops: vec![], ..part.clone() }, 0);
        let (of, staged, size) = conn.staged.get_or_insert_with(empty);
        let is_same = *of == owner
            && (staged.epoch, staged.ver, staged.floor) == (part.epoch, part.ver, part.floor);
        *size += bytes;
        if !is_same || *size > SECTION_BYTES_MAX {
            return false;
        }
        staged.ops.extend(part.ops);
        if is_last && let Some((_, snapshot, _)) = conn.staged.take() {
            self.take_snapshot(now, peer.node, owner, &snapshot, passes_on);
        }
        let (.., staged_bytes) = self.streams.sizes();
        staged_bytes <= STAGED_BYTES_MAX
    }

    /// What this node has more of than one that has `theirs`, from where it has to begin.
    pub(super) fn lacking(&self, mut theirs: Vec<Head>) -> Vec<(NodeId, (u64, u64))> {
        // In order already, but for the sender's own.
        theirs.sort_by_key(|head| head.owner);
        let mut at = 0;
        let mine = self.catalogue.heads();
        mine.filter_map(|(owner, epoch, ver)| {
            // So are these.
            if at > 0 && theirs[at - 1].owner >= owner {
                at = theirs.partition_point(|head| head.owner < owner);
            }
            at += theirs[at..].iter().take_while(|head| head.owner < owner).count();
            let has = theirs.get(at).filter(|head| head.owner == owner);
            let has = has.map_or((0, 0), |head| (head.epoch, head.ver));
            (has < (epoch, ver)).then_some((owner, has))
        })
        .collect()
    }

    /// Sends each owner's section from `(epoch, version)` on: as deltas, or whole where the
    /// deletions in between have been forgotten.
    pub(super) fn write_sections(
        &mut self,
        now: Moment,
        id: ConnId,
        wanted: Vec<(NodeId, (u64, u64))>,
    ) {
        let luck = [self.boot.seed, now.0, id.0];
        let mut sent = 0;
        // Of a large cluster's sections most have changed little: many go in one frame.
        let mut frames = Frames::default();
        for (owner, (epoch, have)) in wanted {
            let serves = owner == self.boot.node || self.membership.active().contains_key(&owner);
            let Some(section) = self.catalogue.section(owner).filter(|_| serves) else { continue };
            let have = if section.epoch == epoch { have } else { 0 };
            if section.ver <= have || section.epoch < epoch {
                continue;
            }
            if have < section.floor {
                sometimes!("snapshot_below_floor");
            }
            let is_whole =
                buggify!("snapshot_instead_of_delta", luck[0], luck[1], luck[2], owner.0);
            let (size, snapshot) = frames.add((owner, section), have, is_whole);
            sent += size;
            let open = usize::from(snapshot.is_none());
            self.write_frames(id, &mut frames, open);
            if let Some(snapshot) = snapshot {
                sent += self.write_snapshot(id, owner, snapshot);
            }
            let ends_early = buggify!("exchange_ends_early", luck[0], luck[1], luck[2]);
            if sent > EXCHANGE_BYTES_MAX || ends_early {
                sometimes!("exchange_cut");
                self.count("exchanges_cut");
                break;
            }
        }
        self.write_frames(id, &mut frames, 0);
    }

    /// Writes the frame that `encode` appends, of about so many bytes.
    pub(super) fn write_encoded(
        &mut self,
        id: ConnId,
        about: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        // A twin that stopped says nothing more, on streams that were on their way either.
        if self.is_stopped {
            return;
        }
        let bytes = self.sealed(about, encode);
        debug_assert!(bytes.len() <= FRAME_BYTES_MAX, "frames are cut before they are written");
        self.outputs.push_back(Output::Write(id, bytes));
    }

    /// Writes all but the last `open` of them, to which more may be added.
    fn write_frames(&mut self, id: ConnId, frames: &mut Frames, open: usize) {
        let full = frames.0.len().saturating_sub(open);
        for Deltas { count, bytes, .. } in frames.0.drain(..full) {
            let encode = |frame: &mut Vec<u8>| deltas_frame(count, &bytes, frame);
            self.write_encoded(id, DELTAS_HEAD_BYTES_MAX + bytes.len(), encode);
        }
    }

    /// Bytes of the writes in it.
    fn write_snapshot(&mut self, id: ConnId, owner: NodeId, snapshot: Snapshot) -> usize {
        let Snapshot { epoch, ver, floor, ops } = snapshot;
        let mut parts: Vec<(Vec<Op>, usize)> = vec![(vec![], 0)];
        for op in ops {
            let size = op.size();
            match parts.last_mut() {
                Some((part, bytes)) if *bytes + size <= FRAME_OPS_BYTES_MAX => {
                    *bytes += size;
                    part.push(op);
                }
                Some(_) | None => parts.push((vec![op], size)),
            }
        }
        self.count("snapshot_sent");
        sometimes!("snapshot_sent");
        let last = parts.len() - 1;
        let mut sent = 0;
        for (at, (ops, bytes)) in parts.into_iter().enumerate() {
            sent += bytes;
            let is_last = at == last;
            self.write(id, &Frame::Snapshot { owner, epoch, ver, floor, ops, is_last });
        }
        sent
    }
}

/// Deltas of one frame, encoded.
#[derive(Default)]
struct Deltas {
    count: usize,
    bytes: Vec<u8>,
    /// Upper bound of the size of `bytes`.
    size: usize,
}

/// Deltas in as few frames as they fit; more may go into the last.
#[derive(Default)]
struct Frames(Vec<Deltas>);

impl Frames {
    /// Adds what comes after `have`. An upper bound of what the writes take, and a snapshot that is
    /// to follow them if they do not suffice or `is_whole`.
    fn add(
        &mut self,
        (owner, section): (NodeId, &Section),
        have: u64,
        is_whole: bool,
    ) -> (usize, Option<Snapshot>) {
        if !is_whole
            && have == 0
            && let Some((ops, size)) = section.encoded(DELTA_OPS_MAX, delta_bytes_max())
        {
            encode_whole((owner, section), ops, self.room_for(size));
            return (size, None);
        }
        let (mut from, mut sent) = (have, 0);
        while !is_whole
            && let Some(delta) = section.delta_since(from, usize::MAX, FRAME_OPS_BYTES_MAX)
        {
            from = delta.to;
            let size = delta.ops.iter().map(Op::size).sum();
            sent += size;
            encode_into(&OwnedDelta { owner, delta }, self.room_for(size));
            if from == section.ver {
                return (sent, None);
            }
        }
        (sent, Some(section.snapshot()))
    }

    /// Where one more goes, whose writes take `size` bytes.
    fn room_for(&mut self, size: usize) -> &mut Vec<u8> {
        let size = size + DELTA_BYTES_MAX;
        let at = match self.0.last() {
            Some(last) if last.size + size <= FRAME_BATCH_BYTES_MAX => self.0.len() - 1,
            Some(_) | None => {
                self.0.push(Deltas::default());
                self.0.len() - 1
            }
        };
        let deltas = &mut self.0[at];
        deltas.count += 1;
        deltas.size += size;
        &mut deltas.bytes
    }
}
