//! What an attacker tries: against the wire, against the rights of others, against the machine that
//! the server runs on.

mod floods;
mod local;
mod rights;
mod wire;

use serde_json::{Value, json};

use super::harness::curl::Answer;
use super::harness::{Options, Server};

/// A server that most attacks of one kind share.
fn server() -> Server {
    Server::start(Options::default())
}

/// A user with these roles, and an API token that carries all of its rights.
fn user(server: &Server, name: &str, roles: &[&str]) -> String {
    server.user(name, &password(name), roles);
    server.token(name, &["all"])
}

fn password(name: &str) -> String {
    format!("the password of {name}")
}

/// A request with a token to the GUI's listener.
fn ask(server: &Server, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
    let curl = server
        .curl(&format!("{}{path}", server.gui_url))
        .token(token)
        .method(method);
    match body {
        Some(body) => curl.json(&body).send(),
        None => curl.send(),
    }
}

/// The `code` of a refusal; empty where it was none.
fn code(answer: &Answer) -> String {
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    json["error"]["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn log_in(server: &Server, user: &str, password: &str) -> Answer {
    server
        .curl(&format!("{}/v1/sessions", server.gui_url))
        .json(&json!({ "user": user, "password": password }))
        .send()
}

/// The newest events that fit, both chains.
fn events(server: &Server, filter: &str) -> Vec<Value> {
    let listed = server.json(&["audit", "list", "-F", filter]);
    let items = listed["items"].as_array().or(listed.as_array());
    items.unwrap_or_else(|| panic!("{listed}")).clone()
}
