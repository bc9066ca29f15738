//! One task per client: socket in, commands, one batch, one pull, one write.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use grapevine_protocol::{Moment, frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Sleep;
use tracing::debug;

use super::session::{Progress, Session};
use super::transport::Transport;
use super::upgrade;

/// Room for the first read of a connection that has been quiet.
const READ_BYTES_MIN: usize = 2 * 1024;

/// Room for a read of a busy connection; reached by doubling while reads fill what there is.
const READ_BYTES_MAX: usize = 128 * 1024;

/// How long the end of an upgraded stream may take.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(1);

/// A client's connection after its magic.
pub(crate) struct Connection {
    transport: Transport,
    session: Session,
    input: BytesMut,
    read_bytes: usize,
    /// When the server began to wait for the command that comes next.
    waiting_since: Moment,
    heartbeat_at: Option<Moment>,
    /// The buffer may hold a complete command.
    has_input: bool,
}

impl Connection {
    pub(crate) fn new(transport: Transport, session: Session) -> Self {
        let now = session.registry().clock().moment();
        Self {
            transport,
            session,
            input: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            waiting_since: now,
            heartbeat_at: None,
            has_input: false,
        }
    }

    /// Serves the client until it leaves or errs, or the node stops.
    pub(crate) async fn run(mut self) {
        let sleep = tokio::time::sleep(Duration::from_secs(3_600));
        tokio::pin!(sleep);
        if let Err(error) = self.serve(sleep).await {
            let remote = &self.session.client().remote_address;
            debug!(client = %remote, %error, "client connection lost");
        }
        self.session.close();
        // Layers write a last word, which a peer that does not read must not hold up.
        let _ = tokio::time::timeout(SHUTDOWN_TIME_MAX, self.transport.shutdown()).await;
    }

    async fn serve(&mut self, mut sleep: Pin<&mut Sleep>) -> io::Result<()> {
        let clock = self.session.registry().clock();
        let mut armed: Option<Moment> = None;
        self.heartbeat_at = self.session.heartbeat_after(clock.moment());
        loop {
            let is_over = self.turn().await?;
            if is_over || self.session.client().wake.is_closed() {
                return Ok(());
            }
            if self.session.has_more() || self.has_input {
                tokio::task::yield_now().await;
                if !self.has_input {
                    self.read_what_is_there().await?;
                }
                if self.timers(clock.moment()).await? {
                    return Ok(());
                }
                continue;
            }
            if !self.session.park() {
                continue;
            }
            let due = self.next_due();
            if let Some(due) = due
                && armed.is_none_or(|armed| due < armed)
            {
                sleep.as_mut().reset(clock.instant(due));
                armed = Some(due);
            }
            self.wait(sleep.as_mut(), &mut armed).await?;
            if self.timers(clock.moment()).await? {
                return Ok(());
            }
        }
    }

    /// Commands, deliveries, output; `true` when the connection is over.
    async fn turn(&mut self) -> io::Result<bool> {
        let mut is_over = false;
        if self.has_input {
            let heartbeat = self.session.heartbeat_interval();
            let done = self.session.commands(&mut self.input).await;
            self.has_input = done.progress == Progress::MayContinue;
            is_over = done.progress == Progress::Over;
            if done.progress == Progress::MustUpgrade {
                // Boxed: rare, and large next to the rest of the task.
                is_over = Box::pin(self.upgrade()).await?;
            }
            if done.commands > 0 {
                self.waiting_since = self.session.registry().clock().moment();
            }
            if self.session.heartbeat_interval() != heartbeat {
                self.heartbeat_at = self.session.heartbeat_after(self.waiting_since);
            }
        }
        if !is_over {
            self.session.deliver()?;
        }
        if is_over || self.session.must_flush() {
            self.flush().await?;
        }
        Ok(is_over)
    }

    /// Answers IDENTIFY, then puts on what was negotiated; `true` when that failed.
    async fn upgrade(&mut self) -> io::Result<bool> {
        self.flush().await?;
        let Some(upgrades) = self.session.take_upgrades() else {
            return Ok(false);
        };
        if let Some(config) = upgrades.tls {
            let early = self.input.split().freeze();
            let client = Arc::clone(self.session.client());
            let accepted = tokio::select! {
                biased;
                accepted = upgrade::accept(self.transport.detach(), early, config) => accepted,
                () = closed(&client) => return Err(io::ErrorKind::ConnectionAborted.into()),
            };
            match accepted {
                Ok((transport, facts)) => {
                    self.transport = transport;
                    self.session.upgraded(|layers| layers.tls = Some(facts));
                    self.flush().await?;
                }
                Err(refused) => {
                    self.transport = refused.transport;
                    self.session.upgrade_failed(&refused.reason);
                    return Ok(true);
                }
            }
        }
        if let Some(compression) = upgrades.compression {
            let early = self.input.split().freeze();
            self.transport = compression.wrap(self.transport.detach(), early);
            self.session.upgraded(|layers| layers.add(compression));
            self.flush().await?;
        }
        Ok(false)
    }

