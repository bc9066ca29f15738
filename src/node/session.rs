//! What one client may do and has asked for: commands in, batches and answers out.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use grapevine_broker::Pulled;
use grapevine_protocol::{
    ClientError, ClientSettings, ClientState, Command, Decoded, Decoder, Gate, Identify, Limits,
    Moment, ServerSettings, Verb, frame, negotiate,
};
use grapevine_storage::{Batch, Cursor};
use tracing::debug;

use super::auth::Authenticator;
use super::client::Client;
use super::registry::Registry;
use super::topic::Topic;
use super::upgrade::{Layers, Upgrades};

mod auth;
mod delivery;
mod publish;

use auth::SessionAuth;
use delivery::{Answer, Subscription};
use publish::PendingPublish;

/// Commands carried out before deliveries and other connections get their turn.
const COMMANDS_PER_TURN_MAX: usize = 1_024;

/// Body bytes taken in one pull, and output bytes after which a pull waits for a write.
const PULL_BYTES_MAX: usize = 64 * 1024;

/// Output buffers larger than this are not kept for the next turn.
const OUTPUT_BYTES_KEPT_MAX: usize = 256 * 1024;

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
    /// Lets clients in; `None`: everybody may do everything.
    pub(crate) auth: Option<Arc<Authenticator>>,
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
    auth: Option<Box<SessionAuth>>,
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
        let auth = options.auth.as_ref().map(|auth| Box::new(SessionAuth::new(Arc::clone(auth))));
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
            auth,
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
        self.begin_auth_turn();
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
            // Boxed: rare, and large next to the rest of the task.
            Command::Auth(secret) => Box::pin(self.authenticate(secret)).await,
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

    /// The connection is gone: what it held is for others.
    pub(crate) fn close(&mut self) {
        self.apply_answers();
        if let Some(subscription) = self.subscription.take() {
            subscription.topic.unsubscribe(&subscription.channel, self.client.id);
        }
        self.registry.remove_client(self.client.id);
    }
}
