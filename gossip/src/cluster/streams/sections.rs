//! Sections as they go by stream: deltas as long as they suffice, snapshots in parts.

use grapevine_protocol::Moment;

use super::{PASSED_ON_MAX, Role, STAGED_BYTES_MAX};
use crate::NodeId;
use crate::cluster::{Cluster, ConnId};
use crate::message::{Frame, Head, OwnedDelta, Purpose};
use crate::section::{Delta, Op, SECTION_BYTES_MAX, Section, Snapshot};

/// Bytes of writes in one frame, well below [`FRAME_BYTES_MAX`](crate::message::FRAME_BYTES_MAX).
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
        theirs.sort_unstable_by_key(|head| head.owner);
        let mine = self.catalogue.heads();
        mine.filter_map(|(owner, epoch, ver)| {
            let has = theirs.binary_search_by_key(&owner, |head| head.owner);
            let has = has.map_or((0, 0), |at| (theirs[at].epoch, theirs[at].ver));
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
        let (mut batch, mut batch_bytes) = (Vec::new(), 0);
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
            let (deltas, snapshot) = section_parts(section, have, is_whole);
            for delta in deltas {
                let bytes: usize = delta.ops.iter().map(Op::size).sum();
                sent += bytes;
                let bytes = bytes + DELTA_BYTES_MAX;
                if batch_bytes + bytes > FRAME_BATCH_BYTES_MAX {
                    self.write_batch(id, &mut batch);
                    batch_bytes = 0;
                }
                batch_bytes += bytes;
                batch.push(OwnedDelta { owner, delta });
            }
            if let Some(snapshot) = snapshot {
                self.write_batch(id, &mut batch);
                batch_bytes = 0;
                sent += self.write_snapshot(id, owner, snapshot);
            }
            let ends_early = buggify!("exchange_ends_early", luck[0], luck[1], luck[2]);
            if sent > EXCHANGE_BYTES_MAX || ends_early {
                sometimes!("exchange_cut");
                self.count("exchanges_cut");
                break;
            }
        }
        self.write_batch(id, &mut batch);
    }

    fn write_batch(&mut self, id: ConnId, batch: &mut Vec<OwnedDelta>) {
        if !batch.is_empty() {
            self.write(id, &Frame::Deltas(std::mem::take(batch)));
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

/// What comes after `have`: deltas, and a snapshot if they do not suffice or `is_whole`.
fn section_parts(section: &Section, have: u64, is_whole: bool) -> (Vec<Delta>, Option<Snapshot>) {
    let mut deltas = Vec::new();
    let mut from = have;
    while !is_whole && let Some(delta) = section.delta_since(from, usize::MAX, FRAME_OPS_BYTES_MAX)
    {
        from = delta.to;
        deltas.push(delta);
        if from == section.ver {
            return (deltas, None);
        }
    }
    (deltas, Some(section.snapshot()))
}
