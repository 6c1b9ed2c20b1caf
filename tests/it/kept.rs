//! What a client keeps for reads while its server is away: what is used, for how long, what takes it
//! away, and what is never there.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::run::Output;
use crate::harness::{Client, Options, PATIENCE, Server, run, tool, until};

const PLAIN: &[u8] = b"a plaintext that stands on no disk";
const AWAY: &str = "strongroom: the server is away; this is version ";

/// A client that keeps what it fetches for seven days.
#[track_caller]
fn keeping(server: &Server, name: &str) -> Client {
    let code = server.org("acme");
    let client = server.stranger(name, "acme");
    let print = server.fingerprint.clone();
    let args = [
        "--cache",
        "7d",
        "--server-fingerprint",
        &print,
        "--auth-file",
        "-",
    ];
    client
        .register_with(&args, code.as_bytes())
        .ok()
        .says(&["active"]);
    client
}

fn world() -> (Server, Client) {
    let server = Server::start(Options::stepped());
    let client = keeping(&server, "a");
    (server, client)
}

#[track_caller]
fn put(client: &Client, name: &str, further: &[&str]) {
    let args = [&["deposit", "put", name, "-"], further].concat();
    client.cli_with(&args, PLAIN).ok();
}

/// Fetched from the server, and opened.
#[track_caller]
fn get(client: &Client, name: &str) {
    let got = client.cli(&["deposit", "get", name]).ok();
    assert_eq!(got.stdout, PLAIN);
    assert!(!got.stderr.contains("away"), "{got:?}");
}

/// The kept copy stands for the server's answer.
#[track_caller]
fn stands_in(got: Output) -> Output {
    let got = got.ok().says(&[AWAY]);
    assert_eq!(got.stdout, PLAIN);
    assert_eq!(got.stderr.lines().count(), 1, "{got:?}");
    got
}

/// A command on a machine whose clock is off by so much.
#[track_caller]
fn at(client: &Client, offset: &str, args: &[&str]) -> Output {
    let command = client.command();
    let mut late = Command::new("faketime");
    late.args(["-f", offset])
        .arg(command.get_program())
        .args(command.get_args())
        .args(args);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => late.env(name, value),
            None => late.env_remove(name),
        };
    }
    run(&mut late)
}

fn kept(client: &Client) -> Vec<PathBuf> {
    let entries = fs::read_dir(client.file("cache"));
    let mut files: Vec<PathBuf> = entries
        .map(|entries| entries.map(|it| it.unwrap().path()).collect())
        .unwrap_or_default();
    files.sort();
    files
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => all_files(&path),
            false => vec![path],
        })
        .collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_copy_is_read_while_the_server_is_away_and_no_longer_than_was_said() {
    let (mut server, client) = world();
    put(&client, "web.key", &[]);
    get(&client, "web.key");
    assert_eq!(mode(&client.file("cache")), 0o700);
    let files = kept(&client);
    assert_eq!(files.len(), 1);
    assert_eq!(mode(&files[0]), 0o600);
    assert!(!files[0].to_str().unwrap().contains("web"));
    for file in all_files(&client.home) {
        let bytes = fs::read(&file).unwrap();
        let plain = bytes.windows(PLAIN.len()).any(|piece| piece == PLAIN);
        assert!(!plain, "{}", file.display());
    }
    server.stop();

    stands_in(client.cli(&["deposit", "get", "web.key"])).says(&["version 1 as fetched 20"]);
    stands_in(client.cli(&["--quiet", "deposit", "get", "web.key"]));
    stands_in(client.cli(&["deposit", "get", "web.key", "--version", "1"]));
    let copied = client.cli(&["deposit", "get", "web.key", "--raw"]).ok();
    let age = client.home.join("copied.age");
    fs::write(&age, copied.stdout).unwrap();
    assert_eq!(client.age_decrypt(&age), PLAIN);
    let out = client.home.join("out");
    let said = client
        .cli(&[
            "--json",
            "deposit",
            "get",
            "web.key",
            "-o",
            out.to_str().unwrap(),
        ])
        .ok()
        .json();
    assert_eq!(fs::read(&out).unwrap(), PLAIN);
    assert_eq!(
        (&said["version"], &said["bytes"]),
        (&1.into(), &PLAIN.len().into())
    );
    assert!(said["kept"]["fetched"].as_str().unwrap().starts_with("20"));
    assert!(
        said["kept"]["away"]
            .as_str()
            .unwrap()
            .contains("no server answers")
    );

    // Nothing that was not fetched, and no change.
    for args in [
        &["deposit", "get", "web.key", "--version", "2"][..],
        &["deposit", "get", "other"],
        &["deposit", "show", "web.key"],
        &["deposit", "rm", "web.key", "--yes"],
    ] {
        client.cli(args).fails(3).says(&["no server answers"]);
    }
    client
        .cli_with(&["deposit", "put", "web.key", "-"], b"new")
        .fails(3);

    stands_in(at(&client, "+6d", &["deposit", "get", "web.key"]));
    for off in ["+8d", "-1d"] {
        at(&client, off, &["deposit", "get", "web.key"])
            .fails(3)
            .says(&["no server answers", "version 1", "too old to be used (7d"]);
    }

    server.serve();
    let client = client.at(&server);
    get(&client, "web.key");
    let versions = client.cli(&["--json", "deposit", "versions", "web.key"]);
    assert_eq!(
        versions.ok().json()["versions"].as_array().unwrap().len(),
        1
    );
    // Reads of the copy are in no audit; both fetches are.
    let events = server.json(&["audit", "list", "-F", "action = deposit.get"]);
    assert_eq!(events["items"].as_array().unwrap().len(), 2, "{events}");
}

