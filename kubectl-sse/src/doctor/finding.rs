//! A finding: what is wrong, why that matters, and what to do.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::say::{Paint, tame};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody can not be served.
    Error,
    /// It works, and will hurt.
    Warning,
}

/// Something to mend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// A CamelCase word that scripts may rely on.
    pub code: &'static str,
    /// Where to look: a field, a pod, a URL.
    pub field: String,
    pub what: String,
    pub why: String,
    pub fix: String,
}

impl Finding {
    pub fn error(code: &'static str, field: impl Into<String>, what: impl Into<String>) -> Self {
        let (why, fix) = (String::new(), String::new());
        Self { severity: Severity::Error, code, field: field.into(), what: what.into(), why, fix }
    }

    pub fn warning(code: &'static str, field: impl Into<String>, what: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, field, what) }
    }

    /// Why it matters.
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// What to do.
    pub fn so(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }

    pub fn text(&self, paint: Paint) -> String {
        let head = match self.severity {
            Severity::Error => paint.bad(&format!("error   {}", self.code)),
            Severity::Warning => paint.odd(&format!("warning {}", self.code)),
        };
        let mut text = format!("{head}  {}", paint.strong(&tame(&self.field)));
        for (label, part) in [("", &self.what), ("why: ", &self.why), ("do:  ", &self.fix)] {
            if !part.is_empty() {
                text.extend(["\n        ", &paint.faint(label), &tame(part)]);
            }
        }
        text
    }
}

/// Findings that only follow from others.
const CONSEQUENCES: [(&str, &[&str]); 2] =
    [("NatsPermission", &["StreamError", "NatsUnreachable"]), ("NatsCredentials", &["NatsUnreachable"])];

/// Leaves each finding once, the root without what follows from it, errors first.
pub fn settle(findings: &mut Vec<Finding>) {
    let codes: BTreeSet<&str> = findings.iter().map(|finding| finding.code).collect();
    let follows = |code: &str| {
        CONSEQUENCES.iter().any(|(root, consequences)| codes.contains(root) && consequences.contains(&code))
    };
    let mut seen = BTreeSet::new();
    let roots: Vec<_> = findings.iter().filter(|finding| !follows(finding.code)).cloned().collect();
    *findings = roots;
    findings.retain(|finding| seen.insert((finding.code, finding.field.clone())));
    findings.sort_by_key(|finding| finding.severity);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_pods_say_is_one_finding_and_the_root_stands_for_what_follows() {
        let mut findings = vec![
            Finding::warning("ClockSkew", "pod a", "late"),
            Finding::error("StreamError", "spec.nats.stream", "timed out"),
            Finding::error("NatsPermission", "spec.nats", "no"),
            Finding::error("NatsPermission", "spec.nats", "no, too"),
        ];
        settle(&mut findings);
        let left: Vec<_> = findings.iter().map(|finding| (finding.code, finding.what.as_str())).collect();
        assert_eq!(left, [("NatsPermission", "no"), ("ClockSkew", "late")]);
    }

    #[test]
    fn a_finding_says_what_why_and_what_to_do() {
        let finding = Finding::error("A", "spec.a", "b\u{7}").because("c").so("d");
        assert_eq!(
            finding.text(Paint::plain()),
            "error   A  spec.a\n        b \n        why: c\n        do:  d"
        );
    }
}
