//! What strangers send, against what must hold for it whatever it is.
//!
//! Each target takes bytes and panics when a promise is broken. `cargo test` runs it with the seeds in
//! `corpus` and with a bounded number of random changes of them; `make fuzz` runs it with libFuzzer, which
//! sees what code an input reaches. An input that was found goes into `corpus`, and so is never forgotten.
//!
//! Without libFuzzer the binary runs a target with the inputs of some files: `sse-fuzz TARGET FILE…`.

#![cfg_attr(fuzzing, no_main)]
#![expect(clippy::expect_used, reason = "a panic here is a broken promise")]

#[cfg(test)]
mod bounded;
mod config;
mod control;
mod cursor;
mod encoder;
mod event;
mod history;
mod jwt;
mod keys;
#[path = "../../tests/wire/parsers.rs"]
mod parsers;
mod posted;
mod request;
#[path = "../../tests/wire/script.rs"]
mod script;
mod subject;

/// A name, and what takes the bytes.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 11] = [
    ("encoder", encoder::check),
    ("cursor", cursor::check),
    ("subject", subject::check),
    ("control", control::check),
    ("event", event::check),
    ("history", history::check),
    ("config", config::check),
    ("request", request::check),
    ("posted", posted::check),
    ("jwt", jwt::check),
    ("keys", keys::check),
];

fn target(name: &str) -> fn(&[u8]) {
    TARGETS.iter().find(|(known, _)| *known == name).expect("the name of a target").1
}

#[cfg(not(fuzzing))]
fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let check = target(&args.next().unwrap_or_default());
    args.try_for_each(|file| {
        check(&std::fs::read(file)?);
        Ok(())
    })
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    static CHECK: std::sync::OnceLock<fn(&[u8])> = std::sync::OnceLock::new();
    CHECK.get_or_init(|| target(&std::env::var("FUZZ_TARGET").unwrap_or_default()))(input);
});
