//! PUB, MPUB and DPUB: runs of messages to one topic are stored together.

use std::sync::Arc;

use grapevine_broker::PublishError;
use grapevine_protocol::{ClientError, TopicName, Verb, frame};
use tracing::error;

use super::Session;
use crate::node::drain;
use crate::node::topic::Topic;

/// Bytes of a batch after which it is stored although more could be joined to it.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Publishes of one topic that are stored together.
pub(super) struct PendingPublish {
    pub(super) topic: Arc<Topic>,
    pub(super) verb: Verb,
    /// Commands to acknowledge.
    pub(super) commands: usize,
}

impl Session {
    /// Joins a message to the batch; it is stored and answered at the end of the turn at the
    /// latest.
    pub(super) async fn publish(
        &mut self,
        verb: Verb,
        topic: &str,
        body: &[u8],
        deliver_at: i64,
    ) -> Result<(), ClientError> {
        if !self.answers.is_empty() {
            self.apply_answers();
        }
        if !self.is_permitted(verb, topic) {
            Box::pin(self.permit(verb, topic, "")).await?;
        }
        self.aim(verb, topic).await?;
        self.batch.push(body, deliver_at);
        match self.batch.bytes() > BATCH_BYTES_MAX {
            true => self.store_batch(),
            false => Ok(()),
        }
    }

    /// Makes the batch one of `topic`, storing it first if it is another's.
    pub(super) async fn aim(&mut self, verb: Verb, topic: &str) -> Result<(), ClientError> {
        if let Some(pending) = &mut self.pending {
            if pending.verb == verb && **pending.topic.name() == *topic {
                pending.commands += 1;
                return Ok(());
            }
            self.store_batch()?;
        }
        let topic = self.topic(verb, topic).await?;
        self.pending = Some(PendingPublish { topic, verb, commands: 1 });
        Ok(())
    }

    /// The topic to publish to; created if it is not there.
    pub(super) async fn topic(
        &mut self,
        verb: Verb,
        name: &str,
    ) -> Result<Arc<Topic>, ClientError> {
        if self.registry.drain.is_on() {
            return Err(ClientError::publish_failed(verb, drain::REFUSAL));
        }
        if let Some(recent) = &self.recent
            && **recent.name() == *name
            && !recent.is_exiting()
        {
            return Ok(Arc::clone(recent));
        }
        let failed = |error: PublishError| ClientError::publish_failed(verb, error);
        let name =
            TopicName::new(name).map_err(|error| ClientError::publish_failed(verb, error))?;
        let topic = self.registry.topic(&name).await.map_err(failed)?;
        self.recent = Some(Arc::clone(&topic));
        Ok(topic)
    }

    /// nsqd checks permissions and creates the topic of an MPUB before it reads the body.
    pub(super) async fn mpub_started(&mut self, topic: &str) -> Result<(), ClientError> {
        self.store_batch()?;
        if !self.is_permitted(Verb::Mpub, topic) {
            Box::pin(self.permit(Verb::Mpub, topic, "")).await?;
        }
        self.topic(Verb::Mpub, topic).await.map(|_| ())
    }

    /// Stores the batch and acknowledges its commands.
    pub(super) fn store_batch(&mut self) -> Result<(), ClientError> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let count = self.batch.len() as u64;
        let now = self.registry.clock().now();
        let stored = pending.topic.publish(&mut self.batch, now);
        self.batch.clear();
        let end = stored.map_err(|error| ClientError::publish_failed(pending.verb, error))?;
        self.client.count_published(pending.topic.name(), count);
        for _ in 0..pending.commands {
            frame::response(&mut self.output, frame::OK);
        }
        self.has_responses = true;
        if self.registry.is_fsync {
            self.unsynced.push((pending.topic, end));
        }
        Ok(())
    }

    /// Waits until what the output acknowledges is on the device, if that is what `OK` means.
    pub(crate) async fn sync(&mut self) {
        for (topic, end) in std::mem::take(&mut self.unsynced) {
            if let Err(error) = topic.sync_through(end).await {
                let topic = topic.name();
                error!(%topic, %error, "cannot sync the topic log; publishes are refused");
                self.registry.health().write_failed(&error);
                // None of the acknowledgements may leave; the client sees them as failed.
                self.output.clear();
                self.fail(&ClientError::publish_failed(Verb::Pub, error));
                grapevine_broker::Signal::close(&*self.client.wake);
            }
        }
    }
}
