//! The configuration: the `spec` of an `SseGateway`, read once, checked whole, without side effects.

use std::fmt;
use std::path::{Path, PathBuf};

use sse_crds::delivery::OverflowPolicy;
use sse_crds::{FieldError, SseGatewaySpec};

use crate::subject::{Pattern, Token};

/// A configuration that passed every check.
#[derive(Clone, Debug)]
pub struct Config {
    pub spec: SseGatewaySpec,
    /// `<namespace>/<name>` of the gateway.
    pub name: GatewayName,
    /// Generation of the declaration that this configuration was made from; it may only grow.
    pub generation: u64,
    pub secrets_dir: PathBuf,
    /// Paths of fields that this version does not know; they are ignored.
    pub unknown: Vec<String>,
}

/// `<namespace>/<name>`: owner of the stream, part of the token bucket's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayName {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for GatewayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl std::str::FromStr for GatewayName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let label = |s: &str| {
            (1..=63).contains(&s.len())
                && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        match text.split_once('/') {
            Some((namespace, name)) if label(namespace) && label(name) => {
                Ok(Self { namespace: namespace.into(), name: name.into() })
            }
            _ => Err("must be <namespace>/<name>, each of a-z 0-9 -"),
        }
    }
}

/// Why a configuration can not be used. Names every wrong field that can be found at once.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {error}", path = path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("the file is no YAML: {0}")]
    Yaml(String),
    #[error("{}", list(.0))]
    Fields(Vec<FieldError>),
}

fn list(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    ///
    /// When it can not be read, has a value of a wrong type, or a value that is not allowed.
    pub fn load(
        file: &Path,
        secrets_dir: &Path,
        name: GatewayName,
        generation: u64,
    ) -> Result<Self, ConfigError> {
        Self::parse(&text(file)?, secrets_dir, name, generation)
    }

    /// Reads and checks the text of the file.
    ///
    /// # Errors
    ///
    /// When it has a value of a wrong type, or a value that is not allowed.
    pub fn parse(
        text: &str,
        secrets_dir: &Path,
        name: GatewayName,
        generation: u64,
    ) -> Result<Self, ConfigError> {
        let (spec, unknown) = read(&value(text)?).map_err(|wrong| ConfigError::Fields(vec![wrong.error]))?;
        let errors = unusable(&spec);
        if !errors.is_empty() {
            return Err(ConfigError::Fields(errors));
        }
        Ok(Self { spec, name, generation, secrets_dir: secrets_dir.to_owned(), unknown })
    }

    /// Name of the stream that is the log.
    #[must_use]
    pub fn stream_name(&self) -> String {
        format!("SSE_{}", self.spec.nats.subject_prefix)
    }

    /// What happens to a slow client: without a log there is nothing to catch up from.
    #[must_use]
    pub const fn overflow_policy(&self) -> OverflowPolicy {
        match self.spec.limits.overflow_policy {
            OverflowPolicy::CatchUp if !self.spec.replay.enabled => OverflowPolicy::DropOldest,
            policy => policy,
        }
    }

    /// Name of the bucket of single-use tokens.
    #[must_use]
    pub fn token_bucket(&self) -> String {
        format!("SSE_tokens_{}_{}", self.name.namespace, self.name.name)
    }
}

/// Reads the file.
///
/// # Errors
///
/// When it can not be read.
pub fn text(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|error| ConfigError::Read { path: file.to_owned(), error })
}

/// Patterns that are too long when encoded: what the schema can not see.
fn unusable_topics(spec: &SseGatewaySpec) -> Vec<FieldError> {
    let unusable = |field: &'static str, patterns: &[String]| {
        let errors = patterns.iter().filter_map(|text| Pattern::parse(text).err());
        errors.map(|e| FieldError { field: field.into(), message: e.to_string() }).collect::<Vec<_>>()
    };
    let public = unusable("topics.public", &spec.topics.public);
    public.into_iter().chain(unusable("topics.autoJoin", &spec.topics.auto_join)).collect()
}

/// A tenant that is too long when encoded: no credential could ever have it.
fn unusable_tenant(spec: &SseGatewaySpec) -> Option<FieldError> {
    let tenant = Some(&spec.auth.default_tenant).filter(|tenant| !tenant.is_empty())?;
    let error = Token::encode(tenant).err()?;
    Some(FieldError { field: "auth.defaultTenant".into(), message: error.to_string() })
}

/// Every field whose value can not be used.
#[must_use]
pub fn unusable(spec: &SseGatewaySpec) -> Vec<FieldError> {
    let mut errors = spec.validate();
    errors.extend(unusable_topics(spec));
    errors.extend(unusable_tenant(spec));
    errors
}

