//! A real server: `strongroom init`, then `strongroom serve` on free ports, in a private folder.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;

use super::run::{Killed, Output, run, run_with, signal};
use super::{Client, Curl, Folder, PATIENCE, binary, until, until_some, wire};

/// How a test's server differs from any other.
#[derive(Clone, Debug)]
pub struct Options {
    pub fqdn: String,
    pub passphrase: Vec<u8>,
    pub opens: Opens,
    /// Further arguments of `serve`.
    pub args: Vec<String>,
    /// Further environment of `serve`.
    pub env: Vec<(String, String)>,
    /// What `serve` is run by, such as `strace -f …`.
    pub wrapper: Vec<String>,
    /// Where the private folder is made.
    pub parent: PathBuf,
    pub binary: PathBuf,
    /// The server's clock can be stepped (`Server::clock`).
    pub stepped: bool,
}

impl Options {
    /// A server whose clock can be stepped. A static program cannot be given a clock, so this one is
    /// always the development build.
    pub fn stepped() -> Self {
        Self {
            stepped: true,
            binary: PathBuf::from(env!("CARGO_BIN_EXE_strongroom")),
            ..Self::default()
        }
    }
}

/// The slot that `serve` is started with. A key file opens at once; a passphrase costs Argon2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    KeyFile,
    Passphrase,
    /// Whatever `args` and `env` give.
    Nothing,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fqdn: "localhost".to_owned(),
            passphrase: b"horse staple \xc3\xa4pple battery".to_vec(),
            opens: Opens::KeyFile,
            args: Vec::new(),
            env: Vec::new(),
            wrapper: Vec::new(),
            parent: std::env::temp_dir(),
            binary: binary(),
            stepped: false,
        }
    }
}

/// Fields hold what the ready file said at the latest start.
pub struct Server {
    pub client_url: String,
    pub gui_url: String,
    pub health_url: String,
    pub fingerprint: String,
    pub pid: u32,
    /// The data folder.
    pub data: PathBuf,
    pub options: Options,
    /// The password of the user `superuser`.
    pub password: String,
    /// Codes of the organizations that were added through `org`.
    codes: Mutex<BTreeMap<String, String>>,
    // The order matters: the child is killed before its folder goes.
    child: Option<Killed>,
    folder: Folder,
}

impl Drop for Server {
    /// The child may be a wrapper that forked, which takes nobody along: the stepped clock's does.
    fn drop(&mut self) {
        let own = fs::read(format!("/proc/{}/cmdline", self.pid))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(self.data.to_str().unwrap()));
        if self.child.is_some() && own {
            signal(self.pid, "KILL");
        }
    }
}

impl Server {
    /// Makes a data folder and serves it.
    #[track_caller]
    pub fn start(options: Options) -> Self {
        let mut server = Self::init(options);
        server.serve();
        server
    }

    /// Makes a data folder, and starts nothing.
    #[track_caller]
    pub fn init(options: Options) -> Self {
        let folder = Folder::below(&options.parent);
        folder.write("passphrase", [&options.passphrase[..], b"\n"].concat());
        folder.write("key", strongroom::crypto::random::<32>());
        let password = hex::encode(strongroom::crypto::random::<12>());
        folder.write("password", &password);
        let server = Self {
            client_url: String::new(),
            gui_url: String::new(),
            health_url: String::new(),
            fingerprint: String::new(),
            pid: 0,
            data: folder.path().join("data"),
            options,
            password,
            codes: Mutex::default(),
            child: None,
            folder,
        };
        server.run_init().ok();
        server
    }

