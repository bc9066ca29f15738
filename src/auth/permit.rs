//! What a client may do: patterns for topics and channels, compiled once.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use grapevine_protocol::{AuthGrant, Authorization, Verb};
use regex::{Regex, RegexBuilder};

/// Patterns of one client. A grant with more is a mistake, and would cost every check.
const PATTERNS_MAX: usize = 10_000;

/// Bytes one compiled pattern may take: thousands of times what a useful one needs.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Grants kept before the first look for those nobody uses any more.
const SWEEP_MIN: usize = 64;

/// Who a client is and what it may do.
#[derive(Debug)]
pub(crate) struct Permissions {
    /// A name for people, shown in `/stats`.
    pub(crate) identity: String,
    /// Where people can read about the identity.
    pub(crate) identity_url: String,
    permits: Vec<Permit>,
}

#[derive(Debug)]
struct Permit {
    topic: Regex,
    channels: Vec<Regex>,
    can_subscribe: bool,
    can_publish: bool,
}

/// A grant that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum BadGrant {
    /// Neither of the two there are.
    #[error("permission {0:?}, where subscribe or publish belongs")]
    Permission(String),
    /// No regular expression, or one that would take too much memory.
    #[error("pattern {pattern:?}: {reason}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// One line.
        reason: String,
    },
    /// More patterns than anybody needs.
    #[error("more than {PATTERNS_MAX} patterns")]
    TooMany,
}

impl Permissions {
    /// Checks the words of `grant` and compiles its patterns.
    ///
    /// # Errors
    ///
    /// [`BadGrant`] names the first thing that is wrong.
    pub(crate) fn new(grant: &AuthGrant) -> Result<Self, BadGrant> {
        let entries = &grant.authorizations;
        let patterns = entries.iter().map(|entry| 1 + entry.channels.len()).sum::<usize>();
        if patterns > PATTERNS_MAX {
            return Err(BadGrant::TooMany);
        }
        Ok(Self {
            identity: grant.identity.clone(),
            identity_url: grant.identity_url.clone(),
            permits: entries.iter().map(Permit::new).collect::<Result<_, _>>()?,
        })
    }

    /// Entries, as the answer to `AUTH` counts them.
    pub(crate) const fn len(&self) -> usize {
        self.permits.len()
    }

    /// Whether they permit nothing at all.
    pub(crate) const fn is_empty(&self) -> bool {
        self.permits.is_empty()
    }

    /// Whether `verb` may be used on `topic` and `channel`, which is `""` for publishes.
    ///
    /// Source: `State.IsAllowed`, internal/auth/authorizations.go (nsq 3103474b): a publish needs
    /// a channel pattern that matches nothing, such as `.*`.
    pub(crate) fn allow(&self, verb: Verb, topic: &str, channel: &str) -> bool {
        let is_subscribe = verb == Verb::Sub;
        self.permits.iter().any(|permit| {
            let has_verb = if is_subscribe { permit.can_subscribe } else { permit.can_publish };
            has_verb
                && permit.topic.is_match(topic)
                && permit.channels.iter().any(|pattern| pattern.is_match(channel))
        })
    }
}

impl Permit {
    fn new(entry: &Authorization) -> Result<Self, BadGrant> {
        let known = |word: &&String| !matches!(word.as_str(), "subscribe" | "publish");
        if let Some(word) = entry.permissions.iter().find(known) {
            return Err(BadGrant::Permission(word.clone()));
        }
        let has = |wanted: &str| entry.permissions.iter().any(|word| word == wanted);
        Ok(Self {
            topic: pattern(&entry.topic)?,
            channels: entry.channels.iter().map(|text| pattern(text)).collect::<Result<_, _>>()?,
            can_subscribe: has("subscribe"),
            can_publish: has("publish"),
        })
    }
}

fn pattern(text: &str) -> Result<Regex, BadGrant> {
    RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build().map_err(|error| {
        // A syntax error is drawn over several lines; the last one says what it is.
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default();
        let reason = last.strip_prefix("error: ").unwrap_or(last).to_owned();
        BadGrant::Pattern { pattern: text.to_owned(), reason }
    })
}

/// Compiled grants by their words: a fleet with one secret holds its patterns once.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    held: HashMap<AuthGrant, Weak<Permissions>>,
    /// Grants held at which those that nobody uses are dropped.
    sweep_at: usize,
}

