//! Who lists whom: one cell for each node and each owner, and how many of them are right.
//!
//! Everything is kept up as it changes, so that agreement is known at every moment by comparing
//! two numbers.

use std::collections::VecDeque;

use grapevine_gossip::NodeId;
use grapevine_gossip::catalogue::Replica;
use grapevine_gossip::section::Section;
use grapevine_protocol::Moment;
use rustc_hash::FxHashMap;

/// Writes of an owner that are remembered with their times; beyond it the oldest are left out, so
/// that a copy seems less old than it is.
const WRITES_MAX: usize = 4096;

/// Index of no node.
pub(super) const NOBODY: usize = usize::MAX;

/// What one node shows of one owner.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cell {
    /// Of epoch, version and live keys, if they may be shown; 0: they may not.
    pub(super) shown: u64,
    /// Version of the copy.
    pub(super) ver: u32,
    /// Which of the owner's lives is an active member here, counted from 1; 0: none.
    pub(super) life: u32,
    /// When `life` last changed, in ms from the start of the run; 0: never.
    pub(super) listed_ms: u32,
    /// When what is shown last changed.
    pub(super) shown_ms: u32,
}

/// What has to be believed of an owner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// It is a member in its present life.
    Member,
    /// It is no member.
    Gone,
    /// Anything: it has a twin, or it is not among those who were mended.
    Any,
}

/// A node id and who had it.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) id: NodeId,
    /// Node that runs with it, or last did.
    pub(super) node: usize,
    /// Epochs, in the order they were seen: its lives.
    epochs: Vec<u64>,
    /// The present life.
    pub(super) life: u32,
    pub(super) standing: Standing,
    /// Since when its standing and its life are what they are.
    pub(super) since: Moment,
    /// Some node other than itself has had its present life for a member.
    pub(super) is_admitted: bool,
    /// As [`Cell::shown`], of its own section.
    pub(super) head: u64,
    pub(super) ver: u64,
    writes: VecDeque<(u64, Moment)>,
    /// Epoch in which it last said goodbye.
    pub(super) left_epoch: Option<u64>,
    /// When somebody first knew that its present life has left.
    pub(super) left_at: Option<Moment>,
    /// Two processes had the id at once.
    pub(super) has_twin: bool,
    runs: bool,
}

impl Owner {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch_of(self.life)
    }

    pub(super) fn epoch_of(&self, life: u32) -> u64 {
        let at = (life as usize).checked_sub(1);
        at.and_then(|at| self.epochs.get(at)).copied().unwrap_or(0)
    }

    fn life_of(&mut self, epoch: u64) -> u32 {
        let at = self.epochs.iter().rposition(|known| *known == epoch).unwrap_or_else(|| {
            self.epochs.push(epoch);
            self.epochs.len() - 1
        });
        at as u32 + 1
    }

    /// When the first write after `ver` was made.
    pub(super) fn written_after(&self, ver: u64) -> Option<Moment> {
        let at = self.writes.partition_point(|(written, _)| *written <= ver);
        self.writes.get(at).map(|(_, at)| *at)
    }
}

/// One node and what it shows.
#[derive(Debug, Default)]
pub(super) struct Viewer {
    /// Its own entry among the owners.
    pub(super) owner: usize,
    pub(super) runs: bool,
    /// Start of its process.
    pub(super) since: Moment,
    pub(super) cells: Vec<Cell>,
    /// Cells of members that list the present life.
    right: u32,
    /// Those of them that show what the owner wrote.
    current: u32,
    /// Cells that list who is gone.
    ghosts: u32,
}

/// Everyone's view of everyone.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) owners: Vec<Owner>,
    pub(super) viewers: Vec<Viewer>,
    owner_of: FxHashMap<NodeId, usize>,
    /// Owners that are members. Each of them is a node whose view counts.
    pub(super) members: usize,
    right: u64,
    current: u64,
    ghosts: u64,
    /// Only these nodes count.
    core: Option<Vec<usize>>,
}

