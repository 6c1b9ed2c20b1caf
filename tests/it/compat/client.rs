//! `ssh-mgr-client`.

use super::typed;
use crate::harness::{Options, Server};

#[test]
fn the_manuals_settings_are_set_and_listed_and_audited() {
    let server = Server::start(Options::default());
    for (line, name, value) in [
        (
            "ssh-mgr-client set-global-setting -d category=host,name=use_management_key_allow_from,value=True",
            "host.use_management_key_allow_from",
            "true",
        ),
        (
            "ssh-mgr-client set-global-setting \\\n-d category=host,name=additional_allow_from,value=192.0.2.80,backend.example.com",
            "host.additional_allow_from",
            "192.0.2.80,backend.example.com",
        ),
        (
            "ssh-mgr-client set-global-setting -d category=host,name=additional_allow_from,value=192.0.2.80,proxy01.example.com,192.0.2.121,2001:db8::1",
            "host.additional_allow_from",
            "192.0.2.80,proxy01.example.com,192.0.2.121,2001:db8::1",
        ),
        (
            "ssh-mgr-client set-global-setting -d category=host,name=use_management_key_allow_from,value=nO",
            "host.use_management_key_allow_from",
            "false",
        ),
        (
            "ssh-mgr-client set-global-setting -d category=host,name=use_management_key_allow_from,value=YES",
            "host.use_management_key_allow_from",
            "true",
        ),
        (
            "ssh-mgr-client set-global-setting -d category=backend,name=maximum_processes,value=0",
            "backend.maximum_processes",
            "0",
        ),
        (
            "ssh-mgr-client set-global-setting -d category=host,name=additional_allow_from,value=",
            "host.additional_allow_from",
            "",
        ),
    ] {
        typed(&server, line).ok();
        assert_eq!(
            server.cli(&["setting", "get", name]).ok().text(),
            format!("{value}\n")
        );
    }
    for (data, status, says) in [
        (
            "category=host,name=additional_allow_from,value=192.0.2.80, b.example.com",
            2,
            "b.example.com",
        ),
        (
            "category=host,name=additional_allow_from,value=localhost",
            2,
            "no blanks",
        ),
        (
            "category=host,name=use_management_key_allow_from,value=perhaps",
            2,
            "true or false",
        ),
        (
            "category=backend,name=maximum_processes,value=-1",
            2,
            "0 to 1000",
        ),
        ("category=host,name=colour,value=red", 4, "host.colour"),
        (
            "category=host,name=additional_allow_from",
            2,
            "`value` is missing",
        ),
        (
            "name=additional_allow_from,value=1",
            2,
            "`category` is missing",
        ),
    ] {
        typed(
            &server,
            &format!("ssh-mgr-client set-global-setting -d {data}"),
        )
        .fails(status)
        .says(&[says]);
    }
    assert_eq!(
        server
            .cli(&["setting", "get", "host.additional_allow_from"])
            .ok()
            .text(),
        "\n"
    );
    let events = server
        .json(&["audit", "list", "-F", "action = setting.set"])
        .to_string();
    assert!(
        events.contains("192.0.2.80,backend.example.com"),
        "{events}"
    );
}

#[test]
fn lists_are_filtered_and_come_as_tables_json_and_csv() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    server.client("b", "other");
    client.curl("/v1/deposits/key").put(b"bytes").send().ok(201);
    let table = typed(&server, "ssh-mgr-client list-organizations")
        .ok()
        .text();
    assert!(
        table.starts_with("NAME ") && table.contains("\nacme "),
        "{table}"
    );
    let table = typed(
        &server,
        "ssh-mgr-client list-clients -F 'org=acme' -o table",
    )
    .ok()
    .text();
    assert_eq!(table.lines().count(), 2, "{table}");
    let json = typed(
        &server,
        "ssh-mgr-client -o json list-clients -F org=acme -F 'state=active'",
    )
    .ok()
    .json();
    assert_eq!(json["items"].as_array().unwrap().len(), 1);
    assert_eq!(json["items"][0]["fingerprint"], client.fingerprint());
    server.user("u", &server.password, &[]);
    server.cli(&["user", "disable", "u"]).ok();
    let csv = typed(
        &server,
        "ssh-mgr-client list-users -F 'disabled=True' -o csv",
    )
    .ok()
    .text();
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(lines.len(), 3, "{csv}");
    assert_eq!(
        lines[0],
        r#""name","roles","state","second factor","created""#
    );
    assert!(
        lines[1].starts_with(r#""u","","disabled","no","2"#),
        "{csv}"
    );
    // A list of nothing has its heading all the same.
    let none = typed(&server, "ssh-mgr-client list-users -F 'name=nobody' -o csv")
        .ok()
        .text();
    assert_eq!(none, format!("{}\r\n", lines[0]));
    let deposits = typed(&server, "ssh-mgr-client list-deposits -o csv -v")
        .ok()
        .text();
    assert!(deposits.contains(r#""acme","key""#), "{deposits}");
    for list in [
        "list-tokens",
        "list-events",
        "list-roles",
        "list-slots",
        "list-global-settings",
    ] {
        for form in ["table", "json", "csv"] {
            typed(&server, &format!("ssh-mgr-client {list} -o {form}")).ok();
        }
    }
    typed(&server, "ssh-mgr-client list-clients -F colour=red")
        .fails(2)
        .says(&["no field `colour`", "fingerprint"]);
    typed(&server, "ssh-mgr-client list-clients -o xml").fails(2);
    // What works on hosts is not there until hosts are.
    typed(
        &server,
        "ssh-mgr-client list-authorized-keys -F is_internal_key=True",
    )
    .fails(2);
}

#[test]
fn a_server_is_named_by_its_url() {
    let server = Server::start(Options::default());
    server.org("acme");
    let token = server.file("token", server.token("superuser", &["read"]));
    let line = format!(
        "ssh-mgr-client -U {} --token-file {} --server-fingerprint {} list-organizations -o json",
        server.gui_url,
        token.display(),
        server.fingerprint
    );
    // Whoever names a server does not mean a data folder.
    let line = format!("env -u STRONGROOM_DATA_DIR {line}");
    let json = typed(&server, &line).ok().json();
    assert_eq!(json["items"][0]["name"], "acme");
}
