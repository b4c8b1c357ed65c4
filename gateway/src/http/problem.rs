//! Errors as a client sees them: RFC 9457, before the first byte of a stream.

use axum::Extension;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::outcome::Outcome;
use crate::auth::Unauthorized;
use crate::auth::jwt::VerifyError;
use crate::connection::limits::Full;
use crate::event::Refusal;
use crate::nats::publish::PublishError;
use crate::token::TokenError;

/// An error answer. The detail holds nothing of a credential.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    retry_after: Option<u32>,
    outcome: Outcome,
    passes: bool,
}

/// In a response: whatever its status says, it is over soon.
#[derive(Clone, Copy)]
pub struct Passes;

impl Problem {
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after: None, outcome: Outcome::of(status), passes: false }
    }

    /// Something that passes: the client comes back after some seconds, not all at once.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let retry_after = Some(rand::random_range(1..=5));
        Self { retry_after, passes: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether it is not about who asks, and passes.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = (self.status, Extension(self.outcome), body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.passes {
            response.extensions_mut().insert(Passes);
        }
        response
    }
}

impl From<Unauthorized> for Problem {
    fn from(error: Unauthorized) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, error.to_string())
    }
}

impl From<VerifyError> for Problem {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Unauthorized(error) => error.into(),
            // Which key is missing, and why, is for who runs the gateway, in /status.
            VerifyError::Key(_) | VerifyError::BadKey | VerifyError::Unreachable => {
                Self::unavailable("The key of the issuer is not available.")
            }
        }
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Unauthorized(error) => error.into(),
            TokenError::Unavailable => Self::unavailable("NATS did not answer in time."),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, format!("The event is refused: {refusal}."))
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::TooLarge => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            PublishError::Ttl => Self::new(StatusCode::BAD_REQUEST, error.to_string()),
            PublishError::Away | PublishError::Late | PublishError::Refused => {
                Self::unavailable(error.to_string())
            }
        }
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        match full {
            Full::User | Full::Elsewhere => Self {
                retry_after: Some(rand::random_range(5..=15)),
                outcome: Outcome::USER_LIMIT,
                passes: full == Full::Elsewhere,
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, full.to_string())
            },
            Full::Pod => Self { outcome: Outcome::POD_LIMIT, ..Self::unavailable(full.to_string()) },
        }
    }
}
