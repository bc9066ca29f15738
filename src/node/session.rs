//! What one client may do and has asked for: commands in, batches and answers out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use grapevine_broker::{
    ConsumerId, ConsumerSettings, Locality, PublishError, PullLimits, Pulled, SubscribeError,
    Unanswered,
};
use grapevine_protocol::{
    ChannelName, ClientError, ClientSettings, ClientState, Command, Decoded, Decoder, Gate,
    Identify, Limits, MessageId, Moment, ServerSettings, TopicName, Verb, frame, negotiate,
};
use grapevine_storage::{Batch, Cursor};
use tracing::{debug, error};

use super::client::Client;
use super::registry::Registry;
use super::topic::{Answers, Topic};
use super::upgrade::{Layers, Upgrades};

/// Commands carried out before deliveries and other connections get their turn.
const COMMANDS_PER_TURN_MAX: usize = 1_024;

/// Bytes of a batch after which it is stored although more could be joined to it.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Body bytes taken in one pull, and output bytes after which a pull waits for a write.
const PULL_BYTES_MAX: usize = 64 * 1024;

/// Messages taken in one pull: bounds the time the topic's lock is held.
const PULL_MESSAGES_MAX: u64 = 512;

/// Output buffers larger than this are not kept for the next turn.
const OUTPUT_BYTES_KEPT_MAX: usize = 256 * 1024;

/// Tries to subscribe while others delete the ephemeral channel at the same moment.
const SUBSCRIBE_TRIES_MAX: usize = 10;

/// What every session of a node is held to.
#[derive(Clone, Debug)]
pub(crate) struct SessionOptions {
    /// Sizes and ranges.
    pub(crate) limits: Limits,
    /// What IDENTIFY can negotiate.
    pub(crate) server: ServerSettings,
    /// Zone and region, if topology-aware consumption is on.
    pub(crate) place: Option<(String, String)>,
    /// The node's certificate, if it has one.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether only IDENTIFY is allowed before TLS.
    pub(crate) is_tls_required: bool,
}

/// How far a run through the input came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Progress {
    /// The turn is over, there may be more.
    MayContinue,
    /// The stream changes once the output is written.
    MustUpgrade,
    /// More bytes are needed.
    NeedsInput,
    /// The connection ends once the output is written.
    Over,
}

/// What a run through the input did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) progress: Progress,
    pub(crate) commands: usize,
}

/// A consumer's answer that waits for the topic's lock.
enum Answer {
    Finish(MessageId),
    Requeue(MessageId, Duration),
    Touch(MessageId),
    Ready(u64),
}

struct Subscription {
    topic: Arc<Topic>,
    channel: ChannelName,
}

/// Publishes of one topic that are stored together.
struct PendingPublish {
    topic: Arc<Topic>,
    verb: Verb,
    /// Commands to acknowledge.
    commands: usize,
}

/// The state of one client's connection.
pub(crate) struct Session {
    registry: Arc<Registry>,
    options: Arc<SessionOptions>,
    client: Arc<Client>,
    settings: ClientSettings,
    decoder: Decoder,
    gate: Gate,
    bytes_wanted: usize,
    is_input_ended: bool,
    upgrades: Option<Upgrades>,
    subscription: Option<Subscription>,
    answers: Vec<Answer>,
    batch: Batch,
    pending: Option<PendingPublish>,
    /// The topic published to last.
    recent: Option<Arc<Topic>>,
    /// Stored, but with `--durability=fsync` not to be acknowledged before it is on the device.
    unsynced: Vec<(Arc<Topic>, Cursor)>,
    output: BytesMut,
    has_responses: bool,
    /// The output holds a message delivered for the first time.
    has_new: bool,
    flush_at: Option<Moment>,
    pulled: Pulled,
}

