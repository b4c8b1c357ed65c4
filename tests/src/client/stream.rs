//! An open stream, read by the letter of the standard.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::{DEADLINE, Event, Stream};

impl Stream {
    /// The next event; `None` when the stream has ended.
    ///
    /// # Errors
    ///
    /// When nothing comes in time.
    pub async fn next(&mut self, within: Duration) -> Result<Option<Event>> {
        timeout(within, self.read_event()).await.with_context(|| {
            format!("no event within {within:?}, after {:?}", String::from_utf8_lossy(&self.raw))
        })
    }

    /// The next event, which must come.
    ///
    /// # Errors
    ///
    /// When none comes in time, or the stream ends.
    pub async fn event(&mut self) -> Result<Event> {
        self.next(DEADLINE).await?.context("the stream ended")
    }

    /// The data of the next events, up to and with the one that has this data.
    ///
    /// # Errors
    ///
    /// When that event does not come.
    pub async fn until(&mut self, last: &str) -> Result<Vec<String>> {
        let mut seen = Vec::new();
        loop {
            let event = self.event().await.with_context(|| format!("waiting for {last:?}, saw {seen:?}"))?;
            seen.push(event.data.clone());
            if event.data == last {
                return Ok(seen);
            }
        }
    }

    /// Reads until this text has come.
    ///
    /// # Errors
    ///
    /// When it does not come in time, or the stream ends before.
    pub async fn until_raw(&mut self, text: &str, within: Duration) -> Result<()> {
        let read = async {
            while !String::from_utf8_lossy(&self.raw).contains(text) {
                ensure!(self.read_chunk().await, "the stream ended");
            }
            Ok(())
        };
        timeout(within, read).await.with_context(|| format!("{text:?} did not come within {within:?}"))?
    }

    /// The place that the first bytes name: a client that saw no event comes back to it.
    ///
    /// # Errors
    ///
    /// When it does not come in time.
    pub async fn position(&mut self) -> Result<String> {
        let read = async {
            loop {
                let text = String::from_utf8_lossy(&self.raw);
                let place = text.split_once("\nid: ").and_then(|(_, rest)| rest.split_once('\n'));
                if let Some((place, _)) = place {
                    return Ok(place.to_owned());
                }
                ensure!(self.read_chunk().await, "the stream ended");
            }
        };
        timeout(DEADLINE, read).await.context("no place was told in time")?
    }

    /// Reads to the end of the stream.
    ///
    /// # Errors
    ///
    /// When it does not end in time.
    pub async fn to_end(&mut self, within: Duration) -> Result<()> {
        let read = async { while self.read_chunk().await {} };
        timeout(within, read).await.with_context(|| format!("the stream did not end within {within:?}"))
    }

    async fn read_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.parser.events.pop_front() {
                // The cursor is the application's only once it has the event.
                self.last_id.clone_from(&event.id);
                return Some(event);
            }
            self.last_id.clone_from(&self.parser.id);
            if !self.read_chunk().await {
                return None;
            }
        }
    }

    async fn read_chunk(&mut self) -> bool {
        if self.cut_after == Some(0) {
            self.ended_cleanly = Some(false);
            return false;
        }
        match self.body.frame().await {
            Some(Ok(frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    let came = self.cut_after.map_or(bytes.len(), |left| left.min(bytes.len()));
                    self.cut_after = self.cut_after.map(|left| left - came);
                    let bytes = &bytes[..came];
                    self.raw.extend_from_slice(bytes);
                    self.parser.feed(bytes);
                    self.retry = self.parser.retry;
                }
                true
            }
            end => {
                self.ended_cleanly = Some(end.is_none());
                false
            }
        }
    }
}

/// WHATWG HTML, 9.2.6: interpreting an event stream.
#[derive(Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    name: String,
    data: String,
    id_buffer: String,
    id: String,
    retry: Option<u64>,
    events: std::collections::VecDeque<Event>,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let lf_of_crlf = self.after_cr && byte == b'\n';
            self.after_cr = byte == b'\r';
            match byte {
                _ if lf_of_crlf => {}
                b'\r' | b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    self.line(&String::from_utf8_lossy(&line));
                }
                byte => self.line.push(byte),
            }
        }
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.into(),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.id_buffer = value.into(),
            "retry" if value.bytes().all(|b| b.is_ascii_digit()) => self.retry = value.parse().ok(),
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        self.id.clone_from(&self.id_buffer);
        let name = std::mem::take(&mut self.name);
        let mut data = std::mem::take(&mut self.data);
        if data.pop().is_some() {
            let name = if name.is_empty() { "message".into() } else { name };
            self.events.push_back(Event { name, data, id: self.id.clone() });
        }
    }
}
