//! AUTH, and what a client may do on a node that wants it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use grapevine_protocol::{ClientError, Moment, Verb, auth_response};
use rustc_hash::FxBuildHasher;

use super::Session;
use crate::node::auth::{Authenticator, Granted, Question};
use crate::node::connection::closed;

/// Topics whose decisions are remembered; at more the memory begins anew.
const DECISIONS_MAX: usize = 256;

/// A connection's part of AUTH; there is none on a node that lets everybody in.
pub(super) struct SessionAuth {
    authenticator: Arc<Authenticator>,
    /// Of the AUTH that was granted, to ask again with.
    secret: Vec<u8>,
    granted: Option<Granted>,
    /// `granted` was looked at in this turn and holds.
    is_current: bool,
    /// Publishes found permitted, as bits of [`bit`]: no pattern is tried for each message.
    permitted: HashMap<Box<str>, u8, FxBuildHasher>,
}

impl SessionAuth {
    pub(super) fn new(authenticator: Arc<Authenticator>) -> Self {
        Self {
            authenticator,
            secret: Vec::new(),
            granted: None,
            is_current: false,
            permitted: HashMap::default(),
        }
    }

    fn look(&mut self, now: Moment) -> bool {
        let granted = self.granted.as_ref();
        self.is_current = granted.is_some_and(|granted| self.authenticator.holds(granted, now));
        self.is_current
    }

    fn grant(&mut self, granted: Granted) {
        self.granted = Some(granted);
        self.is_current = true;
        self.permitted.clear();
    }

    fn remember(&mut self, verb: Verb, topic: &str) {
        if self.permitted.len() >= DECISIONS_MAX {
            self.permitted.clear();
        }
        *self.permitted.entry(topic.into()).or_default() |= bit(verb);
    }
}

/// Of the three publishes; others are checked each time.
const fn bit(verb: Verb) -> u8 {
    match verb {
        Verb::Pub => 1,
        Verb::Mpub => 2,
        Verb::Dpub => 4,
        Verb::Identify | Verb::Auth | Verb::Sub | Verb::Fin | Verb::Req | Verb::Touch => 0,
    }
}

impl Session {
    /// A turn begins: whether permissions still hold is looked at once in it.
    pub(super) fn begin_auth_turn(&mut self) {
        if let Some(auth) = &mut self.auth {
            auth.is_current = false;
        }
    }

    /// Whether this publish is known to be permitted; if not, [`permit`](Self::permit) decides.
    pub(super) fn is_permitted(&mut self, verb: Verb, topic: &str) -> bool {
        let Some(auth) = &mut self.auth else {
            return true;
        };
        let holds = auth.is_current || auth.look(self.registry.clock().moment());
        holds && auth.permitted.get(topic).is_some_and(|verbs| verbs & bit(verb) != 0)
    }

    /// Decides whether `verb` may be used on `topic` and `channel` (`""` for publishes), asking
    /// again if what is known is out of date.
    ///
    /// # Errors
    ///
    /// The client has not authenticated, is no longer known, or may not do this. All that it sent
    /// before is stored and answered then.
    pub(super) async fn permit(
        &mut self,
        verb: Verb,
        topic: &str,
        channel: &str,
    ) -> Result<(), ClientError> {
        // An error ends the connection, and a server may take long.
        self.store_batch()?;
        self.apply_answers();
        let now = self.registry.clock().moment();
        let Some(auth) = &mut self.auth else {
            return Ok(());
        };
        let holds = auth.look(now);
        let Some(granted) = &auth.granted else {
            return Err(ClientError::auth_first(verb));
        };
        if !holds {
            let (before, secret) = (granted.clone(), auth.secret.clone());
            let again = self.ask(secret, Some(before)).await?;
            self.granted(again);
        }
        let Some(auth) = &mut self.auth else {
            return Ok(());
        };
        let granted = auth.granted.as_ref();
        if !granted.is_some_and(|granted| granted.permissions.allow(verb, topic, channel)) {
            return Err(ClientError::unauthorized(verb, topic, channel));
        }
        if channel.is_empty() {
            auth.remember(verb, topic);
        }
        Ok(())
    }

    /// AUTH.
    pub(super) async fn authenticate(&mut self, secret: &[u8]) -> Result<(), ClientError> {
        match &self.auth {
            None => return Err(ClientError::auth_disabled()),
            Some(auth) if auth.granted.is_some() => return Err(ClientError::auth_already_set()),
            Some(_) => {}
        }
        let granted = self.ask(secret.to_vec(), None).await?;
        let permissions = Arc::clone(&granted.permissions);
        if permissions.is_empty() {
            return Err(ClientError::auth_empty());
        }
        if let Some(auth) = &mut self.auth {
            auth.secret = secret.to_vec();
        }
        self.granted(granted);
        let (identity, url) = (&permissions.identity, &permissions.identity_url);
        self.respond(&auth_response(identity, url, permissions.len()));
        Ok(())
    }

    fn granted(&mut self, granted: Granted) {
        self.client.set_permissions(&granted.permissions);
        if let Some(auth) = &mut self.auth {
            auth.grant(granted);
        }
    }

    /// Asks who the client is; a stopping node does not wait for the answer.
    async fn ask(&self, secret: Vec<u8>, before: Option<Granted>) -> Result<Granted, ClientError> {
        let Some(auth) = &self.auth else {
            return Err(ClientError::auth_disabled());
        };
        let (authenticator, clock) = (&auth.authenticator, self.registry.clock());
        let question = self.question(secret);
        let asking = async {
            match &before {
                Some(before) => authenticator.ask_again(&question, before, &clock).await,
                None => authenticator.ask(&question, &clock).await,
            }
        };
        let granted = tokio::select! {
            biased;
            granted = asking => granted,
            () = closed(&self.client) => None,
        };
        granted.ok_or_else(ClientError::auth_failed)
    }

    fn question(&self, secret: Vec<u8>) -> Question {
        let tls = self.client.layers().tls;
        let remote: Option<SocketAddr> = self.client.remote_address.parse().ok();
        Question {
            secret,
            // An IPv4 address in the clothes of IPv6 is one of IPv4 to Go.
            remote_ip: remote.map_or_else(String::new, |at| at.ip().to_canonical().to_string()),
            is_tls: tls.is_some(),
            common_name: tls.map_or_else(String::new, |tls| tls.common_name),
        }
    }
}