impl Session {
    pub(crate) fn new(
        registry: Arc<Registry>,
        options: Arc<SessionOptions>,
        client: Arc<Client>,
    ) -> Self {
        let settings = (*client.settings()).clone();
        let gate = Gate { tls_missing: options.is_tls_required, ..Gate::default() };
        Self {
            registry,
            options,
            client,
            settings,
            decoder: Decoder::default(),
            gate,
            bytes_wanted: 0,
            is_input_ended: false,
            upgrades: None,
            subscription: None,
            answers: Vec::new(),
            batch: Batch::new(),
            pending: None,
            recent: None,
            unsynced: Vec::new(),
            output: BytesMut::new(),
            has_responses: false,
            has_new: false,
            flush_at: None,
            pulled: Pulled::default(),
        }
    }

    pub(crate) const fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub(crate) const fn client(&self) -> &Arc<Client> {
        &self.client
    }

    pub(crate) const fn heartbeat_interval(&self) -> Option<Duration> {
        self.settings.heartbeat_interval
    }

    pub(crate) fn heartbeat_after(&self, now: Moment) -> Option<Moment> {
        Some(now + self.settings.heartbeat_interval?)
    }

    /// Bytes of the command that is incomplete, as far as known.
    pub(crate) const fn bytes_wanted(&self) -> usize {
        self.bytes_wanted
    }

    pub(crate) const fn end_of_input(&mut self) {
        self.is_input_ended = true;
    }

    /// Whether another pull would deliver more right now.
    pub(crate) const fn has_more(&self) -> bool {
        self.pulled.has_more
    }

    /// Whether the output must be written now.
    ///
    /// Responses and new messages leave at once, unless more can be joined to them. Messages that
    /// were delivered before may wait `output_buffer_timeout`, as all do in nsqd: a client that
    /// requeues in a loop then does not spin.
    pub(crate) fn must_flush(&self) -> bool {
        if self.output.is_empty() {
            return false;
        }
        let is_full = self.output.len() >= PULL_BYTES_MAX.min(self.settings.output_buffer_size);
        let may_wait = self.pulled.is_ready && self.flush_at.is_some() && !self.has_new;
        self.has_responses || is_full || !(self.pulled.has_more || may_wait)
    }

    /// When output that may wait must have left.
    pub(crate) const fn flush_at(&self) -> Option<Moment> {
        self.flush_at
    }

    /// For a response; the caller flushes.
    pub(crate) const fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    pub(crate) fn take_output(&mut self) -> BytesMut {
        self.has_responses = false;
        self.has_new = false;
        self.flush_at = None;
        std::mem::take(&mut self.output)
    }

    pub(crate) fn give_back_output(&mut self, output: BytesMut) {
        if output.capacity() <= OUTPUT_BYTES_KEPT_MAX && self.has_traffic() {
            self.output = output;
            self.output.clear();
        }
    }

    /// Quiet connections keep no output buffer.
    fn has_traffic(&self) -> bool {
        self.subscription.is_some() || self.recent.is_some()
    }

    /// Carries out the complete commands of `input` and removes them from it.
    pub(crate) async fn commands(&mut self, input: &mut BytesMut) -> Done {
        let mut consumed = 0;
        let mut commands = 0;
        let progress = loop {
            if commands == COMMANDS_PER_TURN_MAX {
                break Progress::MayContinue;
            }
            match self.decoder.decode(&input[consumed..], self.gate, &self.options.limits) {
                Ok(Decoded::Command { command, consumed: length }) => {
                    let result = self.execute(command).await;
                    consumed += length;
                    commands += 1;
                    if let Err(error) = result
                        && self.fail(&error)
                    {
                        break Progress::Over;
                    }
                    if self.upgrades.is_some() {
                        break Progress::MustUpgrade;
                    }
                }
                Ok(Decoded::MpubStarted { topic }) => {
                    if let Err(error) = self.mpub_started(topic).await
                        && self.fail(&error)
                    {
                        break Progress::Over;
                    }
                }
                Ok(Decoded::Incomplete { needed }) => {
                    self.bytes_wanted = input.len() - consumed + needed;
                    break Progress::NeedsInput;
                }
                Ok(Decoded::LineTooLong) => break Progress::Over,
                Err(error) => {
                    self.settle();
                    self.fail(&error);
                    break Progress::Over;
                }
            }
        };
        let progress = self.end_of_turn(progress);
        input.advance(consumed);
        Done { progress, commands }
    }

