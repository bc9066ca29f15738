//! One process: what it writes, what it holds, what it may say.

use grapevine_gossip::NodeId;
use grapevine_gossip::audit::Touch;
use grapevine_gossip::envelope::Sender;
use grapevine_gossip::section::{Section, Value};
use rustc_hash::FxHashMap;

use super::copies::Held;
use super::rows::Rows;
use super::rules::{Broken, EPOCH, FOREIGN, LOST, OUTSIDER};
use super::truth::{Log, LogId, Owner, name, state};
use crate::world::Cause;

/// A process that runs.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) id: NodeId,
    pub(super) owner: Owner,
    /// Where it writes.
    pub(super) log: LogId,
    /// Epoch of that log.
    pub(super) epoch: u64,
    /// The epoch that is on its disk.
    pub(super) durable: u64,
    /// It found its id in use elsewhere, and stopped.
    pub(super) has_stopped: bool,
    pub(super) rows: Rows,
    /// By owner.
    pub(super) held: Vec<Held>,
    /// Owners that left, and in which epoch.
    pub(super) left: FxHashMap<Owner, u64>,
    /// Copies that the last event dropped, and their epochs.
    pub(super) dropped: Vec<(Owner, u64)>,
    /// What was wrong with it when it began to write.
    pub(super) broken: Option<Broken>,
}

impl Life {
    /// What it holds of `owner`.
    pub(super) fn held(&mut self, owner: Owner) -> &mut Held {
        let at = owner as usize;
        if self.held.len() <= at {
            self.held.resize(at + 1, Held::default());
        }
        &mut self.held[at]
    }

    /// May a packet of this sender leave the node?
    pub(super) fn check_sender(&self, sender: Sender) -> Result<(), Broken> {
        let what = if self.has_stopped {
            format!("epoch={} sent-after=node-id-conflict", sender.epoch)
        } else if sender.epoch > self.durable {
            format!("epoch={} durable={}", sender.epoch, self.durable)
        } else {
            return Ok(());
        };
        Err(Broken::new(&EPOCH, what))
    }
}

/// Notes what the owner wrote: each write a version of its own, for a reason that may write.
pub(super) fn take_writes(
    log: &mut Log,
    own: &Section,
    touches: &[Touch],
    cause: Cause,
) -> Result<(), Broken> {
    for touch in touches {
        let Some(entry) = &touch.after else {
            check_forgetting(log, own, touch, cause)?;
            continue;
        };
        let told = || {
            let is = state(entry.value.as_ref());
            format!("key={} ver={} is={is}", name(&touch.key), entry.ver)
        };
        let may_write = match cause {
            Cause::Start | Cause::Local => true,
            Cause::Wake => match &entry.value {
                Some(Value::Producer(_)) => true,
                Some(Value::Registered { tombstoned_at_ns }) => {
                    touch.before.is_some() && tombstoned_at_ns.is_none()
                }
                None => false,
            },
            // Whether somebody wished it, V4 knows.
            Cause::Datagram => {
                matches!(entry.value, Some(Value::Registered { tombstoned_at_ns: Some(_) }))
            }
            Cause::Frame | Cause::Stream | Cause::Persisted | Cause::Resolved | Cause::Leave => {
                false
            }
        };
        if !may_write {
            return Err(Broken::new(&OUTSIDER, format!("{} cause={cause:?}", told())));
        }
        if !log.is_contested && !log.push(&touch.key, entry) {
            return Err(Broken::new(&FOREIGN, format!("{} written={}", told(), log.head())));
        }
    }
    log.live_hash = own.live_hash().unwrap_or_default();
    Ok(())
}

/// The owner forgets a key: only a deletion, by its own timer, and saying up to where.
fn check_forgetting(log: &Log, own: &Section, touch: &Touch, cause: Cause) -> Result<(), Broken> {
    let ver = touch.before.unwrap_or(0);
    let (key, floor) = (name(&touch.key), own.floor);
    if cause != Cause::Wake {
        return Err(Broken::new(&OUTSIDER, format!("key={key} ver={ver} cause={cause:?}")));
    }
    let is_live = !log.is_contested && log.write(ver).is_none_or(|write| write.value.is_some());
    if ver > floor || is_live {
        let is = if is_live { "live" } else { "deleted" };
        let what = format!("key={key} ver={ver} is={is} held=none floor={floor}");
        return Err(Broken::new(&LOST, what));
    }
    Ok(())
}