/// Reads YAML as a JSON value: an error of its content then carries the path of the field, not a line.
///
/// # Errors
///
/// When it is no YAML.
pub fn value(text: &str) -> Result<serde_json::Value, ConfigError> {
    serde_saphyr::from_str(text).map_err(|error| ConfigError::Yaml(error.to_string()))
}

/// A field of a wrong type, or one that is missing.
pub struct Wrong {
    pub path: serde_path_to_error::Path,
    /// What is missing at the path.
    pub missing: Option<String>,
    pub error: FieldError,
}

/// Reads the spec, and tells which fields it does not know.
///
/// # Errors
///
/// Tells the first field of a wrong type.
pub fn read(value: &serde_json::Value) -> Result<(SseGatewaySpec, Vec<String>), Box<Wrong>> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let spec = serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
    match spec {
        Ok(spec) => Ok((spec, unknown)),
        Err(error) => Err(Box::new(wrong(track.path(), &serde_json::Error::to_string(&error)))),
    }
}

/// Without the value that was there: it may be a secret in the wrong place.
fn wrong(path: serde_path_to_error::Path, message: &str) -> Wrong {
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let at = path.to_string();
    let (field, message) = match (missing, message.split_once(", expected ")) {
        (Some(name), _) if at == "." => (name.to_owned(), "is missing".to_owned()),
        (Some(name), _) => (format!("{at}.{name}"), "is missing".to_owned()),
        (None, Some((_, expected))) => (at, format!("must be {}", in_words(expected))),
        (None, None) => (at, "can not be read".to_owned()),
    };
    // The whole of it.
    let field = if field == "." { "spec".to_owned() } else { field };
    Wrong { missing: missing.map(str::to_owned), path, error: FieldError { field, message } }
}

/// A type as people know it, who do not write Rust.
fn in_words(expected: &str) -> &str {
    match expected.split(' ').next() {
        Some("u8" | "u16" | "u32" | "u64" | "usize") => "a whole number, 0 or more",
        Some("i8" | "i16" | "i32" | "i64" | "isize") => "a whole number",
        Some("bool") => "true or false",
        Some("struct" | "map") => "a mapping of fields to values",
        _ if expected == "a sequence" => "a list",
        _ if expected == "a boolean" => "true or false",
        _ if expected == "a map" => "a mapping of fields to values",
        _ => expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(SseGatewaySpec, Vec<String>), String> {
        read(&value(text).expect("YAML")).map_err(|wrong| wrong.error.to_string())
    }

    const GOOD: &str = "
nats: {url: 'nats://nats:4222'}
auth:
  issuers: [{issuer: demo, keySecretRef: {name: jwt, key: key}, algorithms: [HS256]}]
";

    #[test]
    fn a_small_file_is_enough() {
        let (spec, unknown) = parse(GOOD).expect("a good file");
        assert_eq!(spec.limits.connection_buffer_size, 100);
        assert!(unknown.is_empty());
        assert!(spec.validate().is_empty());
    }

    #[test]
    fn a_wrong_type_is_named_by_its_path() {
        let text = format!("{GOOD}\nstream: {{heartbeatIntervalSeconds: often}}");
        let error = parse(&text).expect_err("a string is no number");
        assert!(error.starts_with("stream.heartbeatIntervalSeconds: "), "{error}");
    }

    #[test]
    fn what_is_to_be_there_is_said_in_words() {
        let told = |text: &str| parse(text).expect_err("a wrong type");
        assert_eq!(told(""), "spec: must be a mapping of fields to values");
        assert_eq!(told("42"), "spec: must be a mapping of fields to values");
        assert_eq!(told(&format!("{GOOD}\nreplicas: many")), "replicas: must be a whole number, 0 or more");
        assert_eq!(told(&format!("{GOOD}\ntopics: {{public: all}}")), "topics.public: must be a list");
        assert_eq!(
            told(&format!("{GOOD}\npublish: {{enabled: 'on'}}")),
            "publish.enabled: must be true or false"
        );
    }

    #[test]
    fn unknown_fields_are_collected() {
        let (_, unknown) = parse(&format!("{GOOD}\nstream: {{heartbeat: 5}}")).expect("a good file");
        assert_eq!(unknown, ["stream.heartbeat"]);
    }

    #[test]
    fn a_default_tenant_that_is_too_long_when_encoded_is_refused() {
        let name = || GatewayName { namespace: "default".into(), name: "gateway".into() };
        let config = |tenant: &str| {
            let text = GOOD.replace("auth:", &format!("auth:\n  defaultTenant: '{tenant}'"));
            Config::parse(&text, Path::new("."), name(), 0)
        };
        assert!(config(&"é".repeat(21)).is_ok());
        let error = config(&"é".repeat(22)).expect_err("132 bytes").to_string();
        assert!(error.starts_with("auth.defaultTenant: "), "{error}");
    }
}
