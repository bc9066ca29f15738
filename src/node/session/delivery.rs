//! SUB, and what a subscribed client is sent and answers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use grapevine_broker::{
    ConsumerId, ConsumerSettings, Locality, PullLimits, Pulled, SubscribeError, Unanswered,
};
use grapevine_protocol::{
    ChannelName, ClientError, ClientState, MessageId, Moment, TopicName, Verb, frame,
};
use tracing::error;

use super::{PULL_BYTES_MAX, Session};
use crate::node::topic::{Answers, Topic};

/// Messages taken in one pull: bounds the time the topic's lock is held.
const PULL_MESSAGES_MAX: u64 = 512;

/// Tries to subscribe while others delete the ephemeral channel at the same moment.
const SUBSCRIBE_TRIES_MAX: usize = 10;

/// A consumer's answer that waits for the topic's lock.
pub(super) enum Answer {
    Finish(MessageId),
    Requeue(MessageId, Duration),
    Touch(MessageId),
    Ready(u64),
}

/// Where a client is subscribed.
pub(super) struct Subscription {
    pub(super) topic: Arc<Topic>,
    pub(super) channel: ChannelName,
}

impl Session {
    pub(super) async fn subscribe(
        &mut self,
        topic: &str,
        channel: &str,
    ) -> Result<(), ClientError> {
        if self.auth.is_some() {
            Box::pin(self.permit(Verb::Sub, topic, channel)).await?;
        }
        let topic = TopicName::new(topic).map_err(ClientError::sub_failed)?;
        let channel = ChannelName::new(channel).map_err(ClientError::sub_failed)?;
        let mut result = Err(SubscribeError::Exiting);
        for _ in 0..SUBSCRIBE_TRIES_MAX {
            let found = self.registry.topic(&topic).await.map_err(ClientError::sub_failed)?;
            found.create_channel(&channel);
            result = found.subscribe(&channel, self.consumer_settings());
            match result {
                Err(SubscribeError::Exiting) => tokio::task::yield_now().await,
                Err(SubscribeError::TooManyConsumers(_)) => break,
                Ok(()) => {
                    self.subscribed(found, channel);
                    return Ok(());
                }
            }
        }
        Err(match result {
            Err(SubscribeError::TooManyConsumers(limit)) => {
                ClientError::too_many_consumers(&topic, &channel, limit as u64)
            }
            Err(SubscribeError::Exiting) | Ok(()) => ClientError::sub_failed("exiting"),
        })
    }

    pub(super) fn subscribed(&mut self, topic: Arc<Topic>, channel: ChannelName) {
        self.client.set_subscription(topic.name().clone(), channel.clone());
        self.client.set_state(3);
        self.gate.state = ClientState::Subscribed;
        self.subscription = Some(Subscription { topic, channel });
        self.respond(frame::OK);
    }

    pub(super) fn consumer_settings(&self) -> ConsumerSettings {
        // A place without a name is nowhere: clients that do not say where they are would be near.
        let is_here = |ours: &String, theirs: &String| !ours.is_empty() && ours == theirs;
        let locality = match &self.options.place {
            Some((zone, _)) if is_here(zone, &self.settings.topology_zone) => Locality::Zone,
            Some((_, region)) if is_here(region, &self.settings.topology_region) => {
                Locality::Region
            }
            Some(_) | None => Locality::Global,
        };
        ConsumerSettings {
            id: self.client.id,
            signal: Arc::clone(&self.client.wake) as Arc<dyn grapevine_broker::Signal>,
            msg_timeout: self.settings.msg_timeout,
            sample_rate: u8::try_from(self.settings.sample_rate).unwrap_or(0),
            locality,
            seed: self.client.id.0 ^ u64::from_le_bytes(self.client.connect_ts.to_le_bytes()),
        }
    }

    /// Notes an answer; it is carried out with the next pull, under one lock.
    pub(super) fn answer(&mut self, answer: Answer) -> Result<(), ClientError> {
        self.store_batch()?;
        self.answers.push(answer);
        Ok(())
    }

