//! `ktbackup.sh`, as runbooks and cron call it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::typed;
use crate::harness::run::{Killed, as_root};
use crate::harness::{Options, PATIENCE, Server, binary, run, tool, until_some};

/// Someone with an OpenPGP key, in a home of his own.
struct Person {
    home: PathBuf,
}

impl Person {
    fn new(server: &Server, name: &str, user_id: &str) -> Self {
        let home = server.path(name);
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        let person = Self { home };
        let made = "--batch --passphrase '' --quick-gen-key";
        person.gpg(&format!("{made} '{user_id}' rsa3072 default never"));
        let listed = person.gpg("--list-keys --with-colons");
        let fingerprint = listed
            .lines()
            .find_map(|line| line.strip_prefix("fpr:::::::::")?.strip_suffix(':'))
            .unwrap()
            .to_owned();
        let add = "--batch --passphrase '' --quick-add-key";
        person.gpg(&format!("{add} {fingerprint} rsa3072 encr never"));
        person
    }

    fn gpg(&self, args: &str) -> String {
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", &format!("exec gpg --quiet {args}")])
            .env("GNUPGHOME", &self.home);
        run(&mut shell).ok().text()
    }

    fn members(&self, backup: &Path) -> String {
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", "gpg --quiet --decrypt \"$1\" | tar tf -", "sh"])
            .arg(backup)
            .env("GNUPGHOME", &self.home);
        run(&mut shell).ok().text()
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .args(["--kill", "all"])
            .env("GNUPGHOME", &self.home)
            .status();
    }
}

fn backups_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("kts_bak_") && name.contains(".tar")
    });
    found.sort();
    found
}

#[test]
fn the_manuals_lines_take_a_backup() {
    let server = Server::start(Options::default());
    let john = Person::new(&server, "john", "John Doe <john.doe@example.com>");
    // The caller's own keyring, as the manual has it.
    let ring = server.path(".gnupg");
    fs::create_dir(&ring).unwrap();
    fs::set_permissions(&ring, fs::Permissions::from_mode(0o700)).unwrap();
    let public = john.gpg("--armor --export john.doe@example.com");
    server.file("johndoe.pub", public);
    run(Command::new("gpg")
        .args(["--quiet", "--import"])
        .arg(server.path("johndoe.pub"))
        .env("GNUPGHOME", &ring))
    .ok();

    let taken = typed(&server, "ktbackup.sh --gpg-recipient='John Doe'").ok();
    let first = PathBuf::from(taken.text().trim());
    assert_eq!(first.parent().unwrap(), server.data.join("backups"));
    assert!(first.to_string_lossy().ends_with(".tar.gpg"));
    assert!(john.members(&first).starts_with("manifest.json\n"));

    let line = "ktbackup.sh --database-port=12345 --gpg-recipient=john.doe@example.com";
    typed(&server, line)
        .ok()
        .says(&["--database-port is not needed"]);
    for (line, ending) in [
        (
            "ktbackup.sh -c $STRONGROOM_DATA_DIR --cleartext --output=out --verbose",
            ".tar",
        ),
        ("ktbackup --cleartext -q --output out --roll=1", ".tar"),
        (
            "ktbackup.sh --gpg-recipient='John Doe' --quiet --output=out --roll=1",
            ".tar.gpg",
        ),
    ] {
        let taken = typed(&server, line).ok();
        let path = taken.text();
        assert!(path.ends_with(&format!("{ending}\n")), "{taken:?}");
        assert_eq!(path.lines().count(), 1);
        if line.contains("-q") {
            assert_eq!(taken.stderr, "");
        }
    }
    assert_eq!(backups_in(&server.path("out")).len(), 1);

    for (line, status, says) in [
        ("ktbackup.sh", 2, "--gpg-recipient=NAME"),
        ("ktbackup.sh --gpg-recipient=nobody", 4, "nobody"),
        ("ktbackup.sh --cleartext --roll=0", 2, "--roll"),
        ("ktbackup.sh --cleartext --rol=1", 2, "--rol"),
    ] {
        typed(&server, line).fails(status).says(&[says]);
    }
}

/// The line of the manual, run by Debian's cron, in a namespace of mounts that nobody else sees.
#[test]
fn cron_takes_it_by_the_manuals_line() {
    const LINE: &str = "*/30 * * * * /opt/cloudera/parcels/KEYTRUSTEE_SERVER/bin/ktbackup.sh --gpg-recipient='John Doe' --quiet --output=/tmp/backups --roll=10";
    // Half an hour begins in a second, and each half minute from then on. What cron starts has the true time.
    const SCRIPT: &str = r#"set -e; cd "$1"; mkdir -p crontabs empty /tmp/backups; : >none
        chmod 1730 crontabs; cp crontab "crontabs/$2"; chmod 600 "crontabs/$2"; chown 0:0 crontabs "crontabs/$2"
        mount --bind root/opt /opt; mount --bind "$1" /var/spool/cron; mount --bind empty /etc/cron.d
        mount --bind none /etc/crontab; mount --bind out /tmp/backups; mount -t tmpfs none /dev/shm
        exec faketime -f '@2026-11-22 11:59:00 x60' cron -f"#;
    let server = Server::start(Options::default());
    let john = Person::new(&server, "john", "John Doe <john.doe@example.com>");
    let home = server.path("home");
    fs::create_dir_all(home.join(".gnupg")).unwrap();
    fs::set_permissions(home.join(".gnupg"), fs::Permissions::from_mode(0o700)).unwrap();
    let public = john.gpg("--armor --export 'John Doe'");
    server.file("johndoe.pub", public);
    run(Command::new("gpg")
        .args(["--quiet", "--import"])
        .arg(server.path("johndoe.pub"))
        .env("GNUPGHOME", home.join(".gnupg")))
    .ok();
    fs::create_dir(server.path("out")).unwrap();
    fs::create_dir_all(server.path("root/opt")).unwrap();
    fs::create_dir_all(server.path("root/usr/local/bin")).unwrap();
    let mut links = Command::new(binary());
    links
        .args(["install-links", "--original-paths", "--root"])
        .arg(server.path("root"))
        .arg("/usr/local/bin");
    run(&mut links).ok();
    server.file(
        "crontab",
        format!(
            "MAILTO=\"\"\nHOME={}\nSTRONGROOM_DATA_DIR={}\n{LINE}\n",
            home.display(),
            server.data.display()
        ),
    );
    let mut cron = as_root("unshare");
    cron.args([
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        SCRIPT,
        "sh",
    ])
    .arg(server.folder())
    .arg(String::from_utf8(tool("id", ["-un"])).unwrap().trim())
    .stdout(Stdio::null())
    .stderr(Stdio::from(
        fs::File::create(server.path("cron.log")).unwrap(),
    ));
    let mut cron = Killed(cron.spawn().unwrap());
    let taken = until_some(3 * PATIENCE, || {
        if let Ok(Some(status)) = cron.0.try_wait() {
            let said = fs::read_to_string(server.path("cron.log")).unwrap();
            panic!("cron ended: {status}\n{said}");
        }
        backups_in(&server.path("out")).pop()
    });
    assert!(taken.to_string_lossy().ends_with(".tar.gpg"));
    let members = john.members(&taken);
    assert!(members.ends_with("access.db\nstrongroom.db\n"), "{members}");
    until_some(PATIENCE, || {
        let known = server.json(&["backup", "list"]);
        let path = known["backups"][0]["path"].as_str()?.to_owned();
        path.starts_with("/tmp/backups/").then_some(())
    });
}
