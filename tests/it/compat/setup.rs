//! `ktadmin`, `ssh-mgr-setup`, `ssh-mgr-controller`, and names whose work is gone.

use super::{on_a_terminal, typed, typed_with};
use crate::harness::{Options, Server};

/// A data folder that was not made yet, beside one that was.
fn elsewhere(server: &mut Server) {
    server.data = server.path("fresh");
}

fn opens(server: &Server, passphrase: &str) {
    server.file("typed-passphrase", format!("{passphrase}\n"));
    let mut command = server.command();
    command
        .args(["doctor", "--json", "--passphrase-file"])
        .arg(server.path("typed-passphrase"))
        .arg("--data-dir")
        .arg(&server.data);
    let found = crate::harness::run(&mut command).json();
    let slot = found
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["check"] == "slot");
    assert_eq!(
        slot.map(|it| &it["state"]),
        Some(&"green".into()),
        "{found}"
    );
}

#[test]
fn ssh_mgr_setup_takes_its_answers_as_options() {
    let mut server = Server::init(Options::default());
    elsewhere(&mut server);
    typed(
        &server,
        "ssh-mgr-setup --install-dir=/opt/sshmgr --fqdn=keymanager.example.com --superuser-password=example-password --encryption-passphrase=example_passphrase --accept-eula",
    )
    .ok()
    .says(&["--install-dir /opt/sshmgr is not needed", "--accept-eula is not needed", "command line"]);
    opens(&server, "example_passphrase");
    // The second time it is there already, and stays.
    typed(
        &server,
        "ssh-mgr-setup --fqdn=a --superuser-password=example-password --encryption-passphrase=x",
    )
    .fails(5)
    .says(&["holds a server already"]);
    opens(&server, "example_passphrase");
}

#[test]
fn a_database_elsewhere_is_never_ignored() {
    let mut server = Server::init(Options::default());
    elsewhere(&mut server);
    let line = "ssh-mgr-setup --install-dir=/opt/sshmgr --db-type=Oracle --fqdn=keymanager.example.com --superuser-password=example-password --db-name='(DESCRIPTION = (FAILOVER=on))' --db-user=database_username --db-user-password=example-password --encryption-passphrase=example_passphrase --accept-eula";
    typed(&server, line)
        .fails(1)
        .says(&["--db-type=Oracle", "inside the server"]);
    for option in [
        "--db-type=PostgreSQL",
        "--db-name=x",
        "--db-user=x",
        "--db-user-password=x",
    ] {
        let line = format!(
            "ssh-mgr-setup --fqdn=a --superuser-password=example-password --encryption-passphrase=x {option}"
        );
        typed(&server, &line).fails(1).says(&["no other database"]);
    }
    assert!(!server.data.exists());
    typed_with(
        &server,
        "ssh-mgr-setup --db-type=embedded --fqdn=a.example.com --superuser-password=example-password --encryption-passphrase=-",
        b"from stdin\n",
    )
    .ok();
    opens(&server, "from stdin");
}

#[test]
fn what_is_missing_is_asked_for_on_a_terminal_and_nowhere_else() {
    let mut server = Server::init(Options::default());
    elsewhere(&mut server);
    typed(&server, "ssh-mgr-setup --fqdn=a.example.com")
        .fails(2)
        .says(&[
            "nobody is there",
            "--encryption-passphrase",
            "--superuser-password",
        ]);
    typed(
        &server,
        "ssh-mgr-setup --fqdn=a.example.com --superuser-password=- --encryption-passphrase=-",
    )
    .fails(2)
    .says(&["one secret"]);
    typed(&server, "ssh-mgr-setup --fqdn=a.example.com --superuser-password=example-password --encryption-passphrase=")
        .fails(2)
        .says(&["empty"]);
    let (status, said) = on_a_terminal(&server, "ssh-mgr-setup", &[("primary installation?", "n")]);
    assert_eq!(status, 1, "{said}");
    let (status, said) = on_a_terminal(
        &server,
        "ssh-mgr-setup",
        &[("primary installation?", "y"), ("on this machine?", "no")],
    );
    assert!(status == 1 && said.contains("inside the server"), "{said}");
    let yes = [("primary installation?", ""), ("on this machine?", "yes")];
    let wrong = [
        &yes[..],
        &[
            ("Host name", "kts01.example.com"),
            ("Passphrase", "one"),
            ("once more", "another"),
        ],
    ]
    .concat();
    let (status, said) = on_a_terminal(&server, "ssh-mgr-setup", &wrong);
    assert!(status == 2 && said.contains("not the same"), "{said}");
    assert!(!server.data.exists());
    let right = [
        &yes[..],
        &[
            ("Host name", "kts01.example.com"),
            ("Passphrase", "typed by hand"),
            ("once more", "typed by hand"),
            ("superuser", "a long password"),
            ("once more", "a long password"),
        ],
    ]
    .concat();
    let (status, said) = on_a_terminal(&server, "ssh-mgr-setup", &right);
    assert_eq!(status, 0, "{said}");
    assert!(
        !said.contains("typed by hand") && !said.contains("a long password"),
        "{said}"
    );
    opens(&server, "typed by hand");
    let config = std::fs::read_to_string(server.data.join("live/strongroom.toml")).unwrap();
    assert!(config.contains("kts01.example.com"), "{config}");
}