    fn end_of_turn(&mut self, progress: Progress) -> Progress {
        if progress != Progress::Over
            && let Err(error) = self.store_batch()
            && self.fail(&error)
        {
            return Progress::Over;
        }
        if progress == Progress::NeedsInput && self.is_input_ended {
            if let Some(error) = self.decoder.at_end() {
                self.settle();
                self.fail(&error);
            }
            return Progress::Over;
        }
        progress
    }

    /// Writes an error frame; `true` if the connection ends with it.
    fn fail(&mut self, error: &ClientError) -> bool {
        debug!(client = %self.client.remote_address, %error, "command refused");
        frame::error(&mut self.output, error);
        self.has_responses = true;
        error.is_fatal()
    }

    fn respond(&mut self, data: &[u8]) {
        frame::response(&mut self.output, data);
        self.has_responses = true;
    }

    /// Gives everything before a refused command its answer first.
    fn settle(&mut self) {
        if let Err(error) = self.store_batch() {
            self.fail(&error);
        }
        self.apply_answers();
    }

    async fn execute(&mut self, command: Command<'_>) -> Result<(), ClientError> {
        match command {
            Command::Pub { topic, body } => self.publish(Verb::Pub, topic, body, 0).await,
            Command::Fin(id) => self.answer(Answer::Finish(id)),
            Command::Req(id, delay) => {
                self.answer(Answer::Requeue(id, Duration::from_millis(delay)))
            }
            Command::Touch(id) => self.answer(Answer::Touch(id)),
            Command::Rdy(count) => self.answer(Answer::Ready(count)),
            Command::Nop => Ok(()),
            other => {
                self.store_batch()?;
                self.apply_answers();
                self.execute_rarely(other).await
            }
        }
    }

    /// Commands that are answered at once, after everything before them.
    async fn execute_rarely(&mut self, command: Command<'_>) -> Result<(), ClientError> {
        match command {
            Command::Mpub { topic, messages } => {
                self.aim(Verb::Mpub, topic).await?;
                for body in messages {
                    self.batch.push(body, 0);
                }
                self.store_batch()
            }
            Command::Dpub { topic, delay_ms, body } => {
                let delay_ns = i64::try_from(delay_ms * 1_000_000).unwrap_or(i64::MAX);
                let deliver_at = match delay_ms {
                    0 => 0,
                    _ => super::clock::wall_ns().saturating_add(delay_ns),
                };
                self.publish(Verb::Dpub, topic, body, deliver_at).await
            }
            Command::Sub { topic, channel } => self.subscribe(topic, channel).await,
            Command::Cls => {
                self.gate.state = ClientState::Closing;
                self.client.set_state(4);
                self.answers.push(Answer::Ready(0));
                self.apply_answers();
                self.respond(frame::CLOSE_WAIT);
                Ok(())
            }
            Command::Identify(body) => self.identify(body),
            Command::Auth(_) => Err(ClientError::auth_disabled()),
            Command::Pub { .. }
            | Command::Fin(_)
            | Command::Req(..)
            | Command::Touch(_)
            | Command::Rdy(_)
            | Command::Nop => Ok(()),
        }
    }

    fn identify(&mut self, body: &[u8]) -> Result<(), ClientError> {
        let request = Identify::parse(body)?;
        let layers = self.client.layers();
        let offer = layers.offer(&self.options.server);
        let answer = negotiate(&request, &offer, &mut self.settings)?;
        self.upgrades = Upgrades::of(&answer, self.options.tls.as_ref());
        self.gate.heartbeats_enabled = self.settings.heartbeat_interval.is_some();
        self.client.set_settings(self.settings.clone());
        self.respond(&answer.response);
        Ok(())
    }

