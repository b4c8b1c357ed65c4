//! Secrets as files: `<secrets-dir>/<secret>/<key>`, re-read when they change.
//!
//! A mounted Secret changes under a running pod, so a file's content is trusted for one second
//! and then compared by modification time and size before it is used again.

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
    stamp: (SystemTime, u64),
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

    /// The content as it is now, at most a second old.
    ///
    /// # Errors
    ///
    /// When the file is missing or empty; the error names the field, the secret and the key.
    pub fn load(&self) -> Result<Bytes, Missing> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = read.as_ref()
            && read.checked.elapsed() < TRUSTED_FOR
        {
            return Ok(read.content.clone());
        }
        let fresh = self.refresh(read.as_ref());
        *read = fresh;
        read.as_ref().map(|read| read.content.clone()).ok_or_else(|| self.missing())
    }

    fn refresh(&self, known: Option<&Read>) -> Option<Read> {
        let checked = Instant::now();
        let meta = std::fs::metadata(&self.path).ok()?;
        let stamp = (meta.modified().ok()?, meta.len());
        if let Some(known) = known
            && known.stamp == stamp
        {
            return Some(Read { checked, stamp, content: known.content.clone() });
        }
        let content = std::fs::read(&self.path).ok().filter(|content| !content.is_empty())?;
        Some(Read { checked, stamp, content: content.into() })
    }

    fn missing(&self) -> Missing {
        Missing { field: self.field.clone(), name: self.secret.name.clone(), key: self.secret.key.clone() }
    }
}
