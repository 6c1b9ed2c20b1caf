//! The inventory of hosts through the real program: what groups hand down, ways over other hosts, and
//! files of other programs.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Options, Output, Server};

fn host(server: &Server, name: &str) -> Value {
    server.json(&["host", "show", name])
}

/// Fails unless standard output holds all of this.
#[track_caller]
fn prints(output: &Output, parts: &[&str]) {
    let text = output.text();
    for part in parts {
        assert!(text.contains(part), "no `{part}` in: {output:?}");
    }
}

fn names(server: &Server, filter: &str) -> Vec<String> {
    let list = server.json(&["host", "list", "-F", filter]);
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|it| it["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_host_takes_from_its_groups_what_it_does_not_say() {
    let server = Server::start(Options::default());
    for name in ["bastion", "inner"] {
        server.cli(&["host", "add", name]).ok();
    }
    let window = "0 22 * * sat for 6h in Europe/Berlin";
    server
        .cli(&[
            "host-group",
            "add",
            "emea/prod/db",
            "--account",
            "dba",
            "--sudo",
        ])
        .ok();
    server
        .cli(&[
            "host-group",
            "edit",
            "emea",
            "--port",
            "2222",
            "--account",
            "ops",
            "--jump",
            "bastion,inner",
            "--window",
            window,
        ])
        .ok();
    let add = [
        "host",
        "add",
        "db1",
        "--address",
        "10.0.0.5",
        "--group",
        "emea/prod/db",
        "--label",
        "env=prod",
        "--no-sudo",
    ];
    server.cli(&add).ok().says(&["host db1 is added"]);
    let db1 = host(&server, "db1");
    assert_eq!(
        json!([
            db1["address"],
            db1["port"],
            db1["account"],
            db1["sudo"],
            db1["jump"],
            db1["own"],
            db1["state"]
        ]),
        json!([
            "10.0.0.5", 2222, "dba", false, ["bastion", "inner"], {"sudo": false}, "created"
        ])
    );
    assert_eq!(
        db1["windows"],
        json!([{"opens": "0 22 * * sat", "zone": "Europe/Berlin", "minutes": 360}])
    );
    let shown = server.cli(&["host", "show", "db1"]).ok();
    prints(&shown, &["2222 (not its own)", window, "env=prod"]);

    // A jump host in the group is not reached over itself.
    server
        .cli(&["host", "edit", "inner", "--group", "emea"])
        .ok();
    assert_eq!(host(&server, "inner")["jump"], json!(["bastion"]));

    server
        .cli(&[
            "host",
            "edit",
            "db1",
            "--inherit",
            "sudo",
            "--port",
            "22",
            "--direct",
            "--label",
            "tier=1",
            "--remove-label",
            "env",
        ])
        .ok();
    let db1 = host(&server, "db1");
    assert_eq!(
        json!([db1["port"], db1["sudo"], db1["jump"], db1["labels"]]),
        json!([22, true, [], {"tier": "1"}])
    );

    for (filter, expected) in [
        ("group ^ 'emea/'", vec!["db1"]),
        ("group = emea", vec!["inner"]),
        ("port = 2222", vec!["inner"]),
        ("label.tier = 1 and account = dba", vec!["db1"]),
        ("jump = bastion", vec!["inner"]),
        ("name ^ 'in'", vec!["inner"]),
        ("sudo = no and state = created", vec!["bastion", "inner"]),
    ] {
        assert_eq!(names(&server, filter), expected, "{filter}");
    }
    let old = server.cli(&[
        "as",
        "ssh-mgr-client",
        "list-hosts",
        "-F",
        "name=db1",
        "-o",
        "csv",
    ]);
    prints(&old.ok(), &["\"db1\"", "\"10.0.0.5\""]);
    let old = server.cli(&["as", "ssh-mgr-client", "list-host-groups", "-o", "json"]);
    let groups: Value = old.ok().json();
    let paths: Vec<&Value> = groups["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["path"])
        .collect();
    assert_eq!(paths, ["emea", "emea/prod", "emea/prod/db"]);

    // Over a restart it is as it was.
    let mut server = server;
    server.restart();
    assert_eq!(host(&server, "db1"), db1);
}

#[test]
fn no_host_loses_its_way() {
    let server = Server::start(Options::default());
    for (name, jump) in [("a", None), ("b", Some("a")), ("c", Some("b"))] {
        let mut add = vec!["host", "add", name];
        add.extend(jump.into_iter().flat_map(|it| ["--jump", it]));
        server.cli(&add).ok();
    }
    server.cli(&["host-group", "add", "g", "--jump", "c"]).ok();
    server.cli(&["host", "add", "d", "--group", "g"]).ok();

    let refused = |args: &[&str], says: &str| {
        server.cli(args).fails(5).says(&[says]);
    };
    refused(
        &["host", "edit", "a", "--jump", "c"],
        "leads back to itself",
    );
    // By way of a group.
    refused(
        &["host", "edit", "a", "--group", "g"],
        "leads back to itself",
    );
    refused(&["host", "add", "e", "--jump", "nowhere"], "`nowhere`");
    refused(
        &["host-group", "edit", "g", "--jump", "nowhere"],
        "`nowhere`",
    );
    refused(&["host", "rm", "a", "--yes"], "host b");
    refused(&["host-group", "rm", "g", "--yes"], "the host d");
    refused(&["host", "add", "a"], "already");
    refused(&["host-group", "add", "g"], "already");
    server
        .cli(&["host", "rm", "c", "--yes"])
        .fails(5)
        .says(&["host group g"]);
    for name in ["h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8"] {
        let before = match name {
            "h1" => "c".to_owned(),
            _ => format!("h{}", name[1..].parse::<u8>().unwrap() - 1),
        };
        let output = server.cli(&["host", "add", name, "--jump", &before]);
        match name {
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => output.ok(),
            "h7" => output.fails(5).says(&["more than 8"]),
            _ => output.fails(5),
        };
    }

    for args in [["host", "show", "x"], ["host-group", "show", "x/y"]] {
        server.cli(&args).fails(4);
    }
    server
        .cli(&["host", "add", "x", "--group", "none"])
        .fails(4)
        .says(&["host-group add"]);
    server
        .cli(&["host", "add", "x", "--address", "[::1]:22"])
        .fails(2);
    server
        .cli(&["host", "edit", "a"])
        .says(&["what to change?"]);

    // What is gone leaves no trace but in the audit.
    server.cli(&["host", "rm", "d", "--yes"]).ok();
    server.cli(&["host-group", "rm", "g", "--yes"]).ok();
    let audit = server.json(&[
        "audit",
        "list",
        "-F",
        "object_kind = host and action = host.rm",
        "-F",
        "outcome = done",
    ]);
    assert_eq!(audit["items"][0]["object"]["name"], "d");
}

#[test]
fn an_import_is_read_as_a_whole_and_can_be_repeated() {
    let server = Server::start(Options::default());
    let table = server.file(
        "fleet.csv",
        "name,address,port,jump,group,label.env\n\
         web1,10.0.0.7,,bastion,emea/web,prod\n\
         bastion,192.0.2.1,2222,,emea,\n",
    );
    let table = table.to_str().unwrap();
    let import = |extra: &[&str]| {
        let mut args = vec!["host", "import", table];
        args.extend(extra);
        server.cli(&args)
    };
    prints(&import(&["--dry-run"]).ok(), &["2 hosts would be added"]);
    assert!(names(&server, "name != x").is_empty());
    prints(
        &import(&[]).ok(),
        &["2 hosts added, 0 changed, 0 as they were"],
    );
    assert_eq!(host(&server, "web1")["jump"], json!(["bastion"]));
    prints(
        &import(&[]).ok(),
        &["0 hosts added, 0 changed, 2 as they were"],
    );

    server
        .cli(&[
            "host",
            "edit",
            "web1",
            "--address",
            "10.0.0.8",
            "--label",
            "tier=1",
        ])
        .ok();
    import(&[]).ok().says(&["1 are there otherwise", "web1"]);
    assert_eq!(host(&server, "web1")["address"], "10.0.0.8");
    prints(&import(&["--update"]).ok(), &["1 changed"]);
    let web1 = host(&server, "web1");
    assert_eq!(
        json!([web1["address"], web1["labels"]]),
        json!(["10.0.0.7", {"env": "prod", "tier": "1"}])
    );

    // One wrong line: nothing of the file.
    let bad = server.file("bad.csv", "name,port\nnew1,22\nnew2,x\n");
    server
        .cli(&["host", "import", bad.to_str().unwrap()])
        .fails(2)
        .says(&["line 3: `x` is not a port"]);
    server.cli(&["host", "show", "new1"]).fails(4);
    // One that the server refuses: the others are there.
    let part = server.file("part.csv", "name,jump\nnew1,nowhere\nnew2,\n");
    server
        .cli(&["host", "import", part.to_str().unwrap()])
        .fails(1)
        .says(&["new1 is refused", "`nowhere`", "1 hosts were refused"]);
    server.cli(&["host", "show", "new2"]).ok();

    let inventory = json!({
        "_meta": {"hostvars": {"db1": {"ansible_host": "10.0.0.9", "ansible_password": "hunter2-secret"}}},
        "all": {"children": ["ungrouped", "db"]},
        "db": {"hosts": ["db1"]},
    });
    let report: Value = {
        let args = [
            "host", "import", "-", "--format", "ansible", "--group", "emea", "--json",
        ];
        let output = server
            .cli_with(&args, inventory.to_string().as_bytes())
            .ok();
        output.json()
    };
    assert_eq!(report["added"], json!(["db1"]));
    assert_eq!(host(&server, "db1")["group"], "emea/db");
    assert!(!server.log().contains("hunter2-secret"));
    server.cli(&["host", "import", "-"]).says(&["--format"]);
    let binary = server.file("known_hosts", b"ok ssh-rsa AAAA\n\xff\xfe\n");
    server
        .cli(&["host", "import", binary.to_str().unwrap()])
        .fails(2)
        .says(&["line 2: it is not UTF-8"]);
}

/// What is taken from a configuration is what OpenSSH itself makes of it.
#[test]
fn an_ssh_configuration_says_what_ssh_takes_from_it() {
    let server = Server::start(Options::default());
    let config = "User everyone\n\
        Host db1 db2 !db3\n  HostName %h.example.com\n  Port=2222\n\
        Host db* !db2\n  ProxyJump ops@bastion:2200\n  User other\n\
        Host \"far\" 10.0.0.9\n\tPort 22 # usual\n\tProxyJump bastion,inner\n\
        Host inner\n\tProxyJump none\n\
        Host *.example.com far\n  User late\n  HostName far.example.com\n\
        Host ?ar\n  Port 99\n";
    let file = server.file("config", config);
    let file = file.to_str().unwrap();
    server.cli(&["host", "import", file]).ok();
    let list = server.json(&["host", "list"]);
    let hosts = list["items"].as_array().unwrap();
    assert_eq!(hosts.len(), 6, "{hosts:?}");
    for it in hosts {
        let name = it["name"].as_str().unwrap();
        if name == "bastion" {
            // No `Host` line names it: what the jump says of it counts.
            assert_eq!(json!([it["port"], it["account"]]), json!([2200, "ops"]));
            continue;
        }
        let output = Command::new("ssh")
            .args(["-G", "-F", file, name])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let value = |key: &str| {
            said.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(it["address"], value("hostname"), "{name}");
        assert_eq!(it["port"].to_string(), value("port"), "{name}");
        assert_eq!(it["account"], value("user"), "{name}");
        let jumps = value("proxyjump");
        let jumps: Vec<&str> = jumps
            .split(',')
            .filter(|jump| !matches!(*jump, "" | "none"))
            .map(|jump| jump.rsplit('@').next().unwrap().split(':').next().unwrap())
            .collect();
        assert_eq!(it["jump"], json!(jumps), "{name}");
    }
}
