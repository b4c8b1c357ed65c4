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

/// The parts of an envelope that matter here: what every event must have, its data, and what that is. Any other
/// attribute is the publisher's own affair.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    specversion: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
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
/// When it is no event of version 1.0, with what every such event has, or its data is no text.
pub fn structured(payload: &str) -> Result<(Option<Cow<'_, str>>, Cow<'_, str>), Refusal> {
    let envelope: Envelope<'_> =
        serde_json::from_str(payload).map_err(|_| Refusal::CloudEvent("is not the JSON of one event"))?;
    if required(envelope.specversion, "has no specversion")? != "1.0" {
        return Err(Refusal::CloudEvent("is not of version 1.0"));
    }
    required(envelope.id, "has no id")?;
    required(envelope.source, "has no source")?;
    let kind = required(envelope.kind, "has no type")?;
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
    Ok((Some(kind), data))
}

/// An attribute that every event has: text, and not empty.
fn required<'a>(value: Option<&'a RawValue>, missing: &'static str) -> Result<Cow<'a, str>, Refusal> {
    let text = value.and_then(|value| match serde_json::from_str::<&str>(value.get()) {
        Ok(text) => Some(Cow::Borrowed(text)),
        // With escapes.
        Err(_) => serde_json::from_str(value.get()).ok().map(Cow::Owned),
    });
    text.filter(|text| !text.is_empty()).ok_or(Refusal::CloudEvent(missing))
}

/// Whether data of this type is a JSON value: so says the absent type, too.
fn is_json(media_type: Option<&str>) -> bool {
    let Some(media_type) = media_type else { return true };
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
        let event =
            |rest: &str| format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{rest}}}"#);
        assert!(refused(&event(r#""data":1,"data_base64":"aGk=""#)));
        assert!(refused(&event(r#""data_base64":"%""#)));
        assert_eq!(read(&event(r#""data_base64":"/w==""#)), Err(Refusal::NotUtf8));
    }

    #[test]
    fn what_every_event_must_have_is_named_where_it_is_missing() {
        let full = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "a\nb"});
        assert_eq!(read(&full.to_string()), Ok(("a\nb".into(), String::new())));
        for (name, refusal) in [
            ("specversion", "has no specversion"),
            ("id", "has no id"),
            ("source", "has no source"),
            ("type", "has no type"),
        ] {
            for value in [json!(""), json!(null), json!(1), json!(["1"])] {
                let mut event = full.clone();
                event[name] = value;
                assert_eq!(read(&event.to_string()), Err(Refusal::CloudEvent(refusal)), "{event}");
                event.as_object_mut().expect("an object").remove(name);
                assert_eq!(read(&event.to_string()), Err(Refusal::CloudEvent(refusal)), "{event}");
            }
        }
        let old = json!({"specversion": "0.3", "id": "1", "source": "/s", "type": "t"});
        assert_eq!(read(&old.to_string()), Err(Refusal::CloudEvent("is not of version 1.0")));
    }
}