    /// Carries out the noted answers without a pull, where a response must come after them.
    pub(super) fn apply_answers(&mut self) {
        let Some(subscription) = &self.subscription else {
            return;
        };
        if self.answers.is_empty() {
            return;
        }
        let (channel, id) = (&subscription.channel, self.client.id);
        let (answers, output) = (&mut self.answers, &mut self.output);
        let now = self.registry.clock().now();
        let refused =
            subscription.topic.turn(now, |core| refuse(answers, core, channel, id, output));
        self.has_responses |= refused;
    }

    /// Answers, then as many messages as the client may have: one lock.
    pub(crate) fn deliver(&mut self) -> io::Result<()> {
        self.pulled = Pulled::default();
        let Some(subscription) = &self.subscription else {
            return Ok(());
        };
        let (channel, id) = (&subscription.channel, self.client.id);
        let (answers, output) = (&mut self.answers, &mut self.output);
        let room = PULL_BYTES_MAX.saturating_sub(output.len()).max(1);
        let limits = PullLimits { messages_max: PULL_MESSAGES_MAX, bytes_max: room };
        let now = self.registry.clock().now();
        let (refused, pulled) = subscription.topic.turn(now, |core| {
            let refused = refuse(answers, core, channel, id, output);
            let pulled = core.pull(channel, id, limits, &mut |message| {
                frame::message(
                    output,
                    message.timestamp,
                    message.attempts,
                    message.id,
                    message.body,
                );
            });
            (refused, pulled)
        });
        self.has_responses |= refused;
        match pulled {
            Ok(pulled) => self.pulled(pulled, now.mono),
            Err(error) => {
                let topic = subscription.topic.name();
                error!(%topic, %channel, %error, "cannot read the topic log");
                return Err(error);
            }
        }
        Ok(())
    }

    pub(super) fn pulled(&mut self, pulled: Pulled, now: Moment) {
        self.pulled = pulled;
        self.has_new |= pulled.fresh > 0;
        let timeout = self.settings.output_buffer_timeout;
        if pulled.count > 0 && self.flush_at.is_none() && !timeout.is_zero() {
            self.flush_at = Some(now + timeout);
        }
    }

    /// Everything is written and nothing more to pull: the next message shall wake this client.
    /// `false` if there is one already.
    pub(crate) fn park(&mut self) -> bool {
        match &self.subscription {
            Some(subscription) if self.pulled.is_ready => {
                subscription.topic.park(&subscription.channel, self.client.id)
            }
            Some(_) | None => true,
        }
    }

    /// The client does not read: what would wake this connection is for others meanwhile.
    pub(crate) fn unpark(&self) {
        if let Some(subscription) = &self.subscription {
            subscription.topic.unpark(&subscription.channel, self.client.id);
        }
    }
}

/// Carries out `answers`; those refused are told to the client. `true` if there were any.
fn refuse(
    answers: &mut Vec<Answer>,
    core: &mut Answers<'_>,
    channel: &ChannelName,
    by: ConsumerId,
    output: &mut BytesMut,
) -> bool {
    let mut has_refused = false;
    for answer in answers.drain(..) {
        let number = |id: &MessageId| id.as_u64().ok_or(Unanswered::NotInFlight);
        let (verb, id, result) = match answer {
            Answer::Ready(count) => {
                core.set_ready(channel, by, count);
                continue;
            }
            Answer::Finish(id) => {
                (Verb::Fin, id, number(&id).and_then(|id| core.finish(channel, by, id)))
            }
            Answer::Requeue(id, delay) => {
                (Verb::Req, id, number(&id).and_then(|id| core.requeue(channel, by, id, delay)))
            }
            Answer::Touch(id) => {
                (Verb::Touch, id, number(&id).and_then(|id| core.touch(channel, by, id)))
            }
        };
        if let Err(unanswered) = result {
            let reason = unanswered.to_string();
            frame::error(output, &ClientError::about_message(verb, id, &reason));
            has_refused = true;
        }
    }
    has_refused
}
