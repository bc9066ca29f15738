//! tokio-nsq; see ../README.md.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio_nsq::{
    NSQChannel, NSQConfigShared, NSQConsumerConfig, NSQConsumerConfigSources,
    NSQConsumerLookupConfig, NSQEvent, NSQProducer, NSQProducerConfig, NSQTopic,
};

fn say(fact: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{fact}").and_then(|()| out.flush());
}

fn shared() -> NSQConfigShared {
    NSQConfigShared::new()
        .set_flush_interval(Duration::from_millis(5))
        .set_backoff_max_wait(Duration::from_secs(1))
}

/// A producer of one node, which is replaced when it loses its connection: what it was given then
/// would never be answered.
struct Writer<'a> {
    address: &'a str,
    producer: NSQProducer,
    is_connected: bool,
}

impl<'a> Writer<'a> {
    fn new(address: &'a str) -> Self {
        let producer = NSQProducerConfig::new(address).set_shared(shared()).build();
        Self { address, producer, is_connected: false }
    }

    async fn next(&mut self, wait: Duration) -> Option<NSQEvent> {
        tokio::time::timeout(wait, self.producer.consume()).await.ok()?
    }

    /// Whether the server said OK. One that has no connection yet is not waited for.
    async fn publishes(&mut self, topic: &Arc<NSQTopic>, body: &str) -> bool {
        if !self.is_connected {
            let event = self.next(Duration::from_millis(10)).await;
            self.is_connected = matches!(event, Some(NSQEvent::Healthy()));
            if !self.is_connected {
                return false;
            }
        }
        let is_published = self.producer.publish(topic, body.as_bytes().to_vec()).await.is_ok()
            && matches!(self.next(Duration::from_secs(1)).await, Some(NSQEvent::Ok()));
        if !is_published {
            *self = Self::new(self.address);
        }
        is_published
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let topic = NSQTopic::new(args[3].as_str()).expect("a topic");
    let count: usize = args[4].parse().expect("a count");
    let lookups: HashSet<String> = args[2].split(',').map(|at| format!("http://{at}")).collect();
    let sources = NSQConsumerLookupConfig::new()
        .set_addresses(lookups)
        .set_poll_interval(Duration::from_secs(1));
    let channel = NSQChannel::new("clients").expect("a channel");
    let mut consumer = NSQConsumerConfig::new(topic.clone(), channel)
        .set_max_in_flight(20)
        .set_sources(NSQConsumerConfigSources::Lookup(sources))
        .set_shared(shared())
        .set_rebalance_interval(Duration::from_millis(500))
        .build();
    let publishing = async {
        let mut writers: Vec<Writer<'_>> = args[1].split(',').map(Writer::new).collect();
        let mut turn = 0;
        for index in 0..count {
            let body = format!("m{index}");
            loop {
                turn = (turn + 1) % writers.len();
                if writers[turn].publishes(&topic, &body).await {
                    break;
                }
            }
            say(&format!("published {body}"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let consuming = async {
        let mut consumed = HashSet::new();
        while consumed.len() < count {
            let message = consumer.consume_filtered().await.expect("an endless stream");
            let body = String::from_utf8_lossy(&message.body).into_owned();
            say(&format!("consumed {body}"));
            consumed.insert(body);
            message.finish().await;
        }
    };
    tokio::join!(publishing, consuming);
    say("done");
}