impl Compiled {
    /// The permissions of `grant`, those of before if somebody still has them.
    ///
    /// # Errors
    ///
    /// As [`Permissions::new`].
    pub(crate) fn get(&mut self, grant: AuthGrant) -> Result<Arc<Permissions>, BadGrant> {
        if let Some(permissions) = self.held.get(&grant).and_then(Weak::upgrade) {
            return Ok(permissions);
        }
        let permissions = Arc::new(Permissions::new(&grant)?);
        if self.held.len() >= self.sweep_at.max(SWEEP_MIN) {
            self.held.retain(|_, held| held.strong_count() > 0);
            self.sweep_at = 2 * self.held.len();
        }
        self.held.insert(grant, Arc::downgrade(&permissions));
        Ok(permissions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(topic: &str, channels: &[&str], permissions: &[&str]) -> Authorization {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Authorization {
            topic: topic.to_owned(),
            channels: texts(channels),
            permissions: texts(permissions),
        }
    }

    fn grant(authorizations: Vec<Authorization>) -> AuthGrant {
        AuthGrant { authorizations, ..AuthGrant::default() }
    }

    fn one(topic: &str, channels: &[&str], permissions: &[&str]) -> Permissions {
        Permissions::new(&grant(vec![entry(topic, channels, permissions)])).unwrap()
    }

    const BOTH: [&str; 2] = ["subscribe", "publish"];

    #[test]
    fn patterns_match_anywhere_unless_they_are_anchored() {
        for (pattern, topic, is_allowed) in [
            ("tes", "mytest", true),
            ("^tes", "mytest", false),
            ("^orders$", "orders", true),
            ("^orders$", "orders2", false),
            ("^(a|b)$", "b", true),
            ("^team\\.", "teamx", false),
            ("(?i)^ORDERS$", "orders", true),
            ("^\\w+$", "a_1", true),
            ("", "anything", true),
        ] {
            let permissions = one(pattern, &[".*"], &BOTH);
            assert_eq!(permissions.allow(Verb::Pub, topic, ""), is_allowed, "{pattern} {topic}");
            assert_eq!(permissions.allow(Verb::Sub, topic, "c"), is_allowed, "{pattern} {topic}");
        }
    }

    #[test]
    fn a_publish_needs_a_channel_pattern_that_matches_nothing() {
        for verb in [Verb::Pub, Verb::Mpub, Verb::Dpub] {
            assert!(!one("t", &[], &BOTH).allow(verb, "t", ""));
            assert!(!one("t", &["ch"], &BOTH).allow(verb, "t", ""));
            assert!(one("t", &["ch", ".*"], &BOTH).allow(verb, "t", ""));
        }
        assert!(!one("t", &[], &BOTH).allow(Verb::Sub, "t", "ch"));
        assert!(one("t", &["x", "^ch$"], &BOTH).allow(Verb::Sub, "t", "ch"));
    }

    #[test]
    fn one_entry_must_fit_in_all_its_parts() {
        let split = Permissions::new(&grant(vec![
            entry("^a$", &[".*"], &["publish"]),
            entry("^b$", &["^c$"], &["subscribe"]),
        ]));
        let split = split.unwrap();
        assert!(split.allow(Verb::Pub, "a", "") && split.allow(Verb::Sub, "b", "c"));
        assert!(!split.allow(Verb::Sub, "a", "c") && !split.allow(Verb::Pub, "b", ""));
        assert!(!split.allow(Verb::Sub, "b", "d"));
        assert!(!one("t", &[".*"], &[]).allow(Verb::Pub, "t", ""));
    }

    #[test]
    fn a_bad_word_or_pattern_spoils_the_grant_and_is_named_in_one_line() {
        let refused = |entry| Permissions::new(&grant(vec![entry])).unwrap_err().to_string();
        let admin = refused(entry("t", &[], &["publish", "admin"]));
        assert_eq!(admin, "permission \"admin\", where subscribe or publish belongs");
        assert_eq!(refused(entry("(", &[], &BOTH)), "pattern \"(\": unclosed group");
        for text in ["[", "(?P<a", "a{2,1}", "*", "\\1", "(a){1000}{1000}{1000}"] {
            let reason = refused(entry("t", &[text], &BOTH));
            assert!(reason.starts_with("pattern ") && !reason.contains('\n'), "{reason}");
        }
        let many = entry("t", &[".*"; PATTERNS_MAX], &BOTH);
        assert_eq!(refused(many), "more than 10000 patterns");
    }

    #[test]
    fn equal_grants_share_their_patterns_and_unused_ones_are_forgotten() {
        let mut compiled = Compiled::default();
        let named = |name: String| AuthGrant { identity: name, ..AuthGrant::default() };
        let first = compiled.get(named("a".to_owned())).unwrap();
        assert!(Arc::ptr_eq(&first, &compiled.get(named("a".to_owned())).unwrap()));
        for number in 0..10 * SWEEP_MIN {
            compiled.get(named(number.to_string())).unwrap();
        }
        assert!(compiled.held.len() <= SWEEP_MIN, "{}", compiled.held.len());
        assert!(Arc::ptr_eq(&first, &compiled.get(named("a".to_owned())).unwrap()));
    }
}