    /// The upgrades to carry out now that IDENTIFY is answered.
    pub(crate) const fn take_upgrades(&mut self) -> Option<Upgrades> {
        self.upgrades.take()
    }

    /// One upgrade is done: the client is told inside of it.
    pub(crate) fn upgraded(&mut self, change: impl FnOnce(&mut Layers)) {
        self.client.change_layers(change);
        self.gate.tls_missing &= self.client.layers().tls.is_none();
        self.respond(frame::OK);
    }

    /// An upgrade came to nothing.
    pub(crate) fn upgrade_failed(&mut self, reason: &str) {
        self.fail(&ClientError::identify_failed(reason));
    }

    /// Joins a message to the batch; it is stored and answered at the end of the turn at the
    /// latest.
    async fn publish(
        &mut self,
        verb: Verb,
        topic: &str,
        body: &[u8],
        deliver_at: i64,
    ) -> Result<(), ClientError> {
        if !self.answers.is_empty() {
            self.apply_answers();
        }
        self.aim(verb, topic).await?;
        self.batch.push(body, deliver_at);
        match self.batch.bytes() > BATCH_BYTES_MAX {
            true => self.store_batch(),
            false => Ok(()),
        }
    }

    /// Makes the batch one of `topic`, storing it first if it is another's.
    async fn aim(&mut self, verb: Verb, topic: &str) -> Result<(), ClientError> {
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
    async fn topic(&mut self, verb: Verb, name: &str) -> Result<Arc<Topic>, ClientError> {
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

    /// nsqd creates the topic of an MPUB before it reads the body.
    async fn mpub_started(&mut self, topic: &str) -> Result<(), ClientError> {
        self.store_batch()?;
        self.topic(Verb::Mpub, topic).await.map(|_| ())
    }

    /// Stores the batch and acknowledges its commands.
    fn store_batch(&mut self) -> Result<(), ClientError> {
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
                error!(topic = %topic.name(), %error, "cannot sync the topic log; publishes are refused");
                self.registry.health().write_failed(&error);
                // None of the acknowledgements may leave; the client sees them as failed.
                self.output.clear();
                self.fail(&ClientError::publish_failed(Verb::Pub, error));
                grapevine_broker::Signal::close(&*self.client.wake);
            }
        }
    }

    async fn subscribe(&mut self, topic: &str, channel: &str) -> Result<(), ClientError> {
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

    fn subscribed(&mut self, topic: Arc<Topic>, channel: ChannelName) {
        self.client.set_subscription(topic.name().clone(), channel.clone());
        self.client.set_state(3);
        self.gate.state = ClientState::Subscribed;
        self.subscription = Some(Subscription { topic, channel });
        self.respond(frame::OK);
    }

    fn consumer_settings(&self) -> ConsumerSettings {
        let locality = match &self.options.place {
            Some((zone, _)) if *zone == self.settings.topology_zone => Locality::Zone,
            Some((_, region)) if *region == self.settings.topology_region => Locality::Region,
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
    fn answer(&mut self, answer: Answer) -> Result<(), ClientError> {
        self.store_batch()?;
        self.answers.push(answer);
        Ok(())
    }

    /// Carries out the noted answers without a pull, where a response must come after them.
    fn apply_answers(&mut self) {
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
                error!(topic = %subscription.topic.name(), channel = %channel, %error, "cannot read the topic log");
                return Err(error);
            }
        }
        Ok(())
    }

    fn pulled(&mut self, pulled: Pulled, now: Moment) {
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

    /// The connection is gone: what it held is for others.
    pub(crate) fn close(&mut self) {
        self.apply_answers();
        if let Some(subscription) = self.subscription.take() {
            subscription.topic.unsubscribe(&subscription.channel, self.client.id);
        }
        self.registry.remove_client(self.client.id);
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
