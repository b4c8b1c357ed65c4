//! Secrets as files: `<secrets-dir>/<secret>/<key>`, re-read when they change.
//!
//! A mounted Secret changes under a running pod, so a file's content is trusted for one second
//! and then compared by modification time and size before it is used again. Where the file is gone, the last
//! content serves on: a Secret that somebody deletes must not end what runs. That it is gone is told.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sse_crds::SecretKeyRef;

const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// A secret's content. Does not print itself.
pub type Bytes = Arc<[u8]>;

/// A file that should hold a secret, and the field that asks for it.
pub struct SecretFile {
    field: String,
    secret: SecretKeyRef,
    path: PathBuf,
    read: Mutex<Option<Read>>,
}

struct Read {
    checked: Instant,
    /// Modification time and size; `None` when the file is not there any more.
    stamp: Option<(SystemTime, u64)>,
    content: Bytes,
}

/// The file is not there, empty, or can not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {name}/{key}")]
pub struct Missing {
    pub field: String,
    pub name: String,
    pub key: String,
}

impl SecretFile {
    #[must_use]
    pub fn new(dir: &Path, field: String, secret: SecretKeyRef) -> Self {
        let path = dir.join(&secret.name).join(&secret.key);
        Self { field, secret, path, read: Mutex::new(None) }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content as it is now, at most a second old, or as it was before the file went.
    ///
    /// # Errors
    ///
    /// When the file was never there, or empty; the error names the field, the secret and the key.
    pub fn load(&self) -> Result<Bytes, Missing> {
        self.look().map(|(content, _)| content).ok_or_else(|| self.missing())
    }

    /// Whether the file is there now, whatever serves in its place.
    ///
    /// # Errors
    ///
    /// When it is missing or empty.
    pub fn is_there(&self) -> Result<(), Missing> {
        self.look().filter(|(_, there)| *there).map(drop).ok_or_else(|| self.missing())
    }

    /// The content, and whether the file is there.
    fn look(&self) -> Option<(Bytes, bool)> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.as_ref().is_none_or(|read| read.checked.elapsed() >= TRUSTED_FOR) {
            *read = self.refresh(read.take());
        }
        read.as_ref().map(|read| (read.content.clone(), read.stamp.is_some()))
    }

    fn refresh(&self, known: Option<Read>) -> Option<Read> {
        let checked = Instant::now();
        let stamp =
            std::fs::metadata(&self.path).ok().and_then(|meta| Some((meta.modified().ok()?, meta.len())));
        match known {
            Some(known) if known.stamp == stamp => Some(Read { checked, ..known }),
            known => {
                let content = stamp.and_then(|_| std::fs::read(&self.path).ok());
                match content.filter(|content| !content.is_empty()) {
                    Some(content) => Some(Read { checked, stamp, content: content.into() }),
                    None => known.map(|known| Read { checked, stamp: None, ..known }),
                }
            }
        }
    }

    fn missing(&self) -> Missing {
        Missing { field: self.field.clone(), name: self.secret.name.clone(), key: self.secret.key.clone() }
    }
}
