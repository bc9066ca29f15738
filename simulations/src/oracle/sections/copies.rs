//! What a copy may be after an event, from what the event did to it.
//!
//! Only the touched keys and the versions that were passed are looked at. What was right before
//! and was not touched is right still: a write that a copy has passed can only cease to be its
//! key's last by a later one, which is looked at when the copy passes that.

use grapevine_gossip::audit::Touch;
use grapevine_gossip::section::Section;

use super::rules::{AHEAD, BACK, Broken, FOREIGN, LOST, OLDER, UNDEAD, UNLIKE};
use super::truth::{Log, LogId, Owner, Truth, Write, name, state};

/// What a node held of an owner when it was last looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    /// The log it is a copy of; stays when the copy is dropped.
    log: Option<LogId>,
    /// It is there.
    is_held: bool,
    ver: u64,
}

impl Held {
    /// The copy is gone. The epoch it had, if there was one.
    pub(super) fn drop_it(&mut self, truth: &Truth) -> Option<u64> {
        let log = self.log.filter(|_| self.is_held)?;
        self.is_held = false;
        Some(truth.log(log).epoch)
    }

    /// Its version, if it is a copy of `log`.
    fn ver_of(&self, log: LogId) -> Option<u64> {
        (self.is_held && self.log == Some(log)).then_some(self.ver)
    }
}

/// A copy after an event.
pub(super) struct Copied<'a> {
    pub(super) owner: Owner,
    pub(super) section: &'a Section,
    /// Changes of its keys, in order.
    pub(super) touches: &'a [Touch],
    /// The owner's disk was put back, copied or lied: an older epoch may come after a newer one.
    pub(super) is_doubted: bool,
}

