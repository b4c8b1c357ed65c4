//! Where a JWT comes from, and what it says of itself. It is never printed, and never in an error.

use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::io::stdin;
use tokio::process::Command;
use tokio::time::timeout;

use crate::arguments::JwtArguments;
use crate::input;

/// A command may have to ask an issuer, and its user.
const COMMAND: Duration = Duration::from_mins(1);
/// Standard input has to end in this time.
const INPUT: Duration = Duration::from_secs(30);
/// Longer ones are not looked at by gateways either.
const MAX_JWT: u64 = 16 * 1024;
/// A JWT that is good for less is not worth a connection, in seconds.
const SPARE: i64 = 5;

/// A JWT. Does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Jwt(String);

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jwt(…)")
    }
}

/// What a JWT says, unverified.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub algorithm: String,
    pub claims: Map<String, Value>,
}

impl Jwt {
    /// # Errors
    ///
    /// When it does not look like one.
    pub fn of(text: &str) -> Result<Self> {
        let jwt = Self(text.trim().to_owned());
        ensure!(jwt.said().is_some(), "this is not a JWT: it must be three parts with dots between them");
        Ok(jwt)
    }

    /// For a header, and nowhere else.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `Bearer …`
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// What stands in it.
    pub fn said(&self) -> Option<Said> {
        let mut parts = self.0.split('.');
        let (header, claims) = (parts.next()?, parts.next()?);
        parts.next()?;
        if parts.next().is_some() {
            return None;
        }
        let read = |part: &str| -> Option<Map<String, Value>> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?).ok()
        };
        let header = read(header)?;
        let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Said { algorithm, claims: read(claims)? })
    }

    fn has_expired(&self) -> bool {
        let expires = self.said().and_then(|said| said.seconds("exp"));
        expires.is_some_and(|expires| expires < Timestamp::now().as_second() + SPARE)
    }
}

impl Said {
    /// A claim that is a time, in seconds since 1970.
    pub fn seconds(&self, claim: &str) -> Option<i64> {
        // Whole seconds, as JWTs have them; a fraction is cut off.
        #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
        self.claims.get(claim).and_then(Value::as_f64).map(|seconds| seconds as i64)
    }

