//! The plain page on the GUI's listener, in the real Chromium: what it says, that it asks nobody but
//! its own server, and that it can be read in light and in dark.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::measured::root;
use crate::harness::{Options, Server, run};

/// The page as Chromium has it after loading, with its log of the network in `net.json`.
fn load(server: &Server, url: &str) -> String {
    let profile = format!("--user-data-dir={}", server.path("chromium").display());
    let log = format!("--log-net-log={}", server.path("net.json").display());
    let mut chromium = Command::new("timeout");
    chromium
        .env("HOME", server.folder())
        .args(["--kill-after=10", "120", "chromium", "--headless"])
        .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--ignore-certificate-errors", "--no-first-run"])
        .args(["--disable-background-networking", "--no-proxy-server"])
        .args([&profile, &log, "--dump-dom", url]);
    run(&mut chromium).ok().text()
}

/// Every address that Chromium's network asked for on the page's behalf.
fn asked(log: &Path, page: &str) -> Vec<String> {
    let log: Value = serde_json::from_slice(&fs::read(log).unwrap()).unwrap();
    let mut asked: Vec<String> = log["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["params"])
        .filter(|params| {
            let initiator = params["initiator"].as_str().unwrap_or_default();
            page.starts_with(initiator) && initiator.starts_with("https://")
                || params["url"]
                    .as_str()
                    .is_some_and(|url| url.starts_with(page))
        })
        .filter_map(|params| params["url"].as_str().map(str::to_owned))
        .collect();
    asked.sort();
    asked.dedup();
    asked
}

#[test]
fn the_page_tells_who_the_server_is_and_asks_nobody_else() {
    let server = Server::start(Options::default());
    let page = format!("{}/", server.gui_url);
    let dom = load(&server, &page);
    for part in [
        "<html lang=\"en\">",
        "<title>Strongroom on localhost</title>",
        "<dd class=\"state serving\">serving</dd>",
        &format!("<dd>{}</dd>", env!("CARGO_PKG_VERSION")),
        &format!("<code>{}</code>", server.fingerprint),
        "docs/operating.md",
        "README.md",
    ] {
        assert!(dom.contains(part), "no {part} in {dom}");
    }
    assert_eq!(dom.matches("<h1").count(), 1);
    for tag in dom.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap();
        for part in ["script", " on", "://", "style="] {
            assert!(!tag.contains(part), "{part} in <{tag}>");
        }
    }
    let asked = asked(&server.path("net.json"), &page);
    assert_eq!(asked, [page.clone(), format!("{page}style.css")]);
}

/// The relation of two colours' luminance, as WCAG 2.2 has it.
fn contrast(one: &str, other: &str) -> f64 {
    let luminance = |colour: &str| {
        let channel = |at: usize| {
            let value = u8::from_str_radix(&colour[at..at + 2], 16).unwrap();
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    };
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn text_stands_out_from_its_ground_in_both_themes() {
    assert!((contrast("#000000", "#ffffff") - 21.0).abs() < 0.01);
    let style = fs::read_to_string(root().join("static/style.css")).unwrap();
    let themes: Vec<&str> = style.split(":root {").skip(1).collect();
    assert_eq!(themes.len(), 2, "one for light, one for dark");
    for theme in themes {
        let colour = |name: &str| {
            let after = theme.split(&format!("--{name}: ")).nth(1).unwrap();
            after.split(';').next().unwrap()
        };
        for ground in ["paper", "code"] {
            for ink in ["ink", "faint", "link", "good", "wait"] {
                let contrast = contrast(colour(ink), colour(ground));
                assert!(contrast >= 4.5, "{ink} on {ground}: {contrast:.2}");
            }
        }
    }
}