    /// The server of `tests/data/NAME`, of which everything is copied into the private folder: `data`,
    /// homes, secrets. Starts nothing.
    #[track_caller]
    pub fn kept(name: &str, options: Options) -> Self {
        let folder = Folder::below(&options.parent);
        let kept = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(name);
        run(Command::new("cp")
            .args(["-r", "--no-preserve=mode"])
            .arg(kept.join("."))
            .arg(folder.path()))
        .ok();
        // A checkout knows no such modes.
        run(Command::new("chmod").args(["-R", "go="]).arg(folder.path())).ok();
        Self {
            client_url: String::new(),
            gui_url: String::new(),
            health_url: String::new(),
            fingerprint: String::new(),
            pid: 0,
            data: folder.path().join("data"),
            options,
            password: fs::read_to_string(folder.path().join("password")).unwrap(),
            codes: Mutex::default(),
            child: None,
            folder,
        }
    }

    /// Runs `init` on the data folder.
    #[track_caller]
    pub fn run_init(&self) -> Output {
        run(self
            .command()
            .args(["init", "--json", "--fqdn", &self.options.fqdn])
            .arg("--data-dir")
            .arg(&self.data)
            .arg("--passphrase-file")
            .arg(self.path("passphrase"))
            .arg("--key-file")
            .arg(self.path("key"))
            .arg("--superuser-password-file")
            .arg(self.path("password")))
    }

    /// The program, with nothing of this process's environment that it listens to.
    pub fn command(&self) -> Command {
        self.clean(Command::new(&self.options.binary))
    }