#[test]
fn ktadmin_makes_a_data_folder_and_needs_no_database() {
    let mut server = Server::init(Options::default());
    elsewhere(&mut server);
    typed(&server, "ktadmin init").fails(2).says(&["--fqdn"]);
    for line in [
        "ktadmin init --master kts01.example.com",
        "ktadmin init --passive",
    ] {
        typed(&server, line).fails(1).says(&["no passive twin yet"]);
    }
    typed_with(
        &server,
        "ktadmin init --fqdn kts01.example.com --passphrase-file -",
        b"by ktadmin\n",
    )
    .ok();
    opens(&server, "by ktadmin");
    let by_hand = server.path("by-hand");
    let line = format!("ktadmin --data-dir {} init", by_hand.display());
    let (status, said) = on_a_terminal(
        &server,
        &line,
        &[
            ("Host name", ""),
            ("Passphrase", "typed by hand"),
            ("once more", "typed by hand"),
        ],
    );
    assert!(status == 0 && said.contains("superuser password"), "{said}");
    server.data = by_hand;
    opens(&server, "typed by hand");

    typed(
        &server,
        "ktadmin db --start --pg-rootdir /var/lib/keytrustee/db --background",
    )
    .ok()
    .says(&[
        "db --start is not needed",
        "--pg-rootdir /var/lib/keytrustee/db is not needed",
        "--background is not needed",
    ]);
    typed(
        &server,
        "ktadmin db --stop --pg-rootdir /var/lib/keytrustee/db",
    )
    .ok()
    .says(&["db --stop is not needed"]);
    typed(&server, "ktadmin db").fails(2);
    typed(&server, "ktadmin db --start --stop").fails(2);
    typed(&server, "ktadmin db --start --port 1").fails(2);
    typed(
        &server,
        "ktadmin keyhsm --server https://keyhsm01.example.com:9090",
    )
    .fails(2);
}

#[test]
fn a_role_that_is_off_is_off_from_the_next_start_on() {
    let mut server = Server::start(Options::default());
    let show = |server: &Server| {
        typed(server, "ssh-mgr-controller --show-server-roles")
            .ok()
            .text()
    };
    assert_eq!(show(&server), "frontend\tenabled\nbackend\tenabled\n");
    typed(&server, "ssh-mgr-controller --disable-server-role=frontend")
        .ok()
        .says(&["next start"]);
    assert_eq!(show(&server), "frontend\tdisabled\nbackend\tenabled\n");
    server
        .curl(&format!("{}/v1/server", server.gui_url))
        .send()
        .ok(200);
    // On the very address of before, nothing listens.
    let address = server.gui_url.rsplit(':').next().unwrap();
    let address = format!("127.0.0.1:{address}");
    std::net::TcpStream::connect(&address).unwrap();
    server.options.args = vec!["--gui-listen".to_owned(), address.clone()];
    server.restart();
    assert_eq!(server.gui_url, "");
    std::net::TcpStream::connect(&address).unwrap_err();
    server.logs("gui=off");
    assert!(
        server
            .cli(&["status"])
            .ok()
            .text()
            .lines()
            .all(|line| !line.starts_with("GUI"))
    );
    server.client("a", "acme");
    let doctor = server.cli(&["doctor"]);
    assert!(doctor.text().contains("off (roles.frontend)"), "{doctor:?}");
    // It seals and comes back without a front end, too.
    server.cli(&["seal", "--yes"]).ok();
    server.logs("listening, sealed");
    typed(&server, "ssh-mgr-controller --disable-server-role=frontend")
        .ok()
        .says(&["already"]);
    typed(&server, "ssh-mgr-controller --enable-server-role=frontend").ok();
    typed(&server, "ssh-mgr-controller --enable-server-role=backend").ok();
    typed(&server, "ssh-mgr-controller --disable-server-role=backend")
        .fails(1)
        .says(&["nothing to turn off"]);
    assert_eq!(show(&server), "frontend\tenabled\nbackend\tenabled\n");
    typed(&server, "ssh-mgr-controller --check-license")
        .ok()
        .says(&["is not needed"]);
    for wrong in [
        "",
        "--enable-server-role=gui",
        "--show-server-roles --check-license",
        "--import-license x",
    ] {
        typed(&server, &format!("ssh-mgr-controller {wrong}")).fails(2);
    }
}

#[test]
fn setup_nginx_says_what_there_is_instead() {
    let server = Server::init(Options::default());
    typed(&server, "setup-nginx")
        .fails(1)
        .says(&["nothing to set up", "gui_listen"]);
    typed(&server, "setup-nginx --anything").fails(1);
}
