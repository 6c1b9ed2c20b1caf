//! schemathesis, made for each run from the server's own description: on both public listeners no
//! server error, and no answer that the description does not have. `scripts/setup test` installs it.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Options, Output, Server, measured, run, seed};

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method,allow_header_conformance";

/// How the requests prove who they are from.
#[derive(Clone, Copy, Debug)]
enum Caller {
    Superuser,
    Client,
}

/// Requests for each path and method that are made up, beside those for every rule of the schema.
#[derive(Clone, Copy)]
struct Length {
    examples: u32,
    phases: &'static str,
    /// Of the long form, which repeats until they are over.
    seconds: Option<u32>,
}

const SHORT: Length = Length {
    examples: 2,
    phases: "coverage,fuzzing",
    seconds: None,
};
const LONG: Length = Length {
    examples: 100,
    phases: "examples,coverage,fuzzing,stateful",
    seconds: Some(120),
};

fn attack(caller: Caller, length: Length) -> Output {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    client
        .cli_with(&["deposit", "put", "--raw", "key", "-"], b"secret")
        .ok();
    let url = match caller {
        Caller::Superuser => &server.gui_url,
        Caller::Client => &server.client_url,
    };
    let mut command = Command::new(schemathesis());
    command
        .args(["run", &format!("{url}/v1/openapi.json"), "--checks", CHECKS])
        .args([
            "--phases",
            length.phases,
            "--max-examples",
            &length.examples.to_string(),
        ])
        .args(["--seed", &seed().to_string()])
        .args([
            "--continue-on-failure",
            "--no-shrink",
            "--suppress-health-check",
            "all",
        ])
        .args([
            "--request-timeout",
            "60",
            "--warnings",
            "off",
            "--tls-verify",
        ])
        .arg(server.ca())
        // It ends the server that is asked.
        .args(["--exclude-path", "/v1/seal"])
        // Its certificate would be trusted by nobody who asks after that.
        .args(["--exclude-path", "/v1/tls/self-signed"])
        // Answers for a minute.
        .args(["--exclude-path", "/v1/watch/deposits"])
        // Events, of which the description says no more than that they are text.
        .args(["--exclude-path", "/v1/watch/jobs/{id}"])
        // What it keeps from run to run stays in the private folder.
        .current_dir(server.folder())
        .env("HOME", server.folder())
        .env("NO_COLOR", "1")
        .env("HYPOTHESIS_STORAGE_DIRECTORY", server.path("hypothesis"));
    if let Some(seconds) = length.seconds {
        command.args(["--max-time", &seconds.to_string()]);
    }
    match caller {
        Caller::Superuser => {
            let token = server.token("superuser", &["all"]);
            command.args(["--header", &format!("Authorization: Bearer {token}")]);
        }
        Caller::Client => {
            command.arg("--request-cert").arg(client.file("client.crt"));
            command
                .arg("--request-cert-key")
                .arg(client.file("client.key"));
        }
    }
    let output = run(&mut command);
    let panics = server
        .log()
        .lines()
        .filter(|line| line.contains("panicked"))
        .count();
    assert_eq!(panics, 0, "{}", server.log());
    output
}

fn schemathesis() -> PathBuf {
    let path = measured::root().join("target/test-venv/bin/st");
    let shown = path.display();
    assert!(
        path.exists(),
        "{shown} is missing; scripts/setup test makes it"
    );
    path
}

pub fn version() -> String {
    let said = run(Command::new(schemathesis()).arg("--version")).ok();
    said.text().trim().to_owned()
}

/// `3394 generated, 3394 passed`
fn generated(output: &Output) -> Option<u64> {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.contains(" generated, "))?;
    line.split_whitespace()
        .next()?
        .replace(',', "")
        .parse()
        .ok()
}

fn holds(caller: Caller) {
    let output = attack(caller, SHORT).ok();
    let made = generated(&output).unwrap_or_else(|| panic!("{output:?}"));
    assert!(made > 500, "{made} requests: {output:?}");
}

#[test]
fn what_a_superuser_is_answered_is_as_described() {
    holds(Caller::Superuser);
}

#[test]
fn what_a_client_is_answered_is_as_described() {
    holds(Caller::Client);
}

/// For the record: how many requests, and what was found.
pub fn long(failures: &mut Vec<String>) -> Value {
    let mut counts = serde_json::Map::new();
    for caller in [Caller::Superuser, Caller::Client] {
        let output = attack(caller, LONG);
        if output.status != 0 {
            failures.push(format!(
                "{caller:?}: {}",
                String::from_utf8_lossy(&output.stdout)
            ));
        }
        counts.insert(
            format!("{caller:?}").to_lowercase(),
            json!(generated(&output)),
        );
    }
    counts.into()
}
