//! Every rule that a run can break, for `simulate explain`.

/// A rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rule {
    /// Its id, as in [`Violation::rule`](crate::outcome::Violation): `S4`.
    pub id: &'static str,
    /// Its name in a word or two: `lost-key`.
    pub name: &'static str,
    /// What must be true, why it matters, and what usually breaks it.
    pub meaning: &'static str,
    /// Where it comes from.
    pub source: &'static str,
}

/// All rules, in the order to show them in.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    let broker = crate::broker::RULES;
    crate::oracle::rules().chain(broker).chain(AROUND_A_RUN).chain(crate::swarm::baseline::RULES)
}

/// All rules, and those that no run can break because tools keep them.
pub fn explained() -> impl Iterator<Item = &'static Rule> {
    all().chain(KEPT_BY_TOOLS)
}

/// Rules of the code, kept before anything runs.
const KEPT_BY_TOOLS: &[Rule] = &[Rule {
    id: "D2",
    name: "nothing-from-outside",
    meaning: "The cores that the simulator runs read no clock, draw no randomness of the system's, \
        start no task and iterate over nothing in hashed order, so a run is a function of its \
        plan. No run can break it: clippy refuses such code (disallowed-types and \
        disallowed-methods in the clippy.toml of each core), tests read the sources and the \
        packages that cores are built with (tests/it/tidy.rs), and D1 would show what gets by.",
    source: "determinism: D2; clippy, tests/it/tidy.rs",
}];

/// Rules that the oracle does not watch: promises of scenarios, and what is checked around a run.
const AROUND_A_RUN: &[Rule] = &[
    Rule {
        id: "E1",
        name: "membership-agree",
        meaning: "A scenario promises with expect.membership_agree how soon after the healing \
            every node holds exactly the nodes that run for members. It took longer, or it never \
            happened.",
        source: "the scenario",
    },
    Rule {
        id: "E2",
        name: "lookups-agree",
        meaning: "A scenario promises with expect.lookups_agree how soon after the healing every \
            node gives the same and right answer to /lookup for every topic. It took longer, or it \
            never happened.",
        source: "the scenario",
    },
    Rule {
        id: "E3",
        name: "staleness-p50",
        meaning: "A scenario promises with expect.staleness.p50 within what time half of the \
            changes made while nothing was wrong are known everywhere. They took longer.",
        source: "the scenario",
    },
    Rule {
        id: "E4",
        name: "staleness-p99",
        meaning: "The same for all changes but one in a hundred, expect.staleness.p99.",
        source: "the scenario",
    },
    Rule {
        id: "E5",
        name: "staleness-max",
        meaning: "The same for the slowest change, expect.staleness.max.",
        source: "the scenario",
    },
    Rule {
        id: "E6",
        name: "false-down",
        meaning: "A scenario promises with expect.false_down how many live nodes are declared \
            dead, at most, while no fault heavier than 5 % loss is active. There were more. If it \
            promises 0, or nothing, the first breaks V5 at once.",
        source: "the scenario",
    },
    Rule {
        id: "E7",
        name: "bytes-idle",
        meaning: "A scenario promises with expect.bytes_per_node_s.idle how many bytes a node \
            sends per second, on average, while nothing happens. It sent more.",
        source: "the scenario",
    },
    Rule {
        id: "E8",
        name: "bytes-p99",
        meaning: "A scenario promises with expect.bytes_per_node_s.p99 how many bytes a node sends \
            in all seconds but one in a hundred. It sent more.",
        source: "the scenario",
    },
    Rule {
        id: crate::execute::PANIC_RULE,
        name: "panic",
        meaning: "Nothing that a network, a disk or a clock does may make the code panic. The \
            fields say where it did and with which words, and the node at which the world was just \
            then, if it was at one. Debug assertions count in builds that have them, which a \
            release build does not.",
        source: "simulate",
    },
    Rule {
        id: crate::hunt::TWICE_RULE,
        name: "repeatable",
        meaning: "The same plan executed twice gives the same events in the same order, so the \
            hash over all of them is equal. If it is not, a clock, a hashed map or randomness from \
            outside has a say, and no other result can be trusted. `simulate swarm --check \
            twice=1.0` looks for it and shows the first event that differs.",
        source: "determinism: D1",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_an_id_of_its_own_and_is_explained() {
        let mut ids: Vec<&str> = explained().map(|rule| rule.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), explained().count());
        assert!(explained().all(|rule| rule.meaning.len() > 40 && !rule.name.is_empty()));
    }
}
