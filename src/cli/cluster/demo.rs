//! `grapevine cluster -demo`: a stream of messages while a node is killed and comes back.

mod client;
mod consumer;
mod tally;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use self::client::Client;
use self::consumer::Consumer;
use self::tally::{BATCH_LEN, Tally};
use super::http;
use super::local_node::LocalNode;
use crate::cli::terminal;

const TOPIC: &str = "demo";
const CHANNEL: &str = "readers";

/// One message every 10 ms: enough to see a gap, little enough for any machine.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(10);

/// Time between two rows of the table.
const ROW_INTERVAL: Duration = Duration::from_secs(1);

/// Until every node has heard that no messages are wanted.
const BREAK_DELAY: Duration = Duration::from_millis(300);

/// A change of the cluster that is not visible by then has failed.
const CHANGE_MAX: Duration = Duration::from_secs(30);

/// Which nodes a node's `/lookup` names; `None` if it does not answer.
type View = Option<Vec<usize>>;

/// Runs the demo; whether every acknowledged message was consumed.
///
/// # Errors
///
/// The cluster does not do what the demo shows.
pub(super) async fn run(nodes: &mut [LocalNode], duration: Duration) -> io::Result<bool> {
    let tally = Arc::new(Tally::default());
    let (preferred, prefers) = watch::channel(Some(0));
    let (ready, is_ready) = watch::channel(true);
    let consumer = Consumer {
        lookups: nodes.iter().map(LocalNode::http).collect(),
        tally: Arc::clone(&tally),
        is_ready,
    };
    let addresses = nodes.iter().map(LocalNode::tcp).collect();
    // Ends with this function: dropping the set stops its tasks.
    let mut tasks = JoinSet::new();
    tasks.spawn(consumer.run());
    tasks.spawn(publish(addresses, Arc::clone(&tally), prefers));

    let mut show = Show { nodes, tally, started: Instant::now(), next_row: ROW_INTERVAL };
    show.header();
    let share = duration / u32::try_from(show.nodes.len()).expect("few nodes");
    for index in 0..show.nodes.len() {
        preferred.send_replace(Some(index));
        show.rows_for(share).await;
    }

    let victim = 1;
    let name = show.nodes[victim].name.clone();
    show.say(&format!("the consumer takes a break; {name} takes {BATCH_LEN} messages more"));
    ready.send_replace(false);
    tokio::time::sleep(BREAK_DELAY).await;
    let batch = show.tally.next_batch();
    Client::connect(show.nodes[victim].tcp()).await?.publish_batch(TOPIC, &batch).await?;
    show.tally.acknowledged(victim, &batch);
    show.nodes[victim].kill().await?;
    ready.send_replace(true);
    let killed = Instant::now();
    show.say(&format!("kill -9 {name}: nobody has read those; publishing goes on elsewhere"));
    preferred.send_replace(Some(0));
    show.rows_until(|views| is_listed_by_none(views, victim)).await?;
    let hidden_after = killed.elapsed();
    show.say(&format!("no /lookup names {name} any more, {:.1} s later", secs(hidden_after)));
    show.rows_for(ROW_INTERVAL).await;

    let restarted = Instant::now();
    show.nodes[victim].start()?;
    show.say(&format!("{name} starts again, with the files it had"));
    show.rows_until(|views| is_listed_by_all(views, victim)).await?;
    let back_after = restarted.elapsed();
    show.say(&format!("every /lookup names {name} again, {:.1} s later", secs(back_after)));
    preferred.send_replace(Some(victim));
    show.rows_for(share.min(3 * ROW_INTERVAL)).await;

    preferred.send_replace(None);
    show.say("the publisher stops");
    show.rows_until_consumed().await;
    show.summary(&name, hidden_after, back_after)
}

/// Publishes a message every [`PUBLISH_INTERVAL`] through the preferred node, or, while that one
/// does not answer, through the next that does.
async fn publish(
    addresses: Vec<std::net::SocketAddr>,
    tally: Arc<Tally>,
    prefers: watch::Receiver<Option<usize>>,
) {
    let mut clients: Vec<Option<Client>> = addresses.iter().map(|_| None).collect();
    let mut interval = tokio::time::interval(PUBLISH_INTERVAL);
    let mut message = tally.next();
    loop {
        interval.tick().await;
        let Some(preferred) = *prefers.borrow() else { continue };
        for index in (0..addresses.len()).map(|step| (preferred + step) % addresses.len()) {
            if clients[index].is_none() {
                clients[index] = Client::connect(addresses[index]).await.ok();
            }
            let Some(client) = &mut clients[index] else { continue };
            if client.publish(TOPIC, message).await.is_ok() {
                tally.acknowledged(index, &[message]);
                message = tally.next();
                break;
            }
            // Not acknowledged: it may or may not be there, so another node gets it too.
            clients[index] = None;
        }
    }
}

/// What the person at the terminal sees.
struct Show<'a> {
    nodes: &'a mut [LocalNode],
    tally: Arc<Tally>,
    started: Instant,
    /// Since `started`.
    next_row: Duration,
}

