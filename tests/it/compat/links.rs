//! `install-links`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::run::as_root;
use crate::harness::{Folder, Options, Output, Server, binary, run};

fn install(folder: &Folder, args: &[&str]) -> Output {
    run(Command::new(binary())
        .arg("--json")
        .arg("install-links")
        .args(args)
        .current_dir(folder.path()))
}

fn done(output: &Output, path: &Path) -> Value {
    let links = output.json()["links"].clone();
    let links = links.as_array().unwrap().clone();
    let path = path.to_str().unwrap();
    links
        .iter()
        .find(|it| it["path"] == path)
        .map_or(Value::Null, |it| it["done"].clone())
}

#[test]
fn links_are_made_once_and_brought_up_to_date() {
    let folder = Folder::new();
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let first = install(&folder, &["bin"]).ok();
    let program = binary().canonicalize().unwrap();
    for name in [
        "keytrustee-orgtool",
        "ktadmin",
        "ktbackup",
        "ktbackup.sh",
        "setup-nginx",
        "ssh-mgr-client",
        "ssh-mgr-controller",
        "ssh-mgr-setup",
    ] {
        assert_eq!(fs::read_link(bin.join(name)).unwrap(), program);
        assert_eq!(done(&first, &bin.join(name)), "made");
    }
    assert_eq!(
        fs::read_dir(&bin).unwrap().count(),
        8,
        "no supervisorctl, no keyhsm"
    );
    let again = install(&folder, &["bin", "--supervisorctl"]).ok();
    assert_eq!(done(&again, &bin.join("ktadmin")), "unchanged");
    assert_eq!(done(&again, &bin.join("supervisorctl")), "made");
    // The program was elsewhere before.
    fs::remove_file(bin.join("ktadmin")).unwrap();
    symlink("/opt/old/strongroom", bin.join("ktadmin")).unwrap();
    let stale = install(&folder, &["bin"]).ok();
    assert_eq!(done(&stale, &bin.join("ktadmin")), "refreshed");
    assert_eq!(fs::read_link(bin.join("ktadmin")).unwrap(), program);
    run(Command::new(bin.join("ktadmin")).args(["db", "--start"]))
        .ok()
        .says(&["not needed"]);
}

#[test]
fn what_others_made_is_never_replaced() {
    let folder = Folder::new();
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("ktadmin"), "theirs").unwrap();
    fs::create_dir(bin.join("setup-nginx")).unwrap();
    symlink("/opt/sshmgr/lib/client", bin.join("ssh-mgr-client")).unwrap();
    symlink("nowhere", bin.join("ssh-mgr-setup")).unwrap();
    let output = install(&folder, &["bin"]).fails(5);
    for name in ["ktadmin", "setup-nginx", "ssh-mgr-client", "ssh-mgr-setup"] {
        assert_eq!(done(&output, &bin.join(name)), "kept", "{name}");
        assert!(output.stderr.contains(name), "{output:?}");
    }
    assert_eq!(fs::read_to_string(bin.join("ktadmin")).unwrap(), "theirs");
    assert_eq!(
        fs::read_link(bin.join("ssh-mgr-setup")).unwrap(),
        Path::new("nowhere")
    );
    assert!(
        bin.join("keytrustee-orgtool").is_symlink(),
        "the others are there"
    );
    install(&folder, &["missing"])
        .fails(2)
        .says(&["is no folder"]);
}

#[test]
fn the_paths_of_runbooks_and_the_old_services_name_are_made_below_a_root() {
    let folder = Folder::new();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("usr/local/bin")).unwrap();
    let args = [
        "/usr/local/bin",
        "--original-paths",
        "--root",
        root.to_str().unwrap(),
    ];
    install(&folder, &args).ok();
    let program = binary().canonicalize().unwrap();
    for path in [
        "usr/local/bin/keytrustee-orgtool",
        "usr/bin/keytrustee-orgtool",
        "opt/cloudera/parcels/KEYTRUSTEE_SERVER/bin/keytrustee-orgtool",
        "opt/cloudera/parcels/KEYTRUSTEE_SERVER/bin/ktadmin",
        "opt/sshmgr/bin/ssh-mgr-setup",
        "opt/sshmgr/bin/ssh-mgr-controller",
        "opt/sshmgr/bin/setup-nginx",
    ] {
        assert_eq!(fs::read_link(root.join(path)).unwrap(), program, "{path}");
    }
    for made in [
        "usr/bin",
        "opt",
        "opt/sshmgr",
        "opt/cloudera/parcels/KEYTRUSTEE_SERVER/bin",
    ] {
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(root.join(made)).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o755, "{made}");
    }
    assert!(!root.join("usr/bin/supervisorctl").exists());
    let services = [&args[..], &["--services"]].concat();
    install(&folder, &services)
        .fails(4)
        .says(&["strongroom.service is not there"]);
    let units = root.join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::copy(
        crate::harness::measured::root().join("docs/strongroom.service"),
        units.join("strongroom.service"),
    )
    .unwrap();
    install(&folder, &services).ok();
    assert_eq!(
        fs::read_link(units.join("keytrusteed.service")).unwrap(),
        Path::new("strongroom.service")
    );
    let known = run(Command::new("systemctl")
        .arg(format!("--root={}", root.display()))
        .args(["is-enabled", "keytrusteed.service"]));
    assert_eq!(known.text(), "alias\n", "{known:?}");
    let again = install(&folder, &services).ok();
    assert_eq!(
        done(&again, &units.join("keytrusteed.service")),
        "unchanged"
    );
    assert!(!root.join("etc/init.d").exists());
}

/// Runs the lines of runbooks by their absolute paths, on a machine whose /usr/bin and /opt are the
/// test's own: its mounts are seen by nobody else.
#[test]
fn runbooks_call_the_commands_by_their_absolute_paths() {
    const SCRIPT: &str = r#"set -e
cd "$1"
mkdir real fake bin
mount --bind /usr/bin real
cp --archive --symbolic-link "$1"/real/. fake/
mount --bind fake /usr/bin
mount -t tmpfs none /opt
"$2" install-links bin --original-paths >&2
export STRONGROOM_DATA_DIR="$3"
/usr/bin/keytrustee-orgtool add -n disaster-recov -c finn@example.com,jake@example.com
/opt/cloudera/parcels/KEYTRUSTEE_SERVER/bin/keytrustee-orgtool list
/usr/bin/ktadmin db --stop --pg-rootdir /var/lib/keytrustee/db
/opt/sshmgr/bin/ssh-mgr-controller --show-server-roles
/opt/sshmgr/bin/ssh-mgr-controller --check-license
/opt/sshmgr/bin/ssh-mgr-setup --db-type=Oracle || test $? = 1
/opt/sshmgr/bin/setup-nginx || test $? = 1
"#;
    let server = Server::start(Options::default());
    let place = Folder::new();
    let output = run(as_root("unshare")
        .args(["--mount", "/bin/sh", "-c", SCRIPT, "sh"])
        .arg(place.path())
        .arg(binary().canonicalize().unwrap())
        .arg(&server.data))
    .ok()
    .says(&[
        "--stop is not needed",
        "licence is not needed",
        "Oracle",
        "nothing to set up",
    ]);
    let said = output.text();
    assert!(
        said.contains("\"disaster-recov\"") && said.contains("frontend\tenabled"),
        "{said}"
    );
    assert!(
        !Path::new("/usr/bin/ktadmin").exists(),
        "the machine's own is untouched"
    );
}