#[test]
fn what_counts_or_was_never_opened_is_not_kept_and_an_end_holds_for_copies() {
    let (mut server, client) = world();
    put(&client, "few", &["--max-retrievals", "5"]);
    put(&client, "once", &["--single-use"]);
    put(&client, "plain", &["--raw"]);
    for name in ["few", "once", "plain"] {
        get(&client, name);
    }
    put(&client, "unopened", &[]);
    client.cli(&["deposit", "get", "unopened", "--raw"]).ok();
    assert_eq!(kept(&client), Vec::<PathBuf>::new());

    // One that is limited later, by its owner or by somebody else.
    put(&client, "later", &[]);
    for limiting in ["own", "other"] {
        get(&client, "later");
        assert_eq!(kept(&client).len(), 1);
        let limit = ["deposit", "edit", "later", "--max-retrievals", "9"];
        match limiting {
            "own" => drop(client.cli(&limit).ok()),
            _ => {
                server.cli(&[&limit[..], &["--org", "acme"]].concat()).ok();
                client.cli(&["deposit", "get", "later", "--raw"]).ok();
            }
        }
        assert_eq!(kept(&client), Vec::<PathBuf>::new(), "{limiting}");
        let free = ["deposit", "edit", "later", "--max-retrievals", "none"];
        client.cli(&free).ok();
    }

    put(&client, "ends", &["--expires", "+2h"]);
    get(&client, "ends");
    // A new version is not to be read as the old one.
    put(&client, "changed", &[]);
    get(&client, "changed");
    put(&client, "changed", &[]);
    assert_eq!(kept(&client).len(), 1);
    server.stop();
    for name in ["few", "once", "plain", "unopened", "later", "changed"] {
        client.cli(&["deposit", "get", name]).fails(3);
    }
    stands_in(at(&client, "+1h", &["deposit", "get", "ends"]));
    at(&client, "+3h", &["deposit", "get", "ends"]).fails(3);
    assert_eq!(kept(&client), Vec::<PathBuf>::new());
}

#[test]
fn a_refusal_takes_the_copy_away_at_once_and_a_sealed_server_is_away() {
    let (mut server, client) = world();
    let reader = keeping(&server, "b");
    for name in ["a", "b", "shared"] {
        put(&client, name, &[]);
    }
    let with = ["--with", &reader.fingerprint()];
    client
        .cli(&[&["deposit", "share", "shared"], &with[..]].concat())
        .ok();
    for name in ["a", "b", "shared"] {
        get(&client, name);
    }
    get(&reader, "shared");
    client.cli(&["deposit", "get", "a", "--version", "1"]).ok();
    assert_eq!((kept(&client).len(), kept(&reader).len()), (4, 1));

    server
        .cli(&["deposit", "rm", "a", "--org", "acme", "--yes"])
        .ok();
    client.cli(&["deposit", "get", "a"]).fails(4);
    assert_eq!(kept(&client).len(), 2);
    client
        .cli(&[&["deposit", "unshare", "shared"], &with[..]].concat())
        .ok();
    assert_eq!(kept(&client).len(), 1);
    reader.cli(&["deposit", "get", "shared"]).fails(5);
    assert_eq!(kept(&reader), Vec::<PathBuf>::new());

    server.cli(&["seal", "--yes"]).ok();
    until(PATIENCE, || {
        server.cli(&["status"]).text().contains("sealed")
    });
    let got = client.cli(&["-v", "deposit", "get", "b"]).ok();
    got.says(&[AWAY, "sealed"]);
    let key = server.path("key");
    server
        .cli(&["unseal", "--key-file", key.to_str().unwrap()])
        .ok();

    // Whoever is disabled keeps nothing from the next thing that it asks for.
    let print = client.fingerprint();
    server.cli(&["client", "disable", &print]).ok();
    assert_eq!(kept(&client).len(), 1);
    client
        .cli(&["deposit", "list"])
        .fails(5)
        .says(&["disabled"]);
    assert_eq!(kept(&client), Vec::<PathBuf>::new());
    server.stop();
    client.cli(&["deposit", "get", "b"]).fails(3);
}

