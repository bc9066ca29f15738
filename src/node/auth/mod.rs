//! Who a client is and what it may do: the file of `-auth-file` is asked, then the servers of
//! `-auth-http-address`.

mod reload;
mod servers;

use std::sync::Arc;

use grapevine_protocol::Moment;
use tracing::info;

use super::clock::Clock;
use crate::auth::Permissions;
use crate::config::Options;

use reload::AuthFile;
use servers::AuthServers;

/// What is known of a client that wants to be let in.
#[derive(Clone, Default)]
pub(crate) struct Question {
    /// The body of its `AUTH`. Never logged.
    pub(crate) secret: Vec<u8>,
    /// Without its port; empty for a unix socket.
    pub(crate) remote_ip: String,
    /// Whether the connection has TLS.
    pub(crate) is_tls: bool,
    /// Common name of the client's certificate; empty without one.
    pub(crate) common_name: String,
}

/// What a client may do, and for how long that is known.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) permissions: Arc<Permissions>,
    /// End of an auth server's TTL; `None`: from the file.
    expires: Option<Moment>,
    /// Of the file, when it was asked.
    generation: u64,
}

/// Lets clients in. There is none on a node that lets everybody in.
#[derive(Debug)]
pub(crate) struct Authenticator {
    file: Option<Arc<AuthFile>>,
    servers: Option<AuthServers>,
}

impl Authenticator {
    /// What `options` ask for; `None` if that is nothing.
    ///
    /// # Errors
    ///
    /// One line that names the flag, and what is wrong with its value or its file.
    pub(crate) fn open(options: &Options) -> Result<Option<Arc<Self>>, String> {
        let path = Some(options.auth_file.as_str()).filter(|path| !path.is_empty());
        let file = path.map(AuthFile::open).transpose()?.map(Arc::new);
        let has_servers = !options.auth_http_addresses.is_empty();
        let servers = has_servers.then(|| AuthServers::new(options)).transpose()?;
        if file.is_none() && servers.is_none() {
            return Ok(None);
        }
        let clients = file.as_ref().map_or(0, |file| file.len());
        let addresses = options.auth_http_addresses.len();
        info!(clients, servers = addresses, "AUTH: clients must authenticate");
        Ok(Some(Arc::new(Self { file, servers })))
    }

    /// Whether `granted` still holds: its time is not over, and the file is the one it was.
    pub(crate) fn holds(&self, granted: &Granted, now: Moment) -> bool {
        granted.generation == self.generation() && granted.expires.is_none_or(|at| now < at)
    }

    /// What the client may do, which may be nothing; `None` if nobody knows it.
    pub(crate) async fn ask(&self, question: &Question, clock: &Clock) -> Option<Granted> {
        let generation = self.generation();
        if let Some(permissions) = self.in_file(question) {
            return Some(Granted { permissions, expires: None, generation });
        }
        let (permissions, ttl) = self.servers.as_ref()?.ask(question).await?;
        Some(Granted { permissions, expires: Some(clock.moment() + ttl), generation })
    }

    /// As [`ask`](Self::ask), for a client with a grant that no longer [`holds`](Self::holds).
    ///
    /// A changed file that does not know the client leaves a server's word good until its end.
    pub(crate) async fn ask_again(
        &self,
        question: &Question,
        before: &Granted,
        clock: &Clock,
    ) -> Option<Granted> {
        let generation = self.generation();
        let is_good = before.expires.is_some_and(|at| clock.moment() < at);
        if is_good && self.in_file(question).is_none() {
            return Some(Granted { generation, ..before.clone() });
        }
        self.ask(question, clock).await
    }

    /// Looks after the file for as long as the node runs.
    pub(crate) async fn watch(self: Arc<Self>) {
        if let Some(file) = &self.file {
            Arc::clone(file).watch().await;
        }
    }

    fn in_file(&self, question: &Question) -> Option<Arc<Permissions>> {
        self.file.as_ref()?.find(&question.secret)
    }

    /// Of the file; 0 for ever without one.
    fn generation(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.generation())
    }
}
