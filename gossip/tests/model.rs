//! The rules of a section against a network that may do anything, and against wrong rules: a
//! checker that does not find those would prove nothing.

use std::collections::BTreeMap;

use grapevine_gossip::ProducerId;
use grapevine_gossip::section::{Applied, Delta, Key, Section, Snapshot, Value};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

const KEYS: usize = 12;
const REPLICAS: usize = 4;
const STEPS: usize = 600;
const SEEDS: u64 = 2000;
/// Writes that fit one message.
const OPS_MAX: usize = 3;

/// One wrong rule each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mutant {
    None,
    DeltaOverGap,
    DeltaBelowFloor,
    NoResetOnNewEpoch,
    CutSnapshot,
    CutDeltaClaimsHead,
    OlderEpochAccepted,
    EpochReusedAtRestart,
    SnapshotSwappedIn,
}

#[derive(Clone, Debug)]
enum Message {
    Delta(Delta),
    Snapshot(Snapshot),
}

type Log = BTreeMap<u64, (Key, Option<Value>)>;

struct Model {
    mutant: Mutant,
    rng: Xoshiro256PlusPlus,
    owner: Section,
    logs: BTreeMap<u64, Log>,
    replicas: Vec<Section>,
    bag: Vec<(usize, Message)>,
    /// The epoch each replica was last seen in, and the version of each key it has shown in it.
    shown: Vec<(u64, BTreeMap<Key, u64>)>,
}

impl Model {
    fn new(seed: u64, mutant: Mutant) -> Self {
        let replicas = (0..REPLICAS).map(|_| Section::default()).collect();
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let logs = BTreeMap::from([(1, Log::new())]);
        Self {
            mutant,
            rng,
            owner: Section::new(1),
            logs,
            replicas,
            bag: Vec::new(),
            shown: vec![(0, BTreeMap::new()); REPLICAS],
        }
    }

    fn write(&mut self) {
        let key = Key::new(ProducerId(0), &format!("k{}", self.rng.random_range(0..KEYS)), "");
        let tombstoned_at_ns = Some(self.rng.random_range(0..1000));
        let value = self.rng.random_bool(0.5).then_some(Value::Registered { tombstoned_at_ns });
        if self.owner.write(key.clone(), value.clone()) {
            let log = self.logs.entry(self.owner.epoch).or_default();
            log.insert(self.owner.ver, (key, value));
        }
    }

    fn restart(&mut self) {
        let reused = self.mutant == Mutant::EpochReusedAtRestart;
        let epoch = self.owner.epoch + u64::from(!reused);
        self.owner = Section::new(epoch);
        self.logs.insert(epoch, Log::new());
        for _ in 0..3 {
            self.write();
        }
    }

    /// Somebody (the owner or a replica) answers what `to` has now.
    fn answer(&mut self, to: usize) {
        let from = self.rng.random_range(0..=REPLICAS);
        let source = self.replicas.get(from).unwrap_or(&self.owner);
        let asker = &self.replicas[to];
        if source.epoch == 0 || source.epoch < asker.epoch {
            return;
        }
        let mut have = if source.epoch == asker.epoch { asker.ver } else { 0 };
        if self.rng.random_bool(0.4) {
            // A rumour: it starts from what others are thought to have.
            have = self.rng.random_range(source.floor..=source.ver);
        }
        let mut delta = source.delta_since(have, OPS_MAX, usize::MAX);
        if let Some(delta) = delta.as_mut()
            && self.mutant == Mutant::CutDeltaClaimsHead
        {
            delta.to = source.ver;
        }
        if delta.is_none() && self.mutant == Mutant::DeltaBelowFloor {
            let Snapshot { epoch, ver, mut ops, .. } = source.snapshot();
            ops.retain(|op| op.ver > have);
            delta = Some(Delta { epoch, from: have, to: ver, floor: 0, ops });
        }
        let message = match delta {
            Some(delta) => Message::Delta(delta),
            None => {
                let mut snapshot = source.snapshot();
                if self.mutant == Mutant::CutSnapshot {
                    snapshot.ops.truncate(OPS_MAX);
                }
                Message::Snapshot(snapshot)
            }
        };
        if !self.rng.random_bool(0.15) {
            self.bag.push((to, message));
        }
    }

    /// Any message, in any order, perhaps once more later.
    fn deliver(&mut self) -> Result<(), String> {
        if self.bag.is_empty() {
            return Ok(());
        }
        let at = self.rng.random_range(0..self.bag.len());
        let again = self.rng.random_bool(0.2);
        let (to, message) = if again { self.bag[at].clone() } else { self.bag.swap_remove(at) };
        self.apply(to, message);
        self.check(to)
    }