    /// Waits for bytes, a wake-up or a deadline.
    async fn wait(&mut self, sleep: Pin<&mut Sleep>, armed: &mut Option<Moment>) -> io::Result<()> {
        let wake = Arc::clone(&self.session.client().wake);
        self.make_room();
        tokio::select! {
            biased;
            read = self.transport.read_buf(&mut self.input) => self.has_read(read?),
            () = wake.wait() => {}
            () = sleep, if armed.is_some() => *armed = None,
        }
        Ok(())
    }

    /// While messages flow without a pause the client's answers must be seen as well.
    async fn read_what_is_there(&mut self) -> io::Result<()> {
        self.make_room();
        tokio::select! {
            biased;
            read = self.transport.read_buf(&mut self.input) => self.has_read(read?),
            () = std::future::ready(()) => {}
        }
        Ok(())
    }

    fn make_room(&mut self) {
        if self.input.is_empty() && self.input.capacity() > READ_BYTES_MAX {
            self.input = BytesMut::new();
        }
        let wanted = self.session.bytes_wanted().saturating_sub(self.input.len());
        let room = self.read_bytes.max(wanted.min(READ_BYTES_MAX));
        self.input.reserve(room);
    }

    fn has_read(&mut self, count: usize) {
        if count == 0 {
            self.session.end_of_input();
        }
        self.has_input = true;
        if self.input.len() == self.input.capacity() {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        } else if count < READ_BYTES_MIN / 2 && self.read_bytes > READ_BYTES_MIN {
            self.read_bytes /= 2;
        }
    }

    fn read_deadline(&self) -> Option<Moment> {
        let interval = self.session.heartbeat_interval()?;
        Some(self.waiting_since + 2 * interval)
    }

    fn next_due(&self) -> Option<Moment> {
        let deadlines = [self.heartbeat_at, self.read_deadline(), self.session.flush_at()];
        deadlines.into_iter().flatten().min()
    }

    /// Heartbeat and read deadline; `true` when the client was silent for too long.
    async fn timers(&mut self, now: Moment) -> io::Result<bool> {
        if self.read_deadline().is_some_and(|deadline| deadline <= now) {
            let remote = &self.session.client().remote_address;
            debug!(client = %remote, "client was silent for two heartbeats");
            return Ok(true);
        }
        if self.session.flush_at().is_some_and(|at| at <= now) {
            self.flush().await?;
        }
        if self.heartbeat_at.is_some_and(|at| at <= now) {
            frame::response(self.session.output(), frame::HEARTBEAT);
            self.heartbeat_at = self.session.heartbeat_after(now);
            self.flush().await?;
        }
        Ok(false)
    }

    /// Writes the output buffer. Each piece must leave within a heartbeat interval, and a closed
    /// connection does not wait for a peer that does not read.
    async fn flush(&mut self) -> io::Result<()> {
        self.session.sync().await;
        let interval = self.session.heartbeat_interval();
        let client = Arc::clone(self.session.client());
        let mut output = self.session.take_output();
        let mut is_stuck = false;
        while !output.is_empty() {
            let written = tokio::select! {
                biased;
                written = self.transport.write_buf(&mut output) => written?,
                () = std::future::ready(()), if !is_stuck => {
                    is_stuck = true;
                    self.session.unpark();
                    continue;
                }
                () = closed(&client) => return Err(io::ErrorKind::ConnectionAborted.into()),
                () = patience(interval) => return Err(io::ErrorKind::TimedOut.into()),
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        if self.transport.must_flush() {
            tokio::select! {
                biased;
                flushed = self.transport.flush() => flushed?,
                () = closed(&client) => return Err(io::ErrorKind::ConnectionAborted.into()),
                () = patience(interval) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        self.session.give_back_output(output);
        Ok(())
    }
}

/// Returns when the connection must end.
pub(super) async fn closed(client: &super::client::Client) {
    while !client.wake.is_closed() {
        client.wake.wait().await;
    }
}

async fn patience(interval: Option<Duration>) {
    match interval {
        Some(interval) => tokio::time::sleep(interval).await,
        None => std::future::pending().await,
    }
}