#[test]
fn damaged_copies_are_as_none_and_what_cannot_be_kept_fails_nothing() {
    let (mut server, client) = world();
    put(&client, "key", &[]);
    get(&client, "key");
    let file = kept(&client).remove(0);
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let newer = String::from_utf8_lossy(&whole[..18]).replace("/1", "/2");
    assert!(newer.contains("/2"));
    server.stop();
    for damaged in [
        &b""[..],
        b"garbage",
        &flipped,
        &whole[..whole.len() - 1],
        &[&whole[..], b"x"].concat(),
        &whole[..40],
        &[newer.as_bytes(), &whole[18..]].concat(),
        &[0xff; 5 << 10],
    ] {
        fs::write(&file, damaged).unwrap();
        client
            .cli(&["deposit", "get", "key"])
            .fails(3)
            .says(&["no server answers"]);
        assert_eq!(kept(&client), Vec::<PathBuf>::new());
    }
    // Under another name it is another deposit's.
    fs::write(file.with_file_name("ab".repeat(32)), &whole).unwrap();
    client.cli(&["deposit", "get", "key"]).fails(3);
    fs::write(&file, &whole).unwrap();
    stands_in(client.cli(&["deposit", "get", "key"]));

    server.serve();
    let client = client.at(&server);
    // In the folder's place there is something else, or a link.
    let folder = client.file("cache");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "no folder").unwrap();
    let said = ["no copy is kept"];
    client.cli(&["deposit", "get", "key"]).ok().says(&said);
    fs::remove_file(&folder).unwrap();
    let elsewhere = client.home.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(elsewhere.join("ab".repeat(32)), "not ours").unwrap();
    symlink(&elsewhere, &folder).unwrap();
    client.cli(&["deposit", "get", "key"]).ok().says(&said);
    client.cli(&["deposit", "get", "none"]).fails(4);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1);
    assert_eq!(mode(&elsewhere), 0o755);
    fs::remove_file(&folder).unwrap();

    // A full disk, as the command sees it.
    const FULL: &str = r#"mkdir -m 700 "$1" && mount -t tmpfs -o size=16k,mode=0700 full "$1" &&
        { head -c 1M /dev/zero >"$1/filler" || true; } 2>&- && shift && exec "$@""#;
    let command = client.command();
    let mut full = Command::new("unshare");
    full.args(["--mount", "--map-root-user", "sh", "-c", FULL, "sh"])
        .arg(&folder)
        .arg(command.get_program())
        .args(command.get_args())
        .args(["deposit", "get", "key"]);
    let got = run(&mut full).ok().says(&said);
    assert_eq!(got.stdout, PLAIN);
    assert_eq!(got.stderr.lines().count(), 1, "{got:?}");
    get(&client, "key");
    assert_eq!(kept(&client), [file]);
}

/// Listens, and does the same to each that connects, until it is dropped with the test.
fn listener(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    format!("https://{address}")
}

#[test]
fn a_server_that_is_not_trusted_is_not_one_that_is_away() {
    let (mut server, client) = world();
    put(&client, "key", &[]);
    get(&client, "key");
    server.stop();
    let other = Server::start(Options::default());
    let ask = |url: &str| {
        let mut client = server.stranger("a", "acme");
        client.server = url.to_owned();
        client.cli(&["deposit", "get", "key"])
    };
    ask(&other.client_url).fails(5).says(&["not trusted"]);
    ask(&listener(
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
    ))
    .fails(3)
    .says(&["TLS with"]);
    // A fatal alert: access_denied.
    ask(&listener(&[21, 3, 3, 0, 2, 2, 49]))
        .fails(3)
        .says(&["TLS with"]);
    stands_in(ask("https://no-such-host.invalid"));
    // As what stands before servers that are away does.
    stands_in(ask(&listener(b"")));
    assert_eq!(kept(&client).len(), 1);
}

