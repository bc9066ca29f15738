//! What a subscribed connection may do: SUB, RDY, FIN, REQ, TOUCH, and leave.

use std::time::Duration;

use grapevine_storage::Disk;

use crate::consumer::Consumer;
use crate::topic::{Now, Topic, Wakes};
use crate::{Channel, ConsumerId, ConsumerSettings, Unanswered};

/// A SUB that was refused. `Display` is what follows `E_SUB_FAILED SUB failed`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SubscribeError {
    /// The topic or channel was deleted meanwhile.
    #[error("exiting")]
    Exiting,
    /// `--max-channel-consumers` are there already.
    #[error("consumers exceed limit of {0}")]
    TooManyConsumers(usize),
}

/// What a consumer's departure led to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unsubscribed {
    /// The channel goes on.
    Stays,
    /// It was an ephemeral channel's last consumer: the channel is gone.
    ChannelEnded,
    /// So is the ephemeral topic, whose last channel it was. The owner removes it.
    TopicEnded,
}

impl<D: Disk> Topic<D> {
    /// Subscribes a connection to an existing channel; it gets nothing before
    /// [`set_ready`](Self::set_ready).
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]; nothing changed.
    pub fn subscribe(
        &mut self,
        channel: &str,
        consumer: ConsumerSettings,
    ) -> Result<(), SubscribeError> {
        let consumers_max = self.settings.channel_consumers_max;
        let is_exiting = self.is_exiting;
        let Some(channel) = self.channels.get_mut(channel).filter(|_| !is_exiting) else {
            return Err(SubscribeError::Exiting);
        };
        if consumers_max > 0 && channel.consumers.len() >= consumers_max {
            return Err(SubscribeError::TooManyConsumers(consumers_max));
        }
        channel.consumers.insert(consumer.id, Consumer::new(consumer));
        Ok(())
    }

    /// Ends a subscription; what the connection held is ready again.
    pub fn unsubscribe(
        &mut self,
        channel: &str,
        consumer: ConsumerId,
        wakes: &mut Wakes,
    ) -> Unsubscribed {
        let Some((name, found)) = self.channels.get_key_value(channel) else {
            return Unsubscribed::Stays;
        };
        let is_ephemeral = name.is_ephemeral() && found.consumers.contains_key(&consumer);
        let Some(channel_state) = self.channels.get_mut(channel) else {
            return Unsubscribed::Stays;
        };
        channel_state.remove_consumer(consumer, wakes);
        if !is_ephemeral || !channel_state.consumers.is_empty() {
            return Unsubscribed::Stays;
        }
        self.delete_channel(channel);
        match self.name.is_ephemeral() && self.channels.is_empty() {
            true => Unsubscribed::TopicEnded,
            false => Unsubscribed::ChannelEnded,
        }
    }

    /// RDY: how many messages the consumer may hold from now on.
    pub fn set_ready(&mut self, channel: &str, consumer: ConsumerId, rdy: u64) {
        if let Some(channel) = self.channels.get_mut(channel)
            && let Some(consumer) = channel.consumers.get_mut(&consumer)
        {
            consumer.rdy = rdy;
        }
    }

    /// FIN: the message is done.
    ///
    /// # Errors
    ///
    /// [`Unanswered`]; nothing changed.
    pub fn finish(
        &mut self,
        channel: &str,
        consumer: ConsumerId,
        id: u64,
        now: Now,
    ) -> Result<(), Unanswered> {
        self.channel(channel)?.finish(consumer, id, now)
    }

    /// REQ: the message waits again, after `delay` if that is not zero.
    ///
    /// # Errors
    ///
    /// [`Unanswered`]; nothing changed.
    pub fn requeue(
        &mut self,
        channel: &str,
        consumer: ConsumerId,
        id: u64,
        delay: Duration,
        now: Now,
        wakes: &mut Wakes,
    ) -> Result<(), Unanswered> {
        self.channel(channel)?.requeue(consumer, id, delay, now, wakes)
    }

    /// TOUCH: the message's timeout starts again, up to `--max-msg-timeout` after its delivery.
    ///
    /// # Errors
    ///
    /// [`Unanswered`]; nothing changed.
    pub fn touch(
        &mut self,
        channel: &str,
        consumer: ConsumerId,
        id: u64,
        now: Now,
    ) -> Result<(), Unanswered> {
        let timeout_max = self.settings.msg_timeout_max;
        self.channel(channel)?.touch(consumer, id, now, timeout_max)
    }

    fn channel(&mut self, channel: &str) -> Result<&mut Channel, Unanswered> {
        self.channels.get_mut(channel).ok_or(Unanswered::NotInFlight)
    }
}
