//! What a check finds wrong, and the bounds that many fields share. Lengths are counted as the schema
//! counts them, in characters. No finding repeats a text: it may be a secret in the wrong place.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use crate::SecretKeyRef;

/// A field whose value can not be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field within the spec: `stream.heartbeatIntervalSeconds`.
    pub field: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// What was found wrong so far.
#[derive(Default)]
pub struct Findings(Vec<FieldError>);

impl Findings {
    pub fn into_list(self) -> Vec<FieldError> {
        self.0
    }

    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), message: message.into() });
    }

    pub fn require(&mut self, ok: bool, field: &str, message: &str) {
        if !ok {
            self.add(field, message);
        }
    }

    pub fn range(&mut self, field: &str, value: u64, allowed: RangeInclusive<u64>) {
        if !allowed.contains(&value) {
            self.add(field, format!("is {value}, must be from {} to {}", allowed.start(), allowed.end()));
        }
    }

    pub fn length(&mut self, field: &str, value: &str, allowed: RangeInclusive<usize>) {
        if !allowed.contains(&value.chars().count()) {
            self.add(field, format!("must have from {} to {} characters", allowed.start(), allowed.end()));
        }
    }

    pub fn count(&mut self, field: &str, value: usize, allowed: RangeInclusive<usize>) {
        if !allowed.contains(&value) {
            self.add(field, format!("must have from {} to {} entries", allowed.start(), allowed.end()));
        }
    }

    /// Bounds on a list of strings; the finding names the entry.
    pub fn entries(&mut self, field: &str, entries: &[String], most: usize, longest: usize) {
        self.count(field, entries.len(), 0..=most);
        for (i, entry) in entries.iter().enumerate() {
            self.length(&format!("{field}[{i}]"), entry, 1..=longest);
        }
    }

    /// Bounds on labels or annotations.
    pub fn map(&mut self, field: &str, map: &BTreeMap<String, String>) {
        self.count(field, map.len(), 0..=64);
        for (key, value) in map {
            self.length(&format!("{field}.{key}"), value, 0..=4096);
        }
    }

    pub fn secret_name(&mut self, field: &str, name: &str) {
        let end = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = name.as_bytes();
        let ok = bytes.len() <= 253
            && bytes.first().is_some_and(end)
            && bytes.last().is_some_and(end)
            && bytes.iter().all(|b| end(b) || b"-.".contains(b));
        self.require(ok, field, "must be the name of a Secret");
    }

    pub fn secret(&mut self, field: &str, secret: Option<&SecretKeyRef>) {
        let Some(secret) = secret else { return };
        self.secret_name(&format!("{field}.name"), &secret.name);
        let key_ok = (1..=253).contains(&secret.key.len())
            && !secret.key.starts_with("..")
            && secret.key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        self.require(key_ok, &format!("{field}.key"), "must be a key of the Secret");
    }
}

/// What follows `https://` or `http://`, when it is there and holds neither spaces nor credentials.
pub fn web(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let usable = !rest.is_empty() && !rest.contains(|c: char| c == '@' || c.is_whitespace());
    usable.then_some(rest)
}