#[test]
fn keeping_is_off_unless_it_was_asked_for_and_is_changed_without_the_server() {
    let mut server = Server::start(Options::default());
    let client = server.client("a", "acme");
    put(&client, "key", &[]);
    get(&client, "key");
    assert!(!client.file("cache").exists());
    for wrong in ["0d", "367d", "7", "+7d", "7w", "-1d"] {
        let args = [
            "--home",
            client.home.to_str().unwrap(),
            "client",
            "set-cache",
        ];
        let mut command = server.command();
        run(command.args(args).arg("--").arg(wrong)).fails(2);
    }
    client.cli(&["client", "set-cache", "12h"]).ok();
    get(&client, "key");
    assert_eq!(kept(&client).len(), 1);
    // What the client is stays what it was; a repeated registration, too, keeps it.
    client.register(Some(&server.org("acme"))).ok();
    let toml = fs::read_to_string(client.file("client.toml")).unwrap();
    assert!(toml.contains("cache = \"12h\""), "{toml}");

    server.stop();
    let got = client.cli(&["deposit", "get", "key"]).ok().says(&[AWAY]);
    assert_eq!(got.stdout, PLAIN);
    client.cli(&["client", "set-cache", "off"]).ok();
    assert!(!client.file("cache").exists());
    client.cli(&["deposit", "get", "key"]).fails(3);
    server.serve();
    let client = client.at(&server);
    get(&client, "key");
    assert!(!client.file("cache").exists());
}

#[test]
fn commands_at_once_keep_whole_copies() {
    let (mut server, client) = world();
    let names: Vec<String> = (0..4).map(|at| format!("key-{at}")).collect();
    for name in &names {
        put(&client, name, &[]);
    }
    std::thread::scope(|scope| {
        for at in 0..4 {
            let (names, client) = (&names, &client);
            scope.spawn(move || {
                for step in 0..4 {
                    get(client, &names[(at + step) % 4]);
                }
            });
        }
    });
    // What a crash left is somebody's who writes now, until it is old.
    let left = client
        .file("cache")
        .join(format!(".{}.00.tmp", "ab".repeat(32)));
    fs::write(&left, "left").unwrap();
    get(&client, "key-0");
    assert!(left.exists());
    tool("touch", ["-d", "2 hours ago", left.to_str().unwrap()]);
    get(&client, "key-0");
    assert_eq!(kept(&client).len(), 4);
    server.stop();
    for name in &names {
        stands_in(client.cli(&["deposit", "get", name]));
    }
}

#[test]
fn a_retrieval_that_counted_is_not_lost_by_what_fails_afterwards() {
    let server = Server::start(Options::default());
    let client = server.client("a", "acme");
    let folder = server.path("results");
    fs::create_dir_all(folder.join("taken")).unwrap();
    let other = server.path("other.txt");
    tool("age-keygen", ["-o", other.to_str().unwrap()]);
    let taken = folder.join("taken");
    for (name, further, code, below) in [
        (
            "wrong-key",
            ["--identity", other.to_str().unwrap()],
            5,
            &client.home,
        ),
        ("no-file", ["-o", taken.to_str().unwrap()], 2, &folder),
    ] {
        put(&client, name, &["--single-use"]);
        let args = [&["deposit", "get", name], &further[..]].concat();
        let failed = client.cli(&args).fails(code).says(&["still encrypted"]);
        let path = failed.stderr.trim().rsplit(' ').next().unwrap();
        assert!(path.starts_with(below.to_str().unwrap()), "{failed:?}");
        assert_eq!(mode(Path::new(path)), 0o600);
        assert_eq!(client.age_decrypt(Path::new(path)), PLAIN);
    }
    // One that can be fetched again leaves nothing.
    put(&client, "again", &[]);
    let before = all_files(&client.home).len();
    let identity = [
        "deposit",
        "get",
        "again",
        "--identity",
        other.to_str().unwrap(),
    ];
    client.cli(&identity).fails(5);
    assert_eq!(all_files(&client.home).len(), before);
}
