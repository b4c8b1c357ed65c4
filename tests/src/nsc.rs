//! Operator, accounts and users of NATS, as `nsc` makes them: from the very lines that the chart's README
//! shows, so that what is documented is what is tested.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Map, Value, json};

use crate::pages::{Told, blocks};

/// The gateway that the document is about.
const GATEWAY: &str = "default_live";

/// Users of one account, and the server that knows them.
pub struct Accounts {
    /// For the server's configuration.
    pub server: String,
    /// What of it never changes: a server does not take a changed operator while it runs.
    fixed: String,
    operator: KeyPair,
    account: KeyPair,
    users: Vec<User>,
    /// Public keys of users, and until when credentials that were made for them are refused.
    revoked: Map<String, Value>,
}

/// What a user may do.
#[derive(Debug, Default)]
struct User {
    name: String,
    publish: Vec<String>,
    never_publish: Vec<String>,
    subscribe: Vec<String>,
    /// Whether it answers whoever asks it.
    responds: bool,
}

impl Accounts {
    /// Runs the block of shell in `document` that is for this, with an `nsc` that only notes what it
    /// is asked for.
    ///
    /// # Errors
    ///
    /// When there is no such block, or it adds no user.
    pub fn documented(document: &Path) -> Result<Self> {
        Self::documented_for(document, "default", "live")
    }

    /// The same, with the name of another gateway where the document has that of its own.
    ///
    /// # Errors
    ///
    /// When there is no such block, it is not about that gateway, or it adds no user.
    pub fn documented_for(document: &Path, namespace: &str, gateway: &str) -> Result<Self> {
        let text = std::fs::read_to_string(document)?;
        let named = format!("TOKENS=SSE_tokens_{GATEWAY}\n");
        ensure!(text.contains(&named), "the document does not say {named:?}");
        let text = text.replace(&named, &format!("TOKENS=SSE_tokens_{namespace}_{gateway}\n"));
        let pods = format!("PODS=sse-pods.{}", GATEWAY.replace('_', "."));
        ensure!(text.contains(&pods), "the document does not say {pods:?}");
        let text = text.replace(&pods, &format!("PODS=sse-pods.{namespace}.{gateway}"));
        let documented =
            blocks("", &text).into_iter().find(|block| block.told == Told::RunBy(file!().into()));
        let block = documented.context("a block of shell with nsc")?.text;
        let script = format!("nsc() {{ printf '%s\\n' \"$@\" ''; }}\nkubectl() {{ :; }}\n{block}");
        // Some lines write files.
        let dir = tempfile::tempdir()?;
        let bash = std::process::Command::new("bash").args(["-eu", "-c", &script]).current_dir(&dir).output();
        let output = bash?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let users: Vec<User> =
            String::from_utf8(output.stdout)?.split("\n\n").filter_map(User::added).collect();
        ensure!(!users.is_empty(), "no user is added");
        let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
        let fixed = fixed(&operator)?;
        let mut accounts =
            Self { server: String::new(), fixed, operator, account, users, revoked: Map::new() };
        accounts.configure()?;
        Ok(accounts)
    }

    fn configure(&mut self) -> Result<()> {
        let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1});
        let claims = json!({"type": "account", "version": 2, "limits": limits, "revocations": self.revoked});
        let jwt = signed(&self.operator, &self.account, "sse", &claims)?;
        self.server = format!("{}  {}: {jwt}\n}}\n", self.fixed, self.account.public_key());
        Ok(())
    }

    /// Has the server refuse credentials that were made before, once it has the configuration of now.
    ///
    /// # Errors
    ///
    /// When they are none.
    pub fn revoke(&mut self, credentials: &str) -> Result<()> {
        let seed = credentials.lines().find(|line| line.starts_with("SU")).context("a seed")?;
        self.revoked.insert(KeyPair::from_seed(seed)?.public_key(), crate::jwt::now().into());
        self.configure()
    }

    /// The credentials file of a documented user.
    ///
    /// # Errors
    ///
    /// When there is no such user.
    pub fn credentials(&self, name: &str) -> Result<String> {
        let user = self.users.iter().find(|user| user.name == name).context("a documented user")?;
        self.issue(user)
    }

    /// The credentials file of a user who may do everything.
    ///
    /// # Errors
    ///
    /// When it can not be signed.
    pub fn unlimited(&self) -> Result<String> {
        self.issue(&User { name: "unlimited".into(), ..User::default() })
    }

    fn issue(&self, user: &User) -> Result<String> {
        let key = KeyPair::new_user();
        let mut claims = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
            "pub": {"allow": user.publish, "deny": user.never_publish}, "sub": {"allow": user.subscribe}});
        if user.responds {
            // As nsc has it: one answer each, in the time that is the server's default.
            claims["resp"] = json!({"max": 1, "ttl": 0});
        }
        let jwt = signed(&self.account, &key, &user.name, &claims)?;
        let seed = key.seed()?;
        let credentials = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        crate::secrets::file(&credentials);
        Ok(credentials)
    }
}

impl User {
    /// Of `nsc add user …`, one argument a line.
    fn added(call: &str) -> Option<Self> {
        let mut arguments = call.trim_start().lines();
        if (arguments.next(), arguments.next()) != (Some("add"), Some("user")) {
            return None;
        }
        let mut user = Self::default();
        while let Some(argument) = arguments.next() {
            let mut list =
                || arguments.next().unwrap_or_default().split(',').map(str::to_owned).collect::<Vec<_>>();
            match argument {
                "--account" => drop(list()),
                "--allow-pub" => user.publish.extend(list()),
                "--deny-pub" => user.never_publish.extend(list()),
                "--allow-pub-response" => user.responds = true,
                "--allow-sub" => user.subscribe.extend(list()),
                name => name.clone_into(&mut user.name),
            }
        }
        Some(user)
    }
}

/// The operator, the system's account, and the beginning of the list of accounts.
fn fixed(operator: &KeyPair) -> Result<String> {
    let system = KeyPair::new_account();
    let mut server = String::new();
    let claims = json!({"type": "operator", "version": 2, "system_account": system.public_key()});
    writeln!(server, "operator: {}", signed(operator, operator, "sse", &claims)?)?;
    let limits = json!({"subs": -1, "conn": -1, "data": -1, "payload": -1, "leaf": -1, "imports": -1, "exports": -1,
        "wildcards": true});
    let claims = json!({"type": "account", "version": 2, "limits": limits});
    writeln!(server, "system_account: {}\nresolver: MEMORY\nresolver_preload {{", system.public_key())?;
    writeln!(server, "  {}: {}", system.public_key(), signed(operator, &system, "SYS", &claims)?)?;
    Ok(server)
}

/// A JWT as NATS has them: `issuer` says this of `subject`.
fn signed(issuer: &KeyPair, subject: &KeyPair, name: &str, claims: &Value) -> Result<String> {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = encode(&json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let body =
        encode(&json!({"jti": name, "iat": crate::jwt::now(), "iss": issuer.public_key(), "name": name,
        "sub": subject.public_key(), "nats": claims}));
    let text = format!("{header}.{body}");
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(text.as_bytes())?);
    Ok(format!("{text}.{signature}"))
}
