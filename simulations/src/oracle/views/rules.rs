//! What the rules about views mean, for `simulate explain`.

use crate::rules::Rule;

/// The rules that the files here watch.
pub(in crate::oracle) const RULES: &[Rule] = &[
    Rule {
        id: "S6",
        name: "listed-without-cause",
        meaning: "/lookup lists a producer only if its node is a member and registered it in the \
            very life that is a member: never one that is down or has left, and a node that is \
            known to have left does not come back in the same life. Clients would be sent to a \
            process that is not there. Look at what hides and shows rows when membership changes.",
        source: "gossip.md, part 4.8; piko#314",
    },
    Rule {
        id: "S10",
        name: "expels-the-living",
        meaning: "A node tells another that it is down (foca's TurnUndead) only if it holds it \
            down. If it holds it alive, a timer outlived the suspicion that set it; the receiver \
            renews its identity for nothing, and under loss all nodes do so without end.",
        source: "gossip.md, part 4.8; foca 2.0.0 lib.rs, Timer::ChangeSuspectToDown",
    },
    Rule {
        id: "L1",
        name: "disagreement",
        meaning: "Once everything is mended, all nodes soon hold exactly those that run for \
            members, and show exactly what each of them registered. Here they did not in time, \
            so parts of the cluster may stay apart for ever: look at reconnecting to the dead, at \
            the seeds, and at comparing digests.",
        source: "gossip.md, parts 4.8 and 4.12; memberlist#222, serf#605",
    },
    Rule {
        id: "L2",
        name: "lost-member",
        meaning: "While nothing is wrong, a node that runs is soon a member at every other, and \
            one that does not run is soon at none. Fields say who is missing or too much where, \
            and since when.",
        source: "gossip.md, part 4.8",
    },
    Rule {
        id: "L3",
        name: "exile",
        meaning: "A node that starts is soon admitted by somebody, whatever its clock or its disk \
            says. If nobody does, its epoch is below one that is known and it does not take a \
            greater one, or it stopped because it took its own past for a twin.",
        source: "gossip.md, parts 4.3 and 4.8",
    },
    Rule {
        id: "L4",
        name: "too-many",
        meaning: "No storms: a node renews its identity at most six times a minute, probes as \
            often as its period says, and sends a bounded number of datagrams a second. More \
            is a quarrel of two nodes, rumours that are never old, or a period in a wrong unit.",
        source: "gossip.md, part 4.8",
    },
    Rule {
        id: "B1",
        name: "too-large",
        meaning: "A datagram has at most 1232 bytes, which every IPv6 path carries whole, and a \
            frame on a stream at most 64 KiB. A larger one is lost on some networks and not on \
            others, or refused by the receiver.",
        source: "gossip.md, parts 4.8 and 4.11; RFC 8200, section 5",
    },
    Rule {
        id: "B3",
        name: "talkative",
        meaning: "While nothing happens a node sends at most 0.8 KB a second among 10 nodes, \
            1.0 KB among 100 and 1.5 KB among 1000, headers and seals counted, or a tenth more \
            after faults. More means that \
            something old is told again and again.",
        source: "gossip.md, parts 4.8 and 4.12",
    },
    Rule {
        id: "B4",
        name: "amplifier",
        meaning: "To an address nobody has vouched for, a node sends no more bytes than it \
            received from there. Otherwise a packet with a forged source makes it flood a victim.",
        source: "gossip.md, parts 4.8 and 5; RFC 9000, section 8",
    },
    Rule {
        id: "V1",
        name: "phantom",
        meaning: "A producer that is down, left or unregistered is soon in no /lookup of any node \
            that could know. Clients would try to connect to it until it is gone. \
            expect.phantom_max of a scenario sets how soon.",
        source: "simulation.md, part 3.8; piko#314, nsq#148",
    },
    Rule {
        id: "V2",
        name: "lost-producer",
        meaning: "A producer that runs, is reachable and is registered is soon listed by every \
            /lookup, and hidden only where somebody asked for it. Consumers would not find its \
            messages.",
        source: "simulation.md, part 3.8",
    },
    Rule {
        id: "V5",
        name: "declared-dead",
        meaning: "No node declares a live one dead if nothing worse than 5 % loss or slow links \
            has been active for 8 s and all had agreed before. A suspicion must not outlive its \
            refutation. And after a stall no timer may declare anyone dead before the packets that \
            came meanwhile have been read: they may say otherwise.",
        source: "simulation.md, part 3.8; Lifeguard, arXiv:1707.00788",
    },
    Rule {
        id: "V6",
        name: "never-forgotten",
        meaning: "What is known of an owner that is down is forgotten after the retention (ten \
            minutes, unless a knob says otherwise), also if its death was never seen. Otherwise \
            memory grows with every node that ever was.",
        source: "simulation.md, part 3.8; chitchat#155",
    },
    Rule {
        id: "V7",
        name: "slow-goodbye",
        meaning: "A node that leaves while nothing is wrong is in nobody's view after 0.5 s among \
            10 nodes, 0.7 s among 100, 1.2 s among 1000. Later means that its goodbye did not \
            reach everyone and its silence had to be noticed.",
        source: "simulation.md, parts 3.8 and 3.12 (H3)",
    },
    Rule {
        id: "V8",
        name: "storm",
        meaning: "A node handles a bounded number of inputs in a second, and a timer that fires \
            does not set itself to the same moment for ever. More is a loop that feeds itself.",
        source: "simulation.md, part 3.8",
    },
    Rule {
        id: "V9",
        name: "inert",
        meaning: "A node that lists another has a probe coming up. Without one it would list a \
            dead member for ever: foca stops all timers when it renews its identity and waits for \
            a packet. And a node that has no members left goes on trying those that are down, or \
            nodes that are all alone never meet again.",
        source: "simulation.md, part 3.12 (H1, H2); foca 2.0.0 lib.rs, change_identity and reset",
    },
];
