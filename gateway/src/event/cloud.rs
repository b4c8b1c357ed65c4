//! CloudEvents 1.0 (NATS protocol binding): in binary mode the attributes are headers and the payload is
//! the data; in structured mode the payload is a JSON envelope around both. Either way the client sees
//! the data, under the type as its event's name.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Refusal;
use crate::subject::token;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

/// How a payload holds the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// It is the data.
    Verbatim,
    /// It is an envelope.
    Structured,
    /// It is a list of envelopes, which one place in the log can not stand for.
    Batch,
}

impl Form {
    /// The form that a content type declares.
    pub fn of(content_type: &str) -> Self {
        match content_type.split(';').next().unwrap_or_default().trim() {
            kind if kind.eq_ignore_ascii_case(STRUCTURED) => Self::Structured,
            kind if kind.eq_ignore_ascii_case(BATCH) => Self::Batch,
            _ => Self::Verbatim,
        }
    }
}

/// The type in a header of binary mode. The binding percent-encodes what is not printable ASCII.
pub fn event_type(value: &str) -> Box<str> {
    token::decode(value).map_or_else(|| value.into(), Into::into)
}

/// The parts of an envelope that matter here; any other attribute is the publisher's own affair.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    datacontenttype: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Option<Cow<'a, str>>,
}

/// Type and data of an envelope. JSON data is passed on as it stands.
///
/// # Errors
///
/// When it is no event of version 1.0, or its data is no text.
pub fn structured(payload: &str) -> Result<(Option<Cow<'_, str>>, Cow<'_, str>), Refusal> {
    let envelope: Envelope<'_> =
        serde_json::from_str(payload).map_err(|_| Refusal::CloudEvent("is not the JSON of one event"))?;
    if envelope.specversion != "1.0" {
        return Err(Refusal::CloudEvent("is not of version 1.0"));
    }
    if envelope.kind.is_empty() {
        return Err(Refusal::CloudEvent("has no usable type"));
    }
    let data = match (envelope.data, envelope.data_base64) {
        (Some(_), Some(_)) => return Err(Refusal::CloudEvent("has both data and data_base64")),
        (Some(data), None) if is_json(envelope.datacontenttype.as_deref()) => Cow::Borrowed(data.get()),
        // Data that is not JSON stands in a JSON string.
        (Some(data), None) => match serde_json::from_str::<String>(data.get()) {
            Ok(text) => Cow::Owned(text),
            Err(_) => Cow::Borrowed(data.get()),
        },
        (None, Some(encoded)) => {
            let bytes = STANDARD
                .decode(&*encoded)
                .map_err(|_| Refusal::CloudEvent("has data_base64 that is none"))?;
            Cow::Owned(String::from_utf8(bytes).map_err(|_| Refusal::NotUtf8)?)
        }
        (None, None) => Cow::Borrowed(""),
    };
    Ok((Some(envelope.kind), data))
}

/// Whether data of this type is a JSON value: so says the absent type, too.
fn is_json(media_type: Option<&str>) -> bool {
    let Some(media_type) = media_type else { return true };
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &str) -> Result<(String, String), Refusal> {
        structured(payload).map(|(kind, data)| (kind.unwrap_or_default().into_owned(), data.into_owned()))
    }

    #[test]
    fn an_envelope_becomes_its_type_and_its_data() {
        let ok = |kind: &str, data: &str| Ok((kind.to_owned(), data.to_owned()));
        let event =
            |rest: &str| format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{rest}}}"#);
        assert_eq!(read(&event(r#","data":{"a": [1,  2]}"#)), ok("t", r#"{"a": [1,  2]}"#));
        assert_eq!(read(&event(r#","data":"text""#)), ok("t", r#""text""#));
        assert_eq!(read(&event(r#","datacontenttype":"text/plain","data":"a\nb""#)), ok("t", "a\nb"));
        assert_eq!(read(&event(r#","data_base64":"aGk=""#)), ok("t", "hi"));
        assert_eq!(read(&event("")), ok("t", ""));
    }

    #[test]
    fn what_is_no_event_of_version_one_is_refused() {
        let refused = |payload: &str| matches!(read(payload), Err(Refusal::CloudEvent(_)));
        assert!(refused("no json"));
        assert!(refused("[]"));
        assert!(refused(r#"{"specversion":"0.3","type":"t"}"#));
        assert!(refused(r#"{"specversion":"1.0"}"#));
        assert!(refused(r#"{"specversion":"1.0","type":""}"#));
        assert!(refused(r#"{"specversion":"1.0","type":"t","data":1,"data_base64":"aGk="}"#));
        assert!(refused(r#"{"specversion":"1.0","type":"t","data_base64":"%"}"#));
        let binary = r#"{"specversion":"1.0","type":"t","data_base64":"/w=="}"#;
        assert_eq!(read(binary), Err(Refusal::NotUtf8));
    }
}