    fn apply(&mut self, to: usize, message: Message) -> Applied {
        let replica = &mut self.replicas[to];
        match message {
            Message::Delta(mut delta) => {
                match self.mutant {
                    Mutant::DeltaOverGap if delta.epoch == replica.epoch => {
                        delta.from = delta.from.min(replica.ver);
                    }
                    Mutant::NoResetOnNewEpoch if delta.epoch > replica.epoch && delta.from == 0 => {
                        replica.epoch = delta.epoch;
                    }
                    Mutant::OlderEpochAccepted if delta.epoch < replica.epoch => {
                        *replica = Section::default();
                    }
                    _ => {}
                }
                replica.apply_delta(&delta)
            }
            Message::Snapshot(snapshot) => {
                let is_newer = (snapshot.epoch, snapshot.ver) > (replica.epoch, replica.ver);
                if self.mutant == Mutant::SnapshotSwappedIn && is_newer {
                    *replica = Section::default();
                }
                replica.apply_snapshot(&snapshot)
            }
        }
    }

    /// What a replica holds was written (S3), nothing is missing up to its version (S4), and no
    /// key goes back to an older write (S5).
    fn check(&mut self, at: usize) -> Result<(), String> {
        let replica = &self.replicas[at];
        if replica.epoch == 0 {
            return Ok(());
        }
        let (epoch, shown) = &mut self.shown[at];
        if *epoch != replica.epoch {
            (*epoch, *shown) = (replica.epoch, BTreeMap::new());
        }
        for (key, entry) in replica.entries() {
            let before = shown.insert(key.clone(), entry.ver).unwrap_or(0);
            if before > entry.ver {
                return Err(format!("{key:?} went back from {before} to {}", entry.ver));
            }
        }
        let log = self.logs.get(&replica.epoch).ok_or("an epoch that never was")?;
        for (key, entry) in replica.entries() {
            if log.get(&entry.ver) != Some(&(key.clone(), entry.value.clone())) {
                return Err(format!("{key:?} at {} was never written", entry.ver));
            }
        }
        let mut last: BTreeMap<&Key, (u64, bool)> = BTreeMap::new();
        for (&ver, (key, value)) in log {
            last.insert(key, (ver, value.is_some()));
        }
        for (key, (ver, is_live)) in last.into_iter().filter(|(_, (ver, _))| *ver <= replica.ver) {
            let held = replica.entry(key).map(|entry| entry.ver);
            let is_forgotten = !is_live && ver <= replica.floor && held.is_none();
            if held != Some(ver) && !is_forgotten {
                return Err(format!("{key:?}: written at {ver}, held as {held:?}"));
            }
        }
        Ok(())
    }

    fn run(mut self) -> Result<(), String> {
        let mut epochs = [0; REPLICAS];
        for _ in 0..STEPS {
            match self.rng.random_range(0..100) {
                0..25 => self.write(),
                25..28 => {
                    let ver = self.rng.random_range(0..=self.owner.ver);
                    self.owner.forget_deletions(ver);
                }
                28 => self.restart(),
                29..60 => {
                    let to = self.rng.random_range(0..REPLICAS);
                    self.answer(to);
                }
                _ => self.deliver()?,
            }
            for (epoch, replica) in epochs.iter_mut().zip(&self.replicas) {
                if replica.epoch < *epoch {
                    return Err("an older epoch came back".to_owned());
                }
                *epoch = replica.epoch;
            }
        }
        for at in 0..REPLICAS {
            for _ in 0..KEYS {
                let have = &self.replicas[at];
                let have = if have.epoch == self.owner.epoch { have.ver } else { 0 };
                let message = match self.owner.delta_since(have, usize::MAX, usize::MAX) {
                    Some(delta) => Message::Delta(delta),
                    None => Message::Snapshot(self.owner.snapshot()),
                };
                self.apply(at, message);
            }
            if !self.replicas[at].live().eq(self.owner.live()) {
                return Err("the replica does not catch up".to_owned());
            }
        }
        Ok(())
    }
}

fn first_caught(mutant: Mutant) -> Option<(u64, String)> {
    (0..SEEDS).find_map(|seed| Some((seed, Model::new(seed, mutant).run().err()?)))
}

#[test]
fn no_order_loss_or_repetition_of_messages_makes_a_copy_wrong() {
    assert_eq!(first_caught(Mutant::None), None);
}

#[test]
fn every_wrong_rule_is_found() {
    for mutant in [
        Mutant::DeltaOverGap,
        Mutant::DeltaBelowFloor,
        Mutant::NoResetOnNewEpoch,
        Mutant::CutSnapshot,
        Mutant::CutDeltaClaimsHead,
        Mutant::OlderEpochAccepted,
        Mutant::EpochReusedAtRestart,
        Mutant::SnapshotSwappedIn,
    ] {
        let caught = first_caught(mutant);
        println!("{mutant:?}: {caught:?}");
        assert!(caught.is_some(), "{mutant:?} passes {SEEDS} seeds");
    }
}
