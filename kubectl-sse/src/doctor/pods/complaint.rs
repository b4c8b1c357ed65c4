//! What pods complain of in `/status`, as findings: each reason of the gateway with why it matters and what to do.

use super::super::finding::Finding;
use crate::cluster::in_spec;
use crate::report::{Problem, Report};

/// A reason, the code of its finding, why it matters, what to do.
type Known = (&'static str, &'static str, &'static str, &'static str);

/// What the server did not permit: told beside what logs tell of it.
pub const PERMISSION: &str = "NatsPermission";

const KNOWN: [Known; 10] = [
    (
        "StreamOwned",
        "StreamOwned",
        "two gateways on one prefix would deliver each other's events; this one stays unready",
        "choose another spec.nats.subjectPrefix, or set spec.nats.stream.managed to false to share the log on purpose",
    ),
    (
        "StreamMissing",
        "StreamMissing",
        "there is no log to read events from",
        "have the gateway that manages the stream run, or set spec.nats.stream.managed to true",
    ),
    (
        "StreamUnsuitable",
        "StreamUnsuitable",
        "without the republished feed no event arrives live",
        "have the stream republish to the -live subjects and allow direct gets, or let a gateway manage it",
    ),
    (
        "StreamError",
        "StreamError",
        "the log can not be used",
        "look whether JetStream is on, its limits leave room, and the account may use it",
    ),
    (
        "NatsMisconfigured",
        "NatsMisconfigured",
        "the connection to NATS is not even attempted",
        "mend the field that the message names",
    ),
    (
        "NatsUnsuitable",
        "NatsUnsuitable",
        "the server refuses what this gateway promises to take",
        "raise max_payload of the server or lower the field; upgrade a server that is too old",
    ),
    (
        "NotServed",
        "NotServed",
        "the gateway would not do what is declared, so it stays unready",
        "leave the field out, or take a version that serves it",
    ),
    (
        "KeyUnusable",
        "KeyUnusable",
        "nobody whom this issuer vouches for can connect",
        "put the public key in PEM into the secret, of the kind that the algorithms need",
    ),
    (
        "IssuerUnreachable",
        "JwksUnreachable",
        "nobody whom this issuer vouches for can connect, once the keys that are known are gone",
        "open the address from a pod: the name, an authority (caSecretRef), a proxy or a network policy in between",
    ),
    (
        "CertificateUnusable",
        "CertificateUnusable",
        "new connections are not served, or by an old certificate",
        "put a matching pair of tls.crt and tls.key into the secret",
    ),
];

/// Whether a problem already tells why NATS is of no use.
pub fn is_of_nats(reason: &str) -> bool {
    reason.starts_with("Stream") || reason == "NatsMisconfigured"
}

/// What a pod complains of.
pub fn of(report: &Report, namespace: &str) -> Vec<Finding> {
    let missing = report.missing_secrets.iter().map(|secret| missing(secret, namespace));
    let problems = report.problems.iter().map(|problem| finding(problem, Finding::error));
    let warnings = report.warnings.iter().filter(|warning| warning.reason != PERMISSION);
    let warnings = warnings.map(|problem| finding(problem, Finding::warning));
    missing.chain(problems).chain(warnings).collect()
}

/// `<field>: <secret>/<key>`
fn missing(secret: &str, namespace: &str) -> Finding {
    let (field, place) = secret.split_once(": ").unwrap_or(("spec", secret));
    let (name, key) = place.split_once('/').unwrap_or((place, "KEY"));
    // Such a pair is one secret of a type of its own.
    let content = match key {
        "tls.crt" | "tls.key" => format!("tls {name} --cert=FILE --key=FILE"),
        _ => format!("generic {name} --from-file={key}=FILE"),
    };
    Finding::error("MissingSecret", in_spec(field), format!("there is no {place} in namespace {namespace}"))
        .because("pods stay unready until it is there")
        .so(format!("kubectl -n {namespace} create secret {content}; pods find it within two minutes"))
}

fn finding(problem: &Problem, severity: fn(&'static str, String, String) -> Finding) -> Finding {
    // `<field>: what`
    let (field, what) = problem.message.split_once(": ").unwrap_or(("spec", &problem.message));
    let is_path = !field.contains(char::is_whitespace) && field.starts_with(|c: char| c.is_ascii_lowercase());
    let (field, what) =
        if is_path { (in_spec(field), what) } else { ("spec".into(), problem.message.as_str()) };
    let known = KNOWN.iter().find(|(reason, ..)| *reason == problem.reason);
    match known {
        Some((_, code, why, fix)) => severity(code, field, what.to_owned()).because(*why).so(*fix),
        None => severity("GatewayProblem", field, format!("{}: {what}", problem.reason))
            .because("a pod says so of itself")
            .so("mend what the message names"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(report: &serde_json::Value) -> Finding {
        let report = serde_json::from_value(report.clone()).expect("a report");
        of(&report, "shop").pop().expect("a finding")
    }

    #[test]
    fn a_missing_secret_comes_with_the_line_that_makes_it() {
        let finding = one(&json!({"missingSecrets": ["auth.issuers[0].keySecretRef: jwt/key"]}));
        assert_eq!((finding.code, &*finding.field), ("MissingSecret", "spec.auth.issuers[0].keySecretRef"));
        assert!(finding.fix.starts_with("kubectl -n shop create secret generic jwt --from-file=key="));
        let finding = one(&json!({"missingSecrets": ["tls.secretName: certs/tls.crt"]}));
        assert!(finding.fix.contains("create secret tls certs --cert="), "{}", finding.fix);
    }

    #[test]
    fn a_problem_names_its_field_and_one_that_is_new_is_told_as_it_is() {
        let message = "nats.stream.managed: the stream SSE_x belongs to a/b";
        let finding = one(&json!({"problems": [{"reason": "StreamOwned", "message": message}]}));
        let expected = ("StreamOwned", "spec.nats.stream.managed", "the stream SSE_x belongs to a/b");
        assert_eq!((finding.code, &*finding.field, &*finding.what), expected);
        let finding = one(&json!({"warnings": [{"reason": "Later", "message": "Some words: and more"}]}));
        assert_eq!((&*finding.field, &*finding.what), ("spec", "Later: Some words: and more"));
    }
}