    fn clean(&self, mut command: Command) -> Command {
        command
            .env_remove("STRONGROOM_DATA_DIR")
            .env_remove("STRONGROOM_HOME")
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path());
        command
    }

    /// `serve` as it is started: the process dies with the thread that starts it.
    pub fn serve_command(&self) -> Command {
        let mut command = self.clean(Command::new("setpriv"));
        command
            .args(["--pdeathsig", "KILL", "--"])
            .args(self.clock_wrapper())
            .args(&self.options.wrapper)
            .arg(&self.options.binary)
            .arg("serve")
            .arg("--data-dir")
            .arg(&self.data)
            .arg("--ready-file")
            .arg(self.path("ready.json"));
        for listener in ["--client-listen", "--gui-listen", "--health-listen"] {
            if !self.options.args.iter().any(|arg| arg == listener) {
                command.args([listener, "127.0.0.1:0"]);
            }
        }
        match self.options.opens {
            Opens::KeyFile => command.arg("--key-file").arg(self.path("key")),
            Opens::Passphrase => command
                .arg("--passphrase-file")
                .arg(self.path("passphrase")),
            Opens::Nothing => &mut command,
        };
        for (name, value) in &self.options.env {
            command.env(name, value);
        }
        command.args(&self.options.args);
        command
    }

    /// faketime reads at every look at the clock how far this one is off; timers keep their pace.
    fn clock_wrapper(&self) -> Vec<String> {
        if !self.options.stepped {
            return Vec::new();
        }
        let file = self.path("clock");
        if !file.exists() {
            fs::write(&file, "+0").unwrap();
        }
        let file = format!("FAKETIME_TIMESTAMP_FILE={}", file.display());
        let wrapper = ["faketime", "-m", "-f", "+0", "env", "-u", "FAKETIME"];
        let settings = [
            "TZ=UTC0",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            &file,
        ];
        wrapper
            .into_iter()
            .chain(settings)
            .map(str::to_owned)
            .collect()
    }

    /// Puts the server's clock off: `+2h`, `-1d`, or `@2019-05-01 00:00:00` for a point in time.
    pub fn clock(&self, offset: &str) {
        assert!(self.options.stepped, "Options::stepped()");
        let new = self.file("clock.new", offset);
        fs::rename(new, self.path("clock")).unwrap();
    }

    /// Stops the server's clock, until `clock` puts it somewhere else.
    pub fn freeze(&self) {
        let now = strongroom::clock::now().to_string();
        self.clock(&now[..19].replace('T', " "));
    }

    /// Starts `serve` and waits until it answers. Also the way back after `kill9` and `stop`.
    #[track_caller]
    pub fn serve(&mut self) {
        self.launch();
        let child = &mut self.child.as_mut().unwrap().0;
        let (ready, log) = (self.folder.path().join("ready.json"), self.folder.path());
        let ready: Value = until_some(PATIENCE, || {
            if let Some(status) = child.try_wait().unwrap() {
                let said = fs::read_to_string(log.join("stderr")).unwrap_or_default();
                panic!("serve ended with {status}: {said}");
            }
            serde_json::from_slice(&fs::read(&ready).ok()?).ok()
        });
        let field = |name: &str| ready[name].as_str().unwrap().to_owned();
        self.client_url = field("client_url");
        self.gui_url = ready["gui_url"].as_str().unwrap_or_default().to_owned();
        self.health_url = field("health_url");
        self.fingerprint = field("server_fingerprint");
        self.pid = u32::try_from(ready["pid"].as_u64().unwrap()).unwrap();
    }

    /// Starts `serve` and waits for nothing.
    #[track_caller]
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let _ = fs::remove_file(self.path("ready.json"));
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path("stderr"))
            .unwrap();
        let child = self
            .serve_command()
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("setpriv: {error} (package util-linux)"));
        self.child = Some(Killed(child));
    }

    /// Runs `serve` to its end, which must be a refusal to start.
    #[track_caller]
    pub fn serve_fails(&self) -> Output {
        let _ = fs::remove_file(self.path("ready.json"));
        let (out, err) = (self.path("refused-out"), self.path("refused-err"));
        let mut command = self.serve_command();
        let started = command
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn();
        let mut child = Killed(started.unwrap());
        let ready = self.path("ready.json");
        let status = until_some(PATIENCE, || {
            assert!(
                !ready.exists(),
                "it started: {}",
                fs::read_to_string(&err).unwrap()
            );
            child.0.try_wait().unwrap()
        });
        Output {
            status: status.code().unwrap_or(-1),
            stdout: fs::read(out).unwrap(),
            stderr: String::from_utf8_lossy(&fs::read(err).unwrap()).into_owned(),
            command: format!("{command:?}"),
        }
    }

    /// As when the plug is pulled, but for what the kernel had not yet written.
    #[track_caller]
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it does not run");
        signal(self.pid, "KILL");
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        // Behind a stepped clock the server is a child's child, and holds the folder until it is gone.
        let stat = format!("/proc/{}/stat", self.pid);
        until(PATIENCE, || match fs::read_to_string(&stat) {
            Err(_) => true,
            Ok(stat) => stat
                .rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])),
        });
    }

    /// Kills what `launch` started, however far it came.
    #[track_caller]
    pub fn kill_starting(&mut self) {
        let mut child = self.child.take().expect("it does not run");
        child.0.kill().unwrap();
        child.0.wait().unwrap();
    }

    /// Stops it in its own order.
    #[track_caller]
    pub fn stop(&mut self) {
        assert!(signal(self.pid, "TERM"));
        assert_eq!(self.ended(), Some(0), "{}", self.log());
    }

    /// Waits for its end; the exit code, or none if a signal ended it.
    #[track_caller]
    pub fn ended(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("it does not run");
        until_some(PATIENCE, || child.0.try_wait().unwrap()).code()
    }

    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.serve();
    }

    pub fn signal(&self, name: &str) {
        assert!(signal(self.pid, name));
    }

    /// All that it wrote to standard output and standard error, at every start.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.path("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the log says this.
    #[track_caller]
    pub fn logs(&self, part: &str) {
        until(PATIENCE, || self.log().contains(part));
    }

    /// A path in the private folder, beside the data folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new file in the private folder.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        self.folder.write(name, bytes)
    }

    /// A command over the admin socket.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> Output {
        self.cli_with(args, b"")
    }

    /// A command over the admin socket, with this on its standard input.
    #[track_caller]
    pub fn cli_with(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut command = self.command();
        run_with(command.arg("--data-dir").arg(&self.data).args(args), stdin)
    }

    /// A command over the admin socket that has to end well; its JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        self.cli(&[&["--json"], args].concat()).ok().json()
    }

    /// Adds an organization, if it was not there; its registration code.
    #[track_caller]
    pub fn org(&self, name: &str) -> String {
        let mut codes = self.codes.lock().unwrap();
        if let Some(code) = codes.get(name) {
            return code.clone();
        }
        let added = self.json(&["org", "add", name]);
        let code = added["auth_code"].as_str().unwrap().to_owned();
        codes.insert(name.to_owned(), code.clone());
        code
    }

    /// A client that is registered and active.
    #[track_caller]
    pub fn client(&self, name: &str, org: &str) -> Client {
        let code = self.org(org);
        let client = self.stranger(name, org);
        client.register(Some(&code)).ok();
        client
    }

    /// A client that has done nothing yet.
    pub fn stranger(&self, name: &str, org: &str) -> Client {
        self.at_home(&format!("home-{name}"), org)
    }

    /// The client in a home of the private folder.
    pub fn at_home(&self, home: &str, org: &str) -> Client {
        Client {
            home: self.path(home),
            org: org.to_owned(),
            server: self.client_url.clone(),
            server_fingerprint: self.fingerprint.clone(),
            ca: self.ca(),
            folder: self.folder.path().to_owned(),
            binary: self.options.binary.clone(),
        }
    }

    /// Adds a user with these roles, as `auditor` or `key_operator:acme`.
    #[track_caller]
    pub fn user(&self, name: &str, password: &str, roles: &[&str]) {
        let mut args = vec!["user", "add", name, "--password-file", "-"];
        args.extend(roles.iter().flat_map(|role| ["--role", role]));
        self.cli_with(&args, password.as_bytes()).ok();
    }

    /// An API token of a user.
    #[track_caller]
    pub fn token(&self, user: &str, scopes: &[&str]) -> String {
        let mut args = vec!["token", "add", "--label", "test", "--user", user];
        for scope in scopes {
            args.extend(["--scope", scope]);
        }
        let added = self.json(&args);
        added["secret"]
            .as_str()
            .unwrap_or_else(|| panic!("{added}"))
            .to_owned()
    }

    /// The certificate that curl trusts.
    pub fn ca(&self) -> PathBuf {
        let path = self.path("ca.pem");
        if !path.exists() {
            let mut socket = wire::Connection::unix(&self.data.join("run/admin.sock"));
            let pem = socket.get("/v1/server/ca.pem").ok(200).body;
            // Whole or absent, for several threads may ask at once.
            let beside = self.path(&format!("ca-{:?}.new", std::thread::current().id()));
            fs::write(&beside, pem).unwrap();
            fs::rename(beside, &path).unwrap();
        }
        path
    }

    /// curl, to 8443 or to 11371, without a certificate.
    pub fn curl(&self, url: &str) -> Curl {
        Curl::new(self.folder.path(), &self.ca(), url)
    }

    /// A connection to a listener's URL, without a certificate.
    pub fn wire(&self, url: &str) -> wire::Connection {
        wire::Connection::tls(url, &self.ca(), None)
    }

    /// What a listener on the health port says.
    pub fn health(&self, path: &str) -> wire::Answer {
        wire::Connection::plain(&self.health_url).get(path)
    }

    pub fn socket(&self) -> wire::Connection {
        wire::Connection::unix(&self.data.join("run/admin.sock"))
    }

    /// Puts the data folder somewhere else; the server must not run.
    #[track_caller]
    pub fn move_data(&mut self, name: &str) {
        assert!(self.child.is_none(), "it runs");
        let to = self.path(name);
        fs::rename(&self.data, &to).unwrap();
        self.data = to;
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.0.try_wait(), Ok(None)))
    }
}

/// An open file of a server's log, to follow it.
pub fn log_file(server: &Server) -> File {
    File::open(server.path("stderr")).unwrap()
}