impl Copied<'_> {
    /// Compares the copy with what was held of it before, and with what the owner wrote.
    pub(super) fn check(
        &self,
        truth: &Truth,
        held: &mut Held,
        put: &mut Vec<u64>,
    ) -> Result<(), Broken> {
        let Section { epoch, ver, .. } = *self.section;
        if (epoch, ver) == (0, 0) {
            // The owner is a member, and nothing is known of it yet.
            held.is_held = false;
            return Ok(());
        }
        self.check_epoch(truth, held)?;
        let known = held.log.filter(|&log| truth.log(log).epoch == epoch);
        let Some(id) = known.or_else(|| truth.find(self.owner, epoch)) else {
            let node = truth.nodes(self.owner).last().copied().unwrap_or_default();
            let what = format!("owner={node} epoch={epoch} ver={ver} written=none");
            return Err(Broken::new(&AHEAD, what));
        };
        let log = truth.log(id);
        let before = held.ver_of(id);
        if !log.is_contested {
            self.check_version(log, before)?;
            if before.is_none() && self.section.len() > self.touches.len() {
                let what = format!("owner={} keys={} written=0", log.node, self.section.len());
                return Err(Broken::new(&FOREIGN, what));
            }
            self.check_touches(log, before.unwrap_or(0), put)?;
            self.check_passed(log, before.unwrap_or(0), put)?;
            self.check_like_owner(log)?;
        }
        *held = Held { log: Some(id), is_held: true, ver };
        Ok(())
    }

    /// No epoch below one that was shown, except after a fault that hides it from the owner itself.
    fn check_epoch(&self, truth: &Truth, held: &Held) -> Result<(), Broken> {
        let Some(log) = held.log.map(|log| truth.log(log)) else { return Ok(()) };
        let excused = self.is_doubted && !held.is_held;
        if self.section.epoch >= log.epoch || excused {
            return Ok(());
        }
        let epoch = self.section.epoch;
        Err(Broken::new(&OLDER, format!("owner={} epoch={epoch} held={}", log.node, log.epoch)))
    }

    /// At the owner's own version it has the owner's own live keys.
    fn check_like_owner(&self, log: &Log) -> Result<(), Broken> {
        let ver = self.section.ver;
        let hash = self.section.live_hash();
        if ver != log.head() || hash.is_none_or(|hash| hash == log.live_hash) {
            return Ok(());
        }
        let live = self.section.live().count();
        Err(Broken::new(&UNLIKE, format!("owner={} ver={ver} live-keys={live}", log.node)))
    }

    fn check_version(&self, log: &Log, before: Option<u64>) -> Result<(), Broken> {
        let ver = self.section.ver;
        if ver > log.head() {
            let what = format!("owner={} ver={ver} written={}", log.node, log.head());
            return Err(Broken::new(&AHEAD, what));
        }
        match before.filter(|&before| ver < before) {
            Some(before) => {
                let what = format!("owner={} ver={ver} held={before}", log.node);
                Err(Broken::new(&BACK, what))
            }
            None => Ok(()),
        }
    }

    /// What was put is the owner's and no older than what was there; what was removed was over.
    /// Afterwards `put` has the versions that were put, rising.
    fn check_touches(&self, log: &Log, before: u64, put: &mut Vec<u64>) -> Result<(), Broken> {
        put.clear();
        for touch in self.touches {
            let Some(entry) = &touch.after else {
                self.check_removal(log, touch, before)?;
                continue;
            };
            let told = || {
                let (node, key, is) = (log.node, name(&touch.key), state(entry.value.as_ref()));
                format!("owner={node} key={key} ver={} is={is}", entry.ver)
            };
            let write = log
                .write(entry.ver)
                .filter(|write| *log.key_of(write) == touch.key && write.value == entry.value);
            let Some(write) = write else { return Err(Broken::new(&FOREIGN, told())) };
            if touch.before.is_some_and(|had| had > entry.ver) {
                let what = format!("{} held={}", told(), touch.before.unwrap_or(0));
                return Err(Broken::new(&OLDER, what));
            }
            let last = if entry.ver <= before { log.last_at(write, before) } else { 0 };
            // A deletion that has been forgotten may come again: nobody sees it.
            if last > entry.ver || (last == entry.ver && entry.value.is_some()) {
                // It has this write, or a later one of the key: whatever puts it there again takes
                // old for new, or has emptied the copy.
                let is_dead = log.write(last).is_some_and(|last| last.value.is_none());
                let rule = if is_dead && last > entry.ver { &UNDEAD } else { &OLDER };
                return Err(Broken::new(rule, format!("{} held={last}", told())));
            }
            put.push(entry.ver);
        }
        if !put.is_sorted() {
            put.sort_unstable();
        }
        Ok(())
    }

    /// A key may go if its last write is a deletion that the floor covers, or if the copy does not
    /// reach its last write.
    fn check_removal(&self, log: &Log, touch: &Touch, before: u64) -> Result<(), Broken> {
        let had = touch.before.unwrap_or(0);
        let Some(write) = log.write(had).filter(|write| !write.is_overwritten) else {
            return Ok(());
        };
        if self.may_lack(had, write) {
            return Ok(());
        }
        if before == self.section.ver {
            // Keys go and the version stays: that it is now unlike its owner's is the worse of it.
            self.check_like_owner(log)?;
        }
        let (node, key, floor) = (log.node, name(&touch.key), self.section.floor);
        let is = state(write.value.as_ref());
        let what = format!("owner={node} key={key} ver={had} is={is} held=none floor={floor}");
        Err(Broken::new(&LOST, what))
    }

    /// Every version that was passed was put, unless a later write of its key replaces it.
    fn check_passed(&self, log: &Log, before: u64, put: &[u64]) -> Result<(), Broken> {
        let mut put = put.iter().copied().peekable();
        for (ver, write) in log.between(before, self.section.ver) {
            while put.next_if(|&other| other < ver).is_some() {}
            let is_put = put.next_if_eq(&ver).is_some();
            if !is_put && !write.is_overwritten && !self.may_lack(ver, write) {
                let (node, key) = (log.node, name(log.key_of(write)));
                let held = self.section.entry(log.key_of(write)).map(|entry| entry.ver);
                let held = held.map_or_else(|| "none".to_owned(), |ver| ver.to_string());
                let is = state(write.value.as_ref());
                let what = format!("owner={node} key={key} ver={ver} is={is} held={held}");
                return Err(Broken::new(&LOST, what));
            }
        }
        Ok(())
    }

    /// Whether the copy may be without a write that is its key's last.
    fn may_lack(&self, ver: u64, write: &Write) -> bool {
        write.value.is_none() && ver <= self.section.floor
    }
}
