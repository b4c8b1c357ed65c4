//! `topics=` of a stream request: what it names, and whether the identity may.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use sse_crds::SseGatewaySpec;

use super::problem::Problem;
use crate::auth::Identity;
use crate::subject::Pattern;

/// What the configuration says about topics.
pub struct Topics {
    public: Vec<Pattern>,
    auto_join: Vec<Pattern>,
    most: usize,
}

impl Topics {
    #[must_use]
    pub fn new(spec: &SseGatewaySpec) -> Self {
        // Validated with the spec; what is no pattern is not here.
        let patterns =
            |texts: &[String]| texts.iter().filter_map(|text| Pattern::parse(text).ok()).collect::<Vec<_>>();
        Self {
            public: patterns(&spec.topics.public),
            auto_join: patterns(&spec.topics.auto_join),
            most: usize::try_from(spec.limits.max_topics_per_connection).unwrap_or(usize::MAX),
        }
    }

    /// The topics, or patterns of them, that a request names. Blank is none.
    ///
    /// # Errors
    ///
    /// When one is empty or can not be a topic, or there are more than a stream may have.
    pub fn wanted(&self, parameter: Option<&str>) -> Result<BTreeSet<Pattern>, Problem> {
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        let text = parameter.unwrap_or_default();
        if text.trim().is_empty() {
            return Ok(BTreeSet::new());
        }
        let mut wanted = BTreeSet::new();
        for (i, item) in text.split(',').enumerate() {
            let pattern = Pattern::parse(item).map_err(|e| bad(format!("topics: item {} {e}.", i + 1)))?;
            wanted.insert(pattern);
            if wanted.len() > self.most {
                return Err(bad(format!("topics: a stream may have at most {}.", self.most)));
            }
        }
        Ok(wanted)
    }

    /// What a stream of this identity is subscribed to: what it wants and may have, and what all have.
    ///
    /// # Errors
    ///
    /// When it may not have one of them.
    pub fn admit(&self, wanted: BTreeSet<Pattern>, identity: &Identity) -> Result<Vec<Pattern>, Problem> {
        let granted = || identity.topics.iter().chain(&self.public).chain(&self.auto_join);
        if let Some(refused) = wanted.iter().find(|topic| !granted().any(|grant| grant.covers(topic))) {
            let detail = format!("The credential grants no subscription to the topic {refused}.");
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        let mut topics = wanted;
        topics.extend(self.auto_join.iter().cloned());
        Ok(topics.into_iter().collect())
    }
}
