//! The file of `-auth-file`, read again whenever it has changed.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use crate::auth::{AUTH_FILE_BYTES_MAX, AuthClients, Permissions};

/// Between two looks at the file: a change is in force after a second.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What changes with a file's content, also when an editor puts another file in its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    modified_s: i64,
    modified_ns: i64,
    len: u64,
    device: u64,
    inode: u64,
}

/// The clients of a file as last read without error.
#[derive(Debug)]
pub(super) struct AuthFile {
    path: PathBuf,
    clients: ArcSwap<AuthClients>,
    /// Grows with every change of `clients`, after it.
    generation: AtomicU64,
    /// The file as last looked at; `None`: there was none that could be looked at.
    seen: Mutex<Option<Stamp>>,
}

impl AuthFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    ///
    /// One line that names the flag, the file and what is wrong.
    pub(super) fn open(path: &str) -> Result<Self, String> {
        let path = PathBuf::from(path);
        // First the stamp: a change behind it is found by the next look.
        let seen = Stamp::of(&path).ok();
        let clients = read(&path).map_err(|error| format!("--auth-file {path:?}: {error}"))?;
        Ok(Self {
            path,
            clients: ArcSwap::from_pointee(clients),
            generation: AtomicU64::new(0),
            seen: Mutex::new(seen),
        })
    }

    /// What the client with this secret may do; `None` if there is no such client.
    pub(super) fn find(&self, secret: &[u8]) -> Option<Arc<Permissions>> {
        self.clients.load().find(secret)
    }

    /// Another number whenever the clients are others.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How many clients there are.
    pub(super) fn len(&self) -> usize {
        self.clients.load().len()
    }

    /// Looks at the file each second, for ever.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let file = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || file.look()).await;
            if let Err(error) = looked {
                error!(path = %self.path.display(), %error, "cannot look at the auth file");
            }
        }
    }

    /// Reads the file if it is another than last time. A bad one changes nothing.
    fn look(&self) {
        let stamp = Stamp::of(&self.path);
        let now = stamp.as_ref().ok().copied();
        if std::mem::replace(&mut *self.seen.lock(), now) == now {
            return;
        }
        let path = self.path.display();
        let read = match stamp {
            Ok(_) => read(&self.path),
            Err(error) => Err(error.to_string()),
        };
        match read {
            Ok(clients) => {
                info!(%path, clients = clients.len(), "auth file read again");
                self.clients.store(Arc::new(clients));
                self.generation.fetch_add(1, Ordering::Release);
            }
            Err(error) => {
                error!(%path, %error, "the changed auth file is bad; the last one stays in force");
            }
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
            len: metadata.len(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

fn read(path: &Path) -> Result<AuthClients, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let mut file = file.take(AUTH_FILE_BYTES_MAX + 1);
    file.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > AUTH_FILE_BYTES_MAX {
        return Err(format!("larger than {AUTH_FILE_BYTES_MAX} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    AuthClients::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(secret: &str) -> String {
        format!("[[client]]\nsecret = \"{secret}\"\n")
    }

    #[test]
    fn a_change_is_taken_over_and_a_bad_file_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.toml");
        std::fs::write(&path, client("one")).unwrap();
        let file = AuthFile::open(path.to_str().unwrap()).unwrap();
        file.look();
        assert_eq!(file.generation(), 0, "nothing has changed");

        // As an editor does it: a new file takes the old one's name.
        std::fs::write(dir.path().join("new"), client("two")).unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        file.look();
        assert_eq!(file.generation(), 1);
        assert!(file.find(b"one").is_none() && file.find(b"two").is_some());

        for bad in ["", "no TOML", "[[client]]\n", "\u{0}"] {
            std::fs::write(&path, bad).unwrap();
            file.look();
            assert_eq!((file.generation(), file.len()), (1, 1), "{bad:?}");
        }
        std::fs::remove_file(&path).unwrap();
        file.look();
        assert!(file.find(b"two").is_some());

        std::fs::write(&path, client("three")).unwrap();
        file.look();
        assert_eq!(file.generation(), 2);
        assert!(file.find(b"three").is_some());
    }

    #[test]
    fn a_file_that_cannot_be_used_at_the_start_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |path: &Path| AuthFile::open(path.to_str().unwrap()).unwrap_err();
        let missing = dir.path().join("missing.toml");
        let reason = refused(&missing);
        assert!(reason.contains("--auth-file") && reason.contains("missing.toml"), "{reason}");
        let path = dir.path().join("large.toml");
        let large = "#".repeat(usize::try_from(AUTH_FILE_BYTES_MAX).unwrap() + 1);
        std::fs::write(&path, large).unwrap();
        assert!(refused(&path).ends_with("larger than 16777216 bytes"), "{}", refused(&path));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(refused(&path).ends_with("not UTF-8"));
    }
}