impl Show<'_> {
    fn header(&self) {
        let names: Vec<_> = self.nodes.iter().map(|node| format!("{:<11}", node.name)).collect();
        terminal::out(&format!(
            "\nMessages go in through one node after the other. A consumer asks any node who has \
             the\ntopic, and reads from all of them. The right half is what each node answers.\n\n\
             \x20time  published through                \
             consumed   nodes in /lookup?topic={TOPIC} of\n{:<54}{}\n",
            "",
            names.join("").trim_end()
        ));
    }

    /// A line between the rows.
    fn say(&self, what: &str) {
        terminal::out(&format!("{:4.0}s  -- {what}\n", secs(self.started.elapsed())));
    }

    /// Shows rows for this long.
    async fn rows_for(&mut self, duration: Duration) {
        let end = self.started.elapsed() + duration;
        while self.next_row <= end {
            self.row_at_its_time().await;
        }
        tokio::time::sleep(end.saturating_sub(self.started.elapsed())).await;
    }

    /// Shows rows, and looks more often than that, until all nodes answer as they should.
    async fn rows_until(&mut self, is_so: impl Fn(&[View]) -> bool) -> io::Result<()> {
        let end = self.started.elapsed() + CHANGE_MAX;
        loop {
            let views = self.views().await;
            if is_so(&views) {
                return Ok(());
            }
            if self.started.elapsed() > end {
                let what = format!("the nodes do not agree after {CHANGE_MAX:?}");
                return Err(io::Error::other(what));
            }
            if self.started.elapsed() >= self.next_row {
                self.row(&views);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Shows rows until nothing is missing, or it will not come any more.
    async fn rows_until_consumed(&mut self) {
        let end = self.started.elapsed() + CHANGE_MAX;
        while self.tally.missing() > 0 && self.started.elapsed() < end {
            self.row_at_its_time().await;
        }
        self.row_at_its_time().await;
    }

    async fn row_at_its_time(&mut self) {
        let wait = self.next_row.saturating_sub(self.started.elapsed());
        tokio::time::sleep(wait).await;
        let views = self.views().await;
        self.row(&views);
    }

    fn row(&mut self, views: &[View]) {
        let elapsed = self.started.elapsed();
        while self.next_row <= elapsed {
            self.next_row += ROW_INTERVAL;
        }
        let through = self.tally.take_row();
        let through: Vec<_> = through
            .iter()
            .map(|(node, count)| format!("{} {count}", self.nodes[*node].name))
            .collect();
        let views: Vec<_> = views.iter().map(|view| format!("{:<11}", show_view(view))).collect();
        terminal::out(&format!(
            "{:4.0}s {:>7}  {:<28} {:>8}   {}\n",
            secs(elapsed),
            self.tally.acknowledged_count(),
            through.join(", "),
            self.tally.consumed_count(),
            views.join("").trim_end()
        ));
    }

    /// What each node's `/lookup` answers now.
    async fn views(&self) -> Vec<View> {
        let mut views = Vec::with_capacity(self.nodes.len());
        for node in &*self.nodes {
            views.push(self.view(node).await);
        }
        views
    }

    async fn view(&self, node: &LocalNode) -> View {
        let answer = http::get_json(node.http(), &format!("/lookup?topic={TOPIC}")).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(Vec::new()),
            Err(_) => return None,
        };
        let ports = answer["producers"].as_array()?.iter().map(|it| it["tcp_port"].as_u64());
        let index = |port: Option<u64>| {
            self.nodes.iter().position(|node| Some(u64::from(node.ports.tcp)) == port)
        };
        let mut found: Vec<usize> = ports.filter_map(index).collect();
        found.sort_unstable();
        Some(found)
    }

    /// The end of the show; whether nothing was lost.
    fn summary(&self, name: &str, hidden: Duration, back: Duration) -> io::Result<bool> {
        let tally = &self.tally;
        let missing = tally.missing();
        terminal::out(&format!(
            "\n{name} was gone from every /lookup {:.1} s after kill -9, \
             and back {:.1} s after its start.\n\
             {} messages were acknowledged, {} of them consumed, {} came twice.\n",
            secs(hidden),
            secs(back),
            tally.acknowledged_count(),
            tally.acknowledged_count() - missing,
            tally.repeated_count()
        ));
        if missing == 0 {
            terminal::out("Nothing was lost.\n");
        } else {
            terminal::out(&format!("LOST: {missing} messages.\n"));
        }
        Ok(missing == 0)
    }
}

fn is_listed_by_none(views: &[View], node: usize) -> bool {
    views.iter().flatten().all(|view| !view.contains(&node))
}

fn is_listed_by_all(views: &[View], node: usize) -> bool {
    views.iter().all(|view| view.as_ref().is_some_and(|view| view.contains(&node)))
}

/// `1 2 3`: the nodes by their numbers.
fn show_view(view: &View) -> String {
    match view {
        None => "down".to_owned(),
        Some(view) if view.is_empty() => "-".to_owned(),
        Some(view) => {
            view.iter().map(|index| (index + 1).to_string()).collect::<Vec<_>>().join(" ")
        }
    }
}

fn secs(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_down_does_not_count_as_naming_anyone() {
        let views = [Some(vec![0, 2]), None, Some(vec![0, 2])];
        assert!(is_listed_by_none(&views, 1));
        assert!(!is_listed_by_all(&views, 0), "all must answer");
        assert!(is_listed_by_all(&[Some(vec![0, 1])], 1));
    }

    #[test]
    fn nodes_are_shown_by_their_numbers() {
        assert_eq!(show_view(&Some(vec![0, 2])), "1 3");
        assert_eq!(show_view(&Some(vec![])), "-");
        assert_eq!(show_view(&None), "down");
    }
}