    /// A claim that is a text or a number, and not empty.
    pub fn text(&self, claim: &str) -> Option<String> {
        match self.claims.get(claim)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

enum Origin {
    Given(String),
    Input,
    File(PathBuf),
    Command(String),
}

/// A way to a JWT, asked again when the last one is of no use any more.
pub struct Credential {
    origin: Origin,
    present: Option<Jwt>,
}

impl Credential {
    /// None: no way was named.
    pub fn of(arguments: &JwtArguments) -> Option<Self> {
        let given = || {
            let text = arguments.jwt.as_deref().filter(|text| !text.is_empty())?;
            Some(match text.strip_prefix('@') {
                Some(file) => Origin::File(file.into()),
                None if text == "-" => Origin::Input,
                None => Origin::Given(text.to_owned()),
            })
        };
        let command = arguments.jwt_command.clone().map(Origin::Command);
        let file = || arguments.jwt_file.clone().map(Origin::File);
        Some(Self { origin: command.or_else(file).or_else(given)?, present: None })
    }

    /// The same, where there must be one.
    ///
    /// # Errors
    ///
    /// When no way was named.
    pub fn required(arguments: &JwtArguments) -> Result<Self> {
        Self::of(arguments).context("a JWT is needed: --jwt-command, --jwt-file, --jwt or SSE_JWT")
    }

    /// A JWT; the last one, as long as it is good.
    ///
    /// # Errors
    ///
    /// When none is to be had.
    pub async fn get(&mut self) -> Result<Jwt> {
        if let Some(jwt) = self.present.as_ref().filter(|jwt| !jwt.has_expired()) {
            return Ok(jwt.clone());
        }
        let again = self.present.is_some();
        let jwt = match &self.origin {
            Origin::Given(text) => Jwt::of(text).context("--jwt")?,
            // It ends only once.
            Origin::Input if again => bail!("the JWT of standard input has expired or was refused"),
            Origin::Input => Jwt::of(&input::whole(stdin(), MAX_JWT, INPUT).await?).context("--jwt -")?,
            Origin::File(file) => Jwt::of(&tokio::fs::read_to_string(file).await.context("--jwt-file")?)
                .with_context(|| file.display().to_string())?,
            Origin::Command(command) => {
                Jwt::of(&run(command).await?).context("what --jwt-command printed")?
            }
        };
        self.present = Some(jwt.clone());
        Ok(jwt)
    }

    /// Whether it may give another JWT than the last, or one after it gave none.
    pub const fn can_renew(&self) -> bool {
        matches!(self.origin, Origin::File(_) | Origin::Command(_))
    }

    /// Asks for another one, because the last was refused: whether another can be had at all.
    pub async fn renew(&mut self) -> Result<bool> {
        let before = self.present.clone();
        if !self.can_renew() {
            return Ok(false);
        }
        self.present = None;
        Ok(Some(self.get().await?) != before)
    }
}

async fn run(command: &str) -> Result<String> {
    let mut shell = Command::new("sh");
    // What it says of an error is for its user; what it prints is a secret.
    shell.args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = timeout(COMMAND, shell.output()).await.context("--jwt-command does not end")??;
    ensure!(output.status.success(), "--jwt-command failed: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(&serde_json::json!({"alg": "RS256"})), part(claims))
    }

    fn arguments(command: &str) -> JwtArguments {
        JwtArguments { jwt: Some("@nowhere".into()), jwt_file: None, jwt_command: Some(command.into()) }
    }

    #[test]
    fn a_jwt_says_who_made_it_and_does_not_print_itself() {
        let jwt = Jwt::of(&jwt(&serde_json::json!({"iss": "a", "exp": 7.5, "sub": 42}))).expect("a JWT");
        let said = jwt.said().expect("claims");
        assert_eq!(
            (&*said.algorithm, said.text("iss"), said.seconds("exp")),
            ("RS256", Some("a".into()), Some(7))
        );
        assert_eq!(said.text("sub").as_deref(), Some("42"));
        assert_eq!(format!("{jwt:?}"), "Jwt(…)");
    }

    #[test]
    fn what_is_none_is_not_repeated() {
        for text in ["hunter2", "hunter2.a.b", "", "a.b"] {
            let error = format!("{:#}", Jwt::of(text).expect_err(text));
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_command_counts_before_the_rest_and_is_run_again_for_another() {
        let dir = std::env::temp_dir().join(format!("kubectl-sse-{:x}", rand::random::<u64>()));
        std::fs::write(&dir, jwt(&serde_json::json!({"sub": "a"}))).expect("written");
        let mut credential = Credential::of(&arguments(&format!("cat {}", dir.display()))).expect("a way");
        let first = credential.get().await.expect("a JWT");
        std::fs::write(&dir, jwt(&serde_json::json!({"sub": "b"}))).expect("written");
        assert_eq!(credential.get().await.expect("the same"), first);
        assert!(credential.renew().await.expect("another"));
        assert_eq!(
            credential.get().await.expect("a JWT").said().expect("claims").text("sub").as_deref(),
            Some("b")
        );
        std::fs::remove_file(&dir).expect("removed");
        assert!(credential.renew().await.is_err());
    }

    #[tokio::test]
    async fn a_command_that_fails_tells_nothing_of_what_it_printed() {
        let mut credential = Credential::of(&arguments("echo hunter2; exit 3")).expect("a way");
        let error = format!("{:#}", credential.get().await.expect_err("no JWT"));
        assert!(error.contains("exit status: 3") && !error.contains("hunter2"), "{error}");
    }
}