/// How a cell changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) owner: usize,
    pub(super) before: Cell,
    pub(super) after: Cell,
}

impl Table {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            owners: Vec::new(),
            viewers: (0..nodes).map(|_| Viewer { owner: NOBODY, ..Viewer::default() }).collect(),
            owner_of: FxHashMap::default(),
            members: 0,
            right: 0,
            current: 0,
            ghosts: 0,
            core: None,
        }
    }

    /// All that run list each other and nobody else.
    pub(super) fn is_agreed(&self) -> bool {
        let pairs = self.pairs();
        self.members > 0 && self.ghosts == 0 && self.right == pairs
    }

    /// ... and show of each other what each wrote.
    pub(super) fn is_current(&self) -> bool {
        self.is_agreed() && self.current == self.pairs()
    }

    fn pairs(&self) -> u64 {
        (self.members * self.members.saturating_sub(1)) as u64
    }

    /// Whether the view of node `at` counts.
    pub(super) fn is_judged(&self, at: usize) -> bool {
        let viewer = &self.viewers[at];
        viewer.runs
            && self
                .owners
                .get(viewer.owner)
                .is_some_and(|own| own.node == at && own.standing == Standing::Member)
    }

    /// Whether the view of node `at` is as it should be.
    pub(super) fn is_right(&self, at: usize) -> bool {
        let viewer = &self.viewers[at];
        let others = self.members.saturating_sub(1) as u32;
        viewer.ghosts == 0 && viewer.right == others && viewer.current == others
    }

    /// The owner with this id, if there ever was one.
    pub(super) fn find(&self, id: NodeId) -> Option<usize> {
        self.owner_of.get(&id).copied()
    }

    /// The owner with this id.
    pub(super) fn owner(&mut self, id: NodeId, now: Moment) -> usize {
        *self.owner_of.entry(id).or_insert_with(|| {
            self.owners.push(Owner {
                id,
                node: NOBODY,
                epochs: Vec::new(),
                life: 0,
                standing: Standing::Gone,
                since: now,
                is_admitted: false,
                head: 0,
                ver: 0,
                writes: VecDeque::new(),
                left_epoch: None,
                left_at: None,
                has_twin: false,
                runs: false,
            });
            self.owners.len() - 1
        })
    }

    /// A process of node `at` starts. `counts`: others must list it.
    pub(super) fn started(&mut self, at: usize, id: NodeId, epoch: u64, counts: bool, now: Moment) {
        let index = self.owner(id, now);
        let owner = &mut self.owners[index];
        owner.has_twin |= owner.runs && owner.node != at;
        let has_twin = owner.has_twin;
        if has_twin {
            self.stand(index, Standing::Any, now);
        }
        self.owners[index].node = at;
        self.owners[index].runs = true;
        let cells = vec![Cell::default(); self.owners.len()];
        self.viewers[at] =
            Viewer { owner: index, runs: true, since: now, cells, ..Viewer::default() };
        let is_in = self.core.as_ref().is_none_or(|core| core.contains(&at));
        self.live(index, epoch, now);
        let standing = match (counts, has_twin || !is_in) {
            (_, true) => Standing::Any,
            (true, _) => Standing::Member,
            (false, _) => Standing::Gone,
        };
        self.stand(index, standing, now);
    }

    /// The process of node `at` ended.
    pub(super) fn ended(&mut self, at: usize, now: Moment) {
        let own = self.viewers[at].owner;
        if !std::mem::take(&mut self.viewers[at].runs) {
            return;
        }
        if let Some(owner) = self.owners.get_mut(own)
            && owner.node == at
        {
            owner.runs = false;
            self.dismiss(own, now);
        }
        self.viewers[at] = Viewer { owner: NOBODY, ..Viewer::default() };
    }

    /// An owner is to be forgotten from now on.
    pub(super) fn dismiss(&mut self, index: usize, now: Moment) {
        if self.owners[index].standing == Standing::Member {
            self.stand(index, Standing::Gone, now);
        }
    }

    /// From now on only these nodes count.
    pub(super) fn restrict(&mut self, core: &[usize], now: Moment) {
        for index in 0..self.owners.len() {
            if !core.contains(&self.owners[index].node) {
                self.stand(index, Standing::Any, now);
            }
        }
        self.core = Some(core.to_vec());
    }

    /// Owner `index` is in the life `epoch` from now on.
    pub(super) fn live(&mut self, index: usize, epoch: u64, now: Moment) {
        let standing = self.owners[index].standing;
        self.stand(index, Standing::Any, now);
        let owner = &mut self.owners[index];
        owner.life = owner.life_of(epoch);
        owner.is_admitted = false;
        owner.left_at = None;
        (owner.head, owner.ver) = (0, 0);
        owner.writes.clear();
        self.stand(index, standing, now);
    }

    fn stand(&mut self, index: usize, standing: Standing, now: Moment) {
        let was = std::mem::replace(&mut self.owners[index].standing, standing);
        if was == standing {
            return;
        }
        self.owners[index].since = now;
        // What its own node sees counts exactly as long as it is a member.
        if was == Standing::Member || standing == Standing::Member {
            let node = self.owners[index].node;
            let viewer = self.viewers.get(node).filter(|viewer| viewer.owner == index);
            let (right, current, ghosts) = viewer.map_or((0, 0, 0), |viewer| {
                (u64::from(viewer.right), u64::from(viewer.current), u64::from(viewer.ghosts))
            });
            if standing == Standing::Member {
                self.members += 1;
                self.right += right;
                self.current += current;
                self.ghosts += ghosts;
            } else {
                self.members -= 1;
                self.right -= right;
                self.current -= current;
                self.ghosts -= ghosts;
            }
        }
        for at in 0..self.viewers.len() {
            let Some(cell) = self.cell(at, index) else { continue };
            if cell.life == 0 && cell.shown == 0 {
                continue;
            }
            self.count(at, index, was, cell, false);
            self.count(at, index, standing, cell, true);
        }
    }

    /// What node `at` shows of owner `index`, unless that is itself.
    pub(super) fn cell(&self, at: usize, index: usize) -> Option<Cell> {
        let viewer = &self.viewers[at];
        if !viewer.runs || viewer.owner == index {
            return None;
        }
        Some(viewer.cells.get(index).copied().unwrap_or_default())
    }

    /// Counts a cell, or no longer.
    fn count(&mut self, at: usize, index: usize, standing: Standing, cell: Cell, is_added: bool) {
        let owner = &self.owners[index];
        let (mut right, mut current, mut ghosts) = (0, 0, 0);
        match standing {
            Standing::Member if cell.life == owner.life => {
                right = 1;
                current = u32::from(cell.shown == owner.head);
            }
            Standing::Gone if cell.life != 0 => ghosts = 1,
            Standing::Member | Standing::Gone | Standing::Any => return,
        }
        let is_judged = self.is_judged(at);
        let viewer = &mut self.viewers[at];
        if is_added {
            viewer.right += right;
            viewer.current += current;
            viewer.ghosts += ghosts;
        } else {
            viewer.right -= right;
            viewer.current -= current;
            viewer.ghosts -= ghosts;
        }
        if !is_judged {
            return;
        }
        let (right, current, ghosts) = (u64::from(right), u64::from(current), u64::from(ghosts));
        if is_added {
            self.right += right;
            self.current += current;
            self.ghosts += ghosts;
        } else {
            self.right -= right;
            self.current -= current;
            self.ghosts -= ghosts;
        }
    }

    fn change(&mut self, at: usize, index: usize, what: impl FnOnce(&mut Cell)) -> Option<Step> {
        let before = self.cell(at, index)?;
        let mut after = before;
        what(&mut after);
        if (before.life, before.shown, before.ver) == (after.life, after.shown, after.ver) {
            return None;
        }
        let standing = self.owners[index].standing;
        self.count(at, index, standing, before, false);
        let cells = &mut self.viewers[at].cells;
        if cells.len() <= index {
            cells.resize(self.owners.len(), Cell::default());
        }
        cells[index] = after;
        self.count(at, index, standing, after, true);
        Some(Step { owner: index, before, after })
    }

    /// Node `at` has the life `epoch` of `id` for a member, or none with `None`.
    pub(super) fn lists(
        &mut self,
        at: usize,
        id: NodeId,
        epoch: Option<u64>,
        now: Moment,
    ) -> Option<Step> {
        let index = self.owner(id, now);
        let life = epoch.map_or(0, |epoch| self.owners[index].life_of(epoch));
        let step = self.change(at, index, |cell| {
            if cell.life != life {
                cell.life = life;
                cell.listed_ms = ms(now);
            }
        });
        let owner = &mut self.owners[index];
        owner.is_admitted |= step.is_some() && life != 0 && life == owner.life;
        step
    }

    /// Node `at` may have another copy of what owner `index` wrote.
    pub(super) fn holds(
        &mut self,
        at: usize,
        index: usize,
        replica: Option<&Replica>,
        now: Moment,
    ) -> Option<Step> {
        let shown = replica.filter(|replica| replica.is_shown());
        let shown = shown.map_or(0, |replica| fingerprint(&replica.section));
        let ver = replica.map_or(0, |replica| replica.section.ver);
        self.change(at, index, |cell| {
            cell.ver = u32::try_from(ver).unwrap_or(u32::MAX);
            if cell.shown != shown {
                cell.shown = shown;
                cell.shown_ms = ms(now);
            }
        })
    }

    /// Whether the owner of node `at` has written into its own section since
    /// [`wrote`](Self::wrote) was called.
    pub(super) fn is_news(&self, at: usize, own: &Section) -> bool {
        let owner = &self.owners[self.viewers[at].owner];
        owner.head != fingerprint(own) && owner.node == at
    }

    /// The owner of node `at` wrote into its own section.
    pub(super) fn wrote(&mut self, at: usize, own: &Section, now: Moment) {
        let index = self.viewers[at].owner;
        let head = fingerprint(own);
        if self.owners[index].epoch() != own.epoch {
            self.live(index, own.epoch, now);
        }
        for viewer in 0..self.viewers.len() {
            self.recount_current(viewer, index, head);
        }
        let owner = &mut self.owners[index];
        owner.head = head;
        owner.ver = own.ver;
        if owner.writes.back().is_none_or(|(ver, _)| *ver < own.ver) {
            owner.writes.push_back((own.ver, now));
        }
        if owner.writes.len() > WRITES_MAX {
            owner.writes.pop_front();
        }
    }

    /// The owner's head becomes another.
    fn recount_current(&mut self, at: usize, index: usize, head: u64) {
        let owner = &self.owners[index];
        let Some(cell) = self
            .cell(at, index)
            .filter(|cell| owner.standing == Standing::Member && cell.life == owner.life)
        else {
            return;
        };
        let (was, is) = (cell.shown == owner.head, cell.shown == head);
        if was == is {
            return;
        }
        let is_judged = self.is_judged(at);
        let viewer = &mut self.viewers[at];
        if is {
            viewer.current += 1;
            self.current += u64::from(is_judged);
        } else {
            viewer.current -= 1;
            self.current -= u64::from(is_judged);
        }
    }
}

/// One number for epoch, version and live keys of a section; never 0.
fn fingerprint(section: &Section) -> u64 {
    let words = [section.epoch, section.ver, section.live_hash().unwrap_or(0)];
    let mixed = words.into_iter().fold(0, |hash: u64, word| {
        let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    });
    mixed | 1
}

/// Milliseconds from the start of the run; 49 days at most.
pub(super) fn ms(now: Moment) -> u32 {
    u32::try_from(now.as_nanos() / 1_000_000).unwrap_or(u32::MAX).max(1)
}

/// The moment of [`ms`].
pub(super) fn moment(ms: u32) -> Moment {
    Moment(u64::from(ms) * 1_000_000)
}
