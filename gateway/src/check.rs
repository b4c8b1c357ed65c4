//! `sse-gateway check`: everything that is wrong with a configuration at once, and what works but will hurt.
//!
//! A value of a wrong type ends the reading of a file. So it is noted, replaced, and the file is read again,
//! until nothing is left to note.

use std::path::Path;

use serde_json::{Value, json};
use serde_path_to_error::Segment;
use sse_crds::FieldError;

use crate::config::{self, ConfigError};

/// Values of a wrong type that are told, at most.
const MOST: usize = 100;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order of the file's own rules: types first.
    pub wrong: Vec<FieldError>,
    pub advice: Vec<FieldError>,
}

/// Checks the file: the `spec` of an `SseGateway`, or the whole resource.
///
/// # Errors
///
/// When it can not be read, or is no YAML.
pub fn check(file: &Path) -> Result<Report, ConfigError> {
    let mut value = config::value(&config::text(file)?)?;
    if value["kind"] == "SseGateway" {
        value = value["spec"].take();
    }
    Ok(report(value))
}

fn report(mut value: Value) -> Report {
    let mut report = Report::default();
    let mut replaced: Vec<String> = Vec::new();
    for _ in 0..MOST {
        match config::read(&value) {
            Ok((spec, unknown)) => {
                let there_is_none = |field| FieldError { field, message: "there is no such field".into() };
                report.wrong.extend(unknown.into_iter().map(there_is_none));
                let usable = config::unusable(&spec).into_iter();
                // What was put there was not the file's.
                let theirs = |error: &FieldError| {
                    !replaced
                        .iter()
                        .any(|path| path.starts_with(&error.field) || error.field.starts_with(path))
                };
                report.wrong.extend(usable.filter(theirs));
                report.advice = spec.advice().into_iter().filter(theirs).collect();
                return report;
            }
            Err(wrong) => {
                let Some(path) = replace(&mut value, &wrong) else {
                    report.wrong.push(wrong.error);
                    return report;
                };
                if !replaced.contains(&path) {
                    report.wrong.push(wrong.error);
                    replaced.push(path);
                }
            }
        }
    }
    report
}

/// Puts something else where a value was wrong or missing; where that was.
fn replace(value: &mut Value, wrong: &config::Wrong) -> Option<String> {
    if wrong.missing.is_none() && wrong.path.iter().len() == 0 {
        // No spec at all.
        return None;
    }
    let mut place = value;
    for segment in &wrong.path {
        place = match segment {
            Segment::Seq { index } => place.get_mut(index)?,
            Segment::Map { key } => place.get_mut(key)?,
            Segment::Enum { .. } | Segment::Unknown => return None,
        };
    }
    if let Some(missing) = &wrong.missing {
        place.as_object_mut()?.insert(missing.clone(), Value::Null);
        return Some(wrong.error.field.clone());
    }
    if let Some(choice) = wrong.error.message.split('`').nth(1) {
        *place = choice.into();
    } else {
        // One after the other, until one of them is of the right type.
        let stubs = [Value::Null, json!(""), json!([]), json!({}), json!(1), json!(false)];
        let next = stubs.iter().position(|stub| stub == place).map_or(0, |at| at + 1);
        *place = stubs.get(next)?.clone();
    }
    Some(wrong.error.field.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> (Vec<String>, Vec<String>) {
        let names = |errors: Vec<FieldError>| errors.into_iter().map(|error| error.field).collect();
        let report = report(config::value(text).expect("YAML"));
        (names(report.wrong), names(report.advice))
    }

    const AUTH: &str = "auth: {issuers: [{issuer: a, audiences: [live], jwksUri: 'https://a/keys'}]}";

    #[test]
    fn a_good_file_has_nothing_to_tell() {
        assert_eq!(fields(&format!("nats: {{url: 'nats://n'}}\n{AUTH}")), (vec![], vec![]));
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_and_each_only_once() {
        let text = "
nats: {subjectPrefix: 'a.b'}
auth: {modes: [Foo], issuers: [{issuer: a, jwksUri: 'https://a/keys'}]}
stream: {heartbeatIntervalSeconds: often, retryMs: -1, defaultEventType: ''}
limits: {overflowPolicy: Drop, connectionBufferSize: 0}
cors: {allowedOrigins: ['*']}
replicas: [1]
colour: red
";
        let (mut wrong, advice) = fields(text);
        wrong.sort_unstable();
        let expected = [
            "auth.modes[0]",
            "colour",
            "cors.allowedOrigins[0]",
            "limits.connectionBufferSize",
            "limits.overflowPolicy",
            "nats.subjectPrefix",
            "nats.url",
            "replicas",
            "stream.defaultEventType",
            "stream.heartbeatIntervalSeconds",
            "stream.retryMs",
        ];
        assert_eq!(wrong, expected);
        assert_eq!(advice, ["auth.issuers[0].audiences"]);
    }

    #[test]
    fn what_was_written_in_the_wrong_place_is_not_repeated() {
        let report = report(config::value("replicas: hunter2\nnats: hunter2").expect("YAML"));
        let told = report.wrong.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(told.contains(&"replicas: must be a whole number, 0 or more".to_owned()), "{told:?}");
        assert!(!told.concat().contains("hunter2"), "{told:?}");
    }

    #[test]
    fn what_is_no_spec_at_all_is_told() {
        for text in ["", "[]", "42", "nats"] {
            assert_eq!(fields(text).0.len(), 1, "{text:?}");
        }
    }
}
