//! The command line: `strongroom NOUN VERB [NAME] [--options]`. Parsing has no side effects; a
//! command is a client of the server, or works on a folder or file that no server holds.

pub(crate) mod bundle;
pub(crate) mod cache;
mod client;
mod compat;
mod config;
pub(crate) mod config_import;
mod connect;
mod doctor;
mod door;
mod feed;
mod files;
pub mod gpg_keyring;
pub(crate) mod home;
pub(crate) mod host_import;
mod init;
mod links;
mod noun;
mod print;
mod refusal;
mod restore;
mod rollback;
mod sent;
mod serve;
mod service;
mod shell;
mod span;

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use self::door::Global;
pub use self::print::Printer;

use self::door::Context;
use crate::error::{Error, Result};
use crate::os;

/// A key manager in one executable
#[derive(Parser, Debug)]
#[command(
    name = "strongroom",
    version,
    after_long_help = DOORS,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    noun: Noun,
}

const DOORS: &str = "\
Which server a command speaks to, and as whom:
  1. --server URL: HTTPS to that server; with --token-file as the token's user, else as the client
     in --home. Not together with --data-dir.
  2. --socket FILE, --data-dir DIR, or `deposit … --org NAME`: that admin socket, or
     DIR/run/admin.sock, as whom the kernel says you are (root and the server's own account are
     superuser).
  3. `deposit …` and `client show`, when --home is given or holds a registered client: HTTPS to the
     server that it registered with, as that client.
  4. Anything else: the admin socket that STRONGROOM_SOCKET names, else that of
     STRONGROOM_DATA_DIR, else of /var/lib/strongroom if it exists, else of ./strongroom-data.

Secrets are never arguments: `--…-file FILE` names a file, and `-` is stdin.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 sealed or unavailable, 4 not found, 5 refused (rights,
policy, conflict).";

#[derive(Subcommand, Debug)]
enum Noun {
    /// Make a data folder: keys, store, the server's identity, the first superuser
    ///
    /// The folder is --data-dir; it must not hold a server yet. The password of the user `superuser`
    /// is printed once, unless --superuser-password-file gives it.
    Init(init::Args),
    /// Run the server on a data folder, until SIGTERM or Ctrl-C
    ///
    /// A slot's secret opens the folder: what an option names, else a credential that systemd hands over,
    /// else what is typed on the terminal. Without any the server is sealed until `unseal`. The addresses default to those in strongroom.toml; port 0 takes a free port.
    Serve(serve::Args),
    /// Show the server's state, health, addresses and counts
    Status,
    /// Check a data folder: modes, space, clock, slots, schema, certificate, ports
    ///
    /// Each line is `ok`, `look` (works, and deserves a look) or `FAILED`; exit 1 if any failed. The
    /// store, its schema and the certificate are checked only while no server runs on the folder, and
    /// with a slot's secret.
    Doctor(doctor::Args),
    /// Go back to the store of before an upgrade, so that the program of before opens it
    ///
    /// Before a new program changes the store's schema it makes a copy of the store; this puts the copy in
    /// its place, and keeps what it replaces. Says what is lost, and asks. No server may run on the folder.
    Rollback(rollback::Args),
    /// Make a server of a backup, or put a backup in the place of what a folder holds
    ///
    /// Everything is unpacked and checked first, beside what is there; then it takes its place in one step, and
    /// what it replaces is kept as live.prev-TIME, the newest two. A backup needs the identity that it is encrypted
    /// to, and what opens one of its server's slots; a recovery slot's identity is enough alone. One that holds its root key
    /// gets a new slot from --passphrase-file or --key-file. No server may run on the folder.
    Restore(restore::Args),
    /// Check, print or change strongroom.toml: what is needed before the store opens
    #[command(subcommand)]
    Config(config::Verb),
    /// Start and stop the server in the background, or by systemd where its unit is installed
    #[command(subcommand)]
    Service(service::Verb),
    /// Settings, kept in the store; a change takes effect at once
    #[command(subcommand)]
    Setting(noun::setting::Verb),
    /// Close the store and forget the keys, until `unseal`
    Seal,
    /// Open a sealed server with what opens one of its slots
    Unseal(noun::seal::Args),
    /// Slots of seal.json: the secrets that open the server
    #[command(subcommand)]
    Slot(noun::slot::Verb),
    /// The root key, under which all other keys lie
    #[command(subcommand)]
    Root(noun::root::Verb),
    /// The certificates that the listeners show
    #[command(subcommand)]
    Tls(noun::tls::Verb),
    /// Organizations: who may register, and how
    #[command(subcommand)]
    Org(noun::org::Verb),
    /// Clients: machines that store deposits
    #[command(subcommand)]
    Client(noun::client::Verb),
    /// Deposits: secrets under a name, in versions
    #[command(subcommand)]
    Deposit(noun::deposit::Verb),
    /// Users of the API and the GUI
    #[command(subcommand)]
    User(noun::user::Verb),
    /// Roles that users may have
    #[command(subcommand)]
    Role(noun::role::Verb),
    /// API tokens: secrets for programs, with scopes and an end
    #[command(subcommand)]
    Token(noun::token::Verb),
    /// Recipients: to whom backups are encrypted (age, SSH and OpenPGP keys)
    #[command(subcommand)]
    Recipient(noun::recipient::Verb),
    /// The audit log: who did what, and whether the log is whole
    #[command(subcommand)]
    Audit(noun::audit::Verb),
    /// Backups: taken while it serves, encrypted, and each one proven to open
    #[command(subcommand)]
    Backup(noun::backup::Verb),
    /// Jobs: work that goes on behind a command, such as making a key anew
    #[command(subcommand)]
    Job(noun::job::Verb),
    /// Schedules: when which kind of job is made
    #[command(subcommand)]
    Schedule(noun::schedule::Verb),
    /// Hosts: machines that are reached over SSH
    #[command(subcommand)]
    Host(noun::host::Verb),
    /// Groups of hosts, and what holds for all in them
    #[command(subcommand)]
    HostGroup(noun::host_group::Verb),
    /// Let no further job begin, wait for those that run, and report
    Drain(noun::job::DrainArgs),
    /// Let jobs begin again after `drain`
    Resume,
    /// Make links by which old commands are found, such as keytrustee-orgtool
    ///
    /// Nothing that this program did not make is replaced; what it made is brought up to date.
    InstallLinks(links::Args),
    /// Run an old command without a link: `as keytrustee-orgtool list`
    As(compat::Args),
    /// Print completions for a shell, such as bash
    Completions(shell::Completions),
    /// Write the manual pages into a folder
    Man(shell::Man),
}

/// Runs one command; the process ends with what this returns.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(old) = compat::called_as(args.first()) {
        return old.call(args, Global::default());
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return print::usage(&error),
    };
    let context = context(cli.global);
    match cli.noun {
        Noun::As(args) => compat::named(args, context.global.clone())
            .unwrap_or_else(|error| print::finish(Err(error), &context.out)),
        noun => perform(&context, |context| run(noun, context)),
    }
}

fn context(global: Global) -> Context {
    let out = Printer {
        json: global.json,
        quiet: global.quiet,
        yes: global.yes,
        verbose: global.verbose,
        terminal: Printer::is_terminal(),
        csv: false,
    };
    Context { global, out }
}

fn perform(context: &Context, command: impl FnOnce(&Context) -> Result<()>) -> ExitCode {
    print::finish(harden().and_then(|()| command(context)), &context.out)
}

/// Every command has secrets in memory: no core dumps, no tracing, files for nobody else.
fn harden() -> Result<()> {
    os::pin_name_service();
    os::harden().map_err(|error| {
        Error::unavailable(
            "not_hardened",
            format!("core dumps and tracing cannot be turned off: {error}"),
        )
    })
}

fn run(noun: Noun, context: &Context) -> Result<()> {
    match noun {
        Noun::Init(args) => init::run(args, &context.global, &context.out),
        Noun::Serve(args) => serve::run(args, &context.global, &context.out),
        Noun::Status => online(noun::status::run(context)),
        Noun::Doctor(args) => doctor::run(args, &context.global, &context.out),
        Noun::Rollback(args) => rollback::run(args, &context.global, &context.out),
        Noun::Restore(args) => restore::run(args, &context.global, &context.out),
        Noun::Config(verb) => config::run(verb, context),
        Noun::Setting(verb) => online(noun::setting::run(verb, context)),
        Noun::Seal => online(noun::seal::seal(context)),
        Noun::Unseal(args) => online(noun::seal::unseal(args, context)),
        Noun::Root(verb) => online(noun::root::run(verb, context)),
        Noun::Slot(verb) => online(noun::slot::run(verb, context)),
        Noun::Tls(verb) => online(noun::tls::run(verb, context)),
        Noun::Org(verb) => online(noun::org::run(verb, context)),
        Noun::Client(verb) => online(noun::client::run(verb, context)),
        Noun::Deposit(verb) => online(noun::deposit::run(verb, context)),
        Noun::User(verb) => online(noun::user::run(verb, context)),
        Noun::Role(verb) => online(noun::role::run(verb, context)),
        Noun::Token(verb) => online(noun::token::run(verb, context)),
        Noun::Recipient(verb) => online(noun::recipient::run(verb, context)),
        Noun::Audit(verb) => online(noun::audit::run(verb, context)),
        Noun::Backup(verb) => online(noun::backup::run(verb, context)),
        Noun::Job(verb) => online(noun::job::run(verb, context)),
        Noun::Schedule(verb) => online(noun::schedule::run(verb, context)),
        Noun::Host(verb) => online(noun::host::run(verb, context)),
        Noun::HostGroup(verb) => online(noun::host_group::run(verb, context)),
        Noun::Drain(args) => online(noun::job::drain(args, context)),
        Noun::Resume => online(noun::job::resume(context)),
        Noun::Service(verb) => service::run(verb, &context.global, &context.out),
        Noun::InstallLinks(args) => links::run(args, &context.out),
        // Parsed and run in `main`, since it has a line of its own.
        Noun::As(_) => Ok(()),
        Noun::Completions(args) => shell::completions(args, &context.out),
        Noun::Man(args) => shell::man(args, &context.out),
    }
}

/// A command that speaks to a server needs one thread.
fn online(command: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal("no runtime").because(error))?;
    let result = runtime.block_on(command);
    // A name that is still being looked up must not hold the program.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> std::result::Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("strongroom").chain(line.split_whitespace()))
    }

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn pinned_spellings_parse() {
        let hex = "ab".repeat(32);
        for line in [
            "init --data-dir D --fqdn h --passphrase-file F --superuser-password-file F --key-file F",
            "serve --data-dir D --client-listen 127.0.0.1:0 --gui-listen 127.0.0.1:0 --health-listen 127.0.0.1:0 --passphrase-file F --ready-file F",
            "--json status --data-dir D",
            "doctor --passphrase-file F",
            "rollback --key-file F --yes",
            "restore B --identity I --passphrase-file F --as new --fqdn h --yes",
            "restore - --age-passphrase-file P --slot-identity I --slot 018f3b5e-5b6a-7c3d-8e9f-0123456789ab --as clone",
            "config check",
            "config show",
            "config import /var/lib/keytrustee/.keytrustee/keytrustee.conf --other-name --dry-run",
            "setting list",
            "setting get log.level",
            "setting set log.level debug --reason x",
            "config set roles.frontend false",
            "service start --passphrase-file P",
            "service stop",
            "service restart",
            "service status",
            "service tail -n 5",
            "install-links D --original-paths --services --supervisorctl --root R",
            "as keytrustee-orgtool set-auth -n x -s y",
            "as ssh-mgr-setup --fqdn x",
            "as ssh-mgr-client -F x --help",
            "seal",
            "unseal --passphrase-file P",
            "unseal --slot-identity F --slot 018f3b5e-5b6a-7c3d-8e9f-0123456789ab --accept-old-seal",
            "serve --sealed",
            "root rotate --passphrase-file P --key-file K --key-file L --slot-identity I",
            "slot list",
            "slot add passphrase --label L --secret-file F --key-file K",
            "slot add key-file --label L --secret-file F --passphrase-file P",
            "slot test 018f3b5e-5b6a-7c3d-8e9f-0123456789ab --passphrase-file P",
            "slot replace 018f3b5e-5b6a-7c3d-8e9f-0123456789ab --secret-file F --key-file K",
            "slot remove 018f3b5e-5b6a-7c3d-8e9f-0123456789ab --key-file K",
            "tls show",
            "tls csr --new-key --name a.example.com",
            "tls self-signed --days 365",
            "tls install --gui --cert F --key F --chain F --key-password-file F --client-ca F --verify-depth 3",
            "tls install --client-ca F --verify-depth 3",
            "tls rollback",
            "org add acme --contacts a@x,b@y",
            "org list",
            "org show acme",
            "org rm acme --yes",
            "org set-auth acme --secret-file -",
            "org key acme",
            "org rotate-key acme --wait",
            "org add acme --expires +365d",
            "org contact add acme root@kts01",
            "org contact rm acme root@kts01",
            "org set-expiry acme 2030-01-01T00:00:00Z",
            "org set-expiry acme --never",
            "org recovery-recipient acme age1x",
            "org recovery-recipient acme --remove",
            &format!(
                "client register --server https://h:1 --org acme --auth-file F --server-fingerprint {hex} --home H --cache 7d"
            ),
            "client backup --output F --recipient age1x",
            "client restore F --home H --identity I",
            "client set-cache 7d --home H",
            "client set-cache off",
            "client list -F state=pending",
            "client show",
            &format!("client show {hex}"),
            &format!("client approve {hex}"),
            &format!("client deny {hex} --reason no"),
            &format!("client enable {hex}"),
            &format!("client disable {hex}"),
            &format!("client rm {hex} --yes"),
            "deposit put a - --raw --label k=v --label l=w --description T --content-type t/x --if-version 0",
            "deposit get a --version 3 -o -",
            "deposit get 018f3b5e-5b6a-7c3d-8e9f-0123456789ab",
            "deposit list --prefix p --label k=v -F size>1 --limit 5 --org acme",
            "deposit show a",
            "deposit edit a --description x",
            "deposit put a F --not-before +1h --expires 2027-01-01T00:00:00Z --max-retrievals 3",
            "deposit put a F --single-use",
            "deposit edit a --not-before none --expires none --max-retrievals none",
            "deposit grant a",
            &format!("deposit share a --with {hex} --recipient age1x"),
            "deposit share a --with web-servers --org acme",
            &format!("deposit unshare a --with {hex}"),
            "deposit readers a",
            "deposit watch --after 7",
            "deposit export -o F --recipient age1x --prefix p -F size>1 --org acme",
            "deposit list --shared",
            "client group add web-servers --org acme",
            "client group rm web-servers --org acme",
            "client group list --org acme",
            "client group show web-servers --org acme",
            &format!("client group add-member web-servers {hex} --org acme"),
            &format!("client group remove-member web-servers {hex} --org acme"),
            "deposit grant a 5",
            "job list -F state=running --org acme",
            "job show 018f3b5e-5b6a-7c3d-8e9f-0123456789ab",
            "job watch 018f3b5e-5b6a-7c3d-8e9f-0123456789ab",
            "job cancel 018f3b5e-5b6a-7c3d-8e9f-0123456789ab",
            "job retry 018f3b5e-5b6a-7c3d-8e9f-0123456789ab",
            "job release 018f3b5e-5b6a-7c3d-8e9f-0123456789ab",
            "drain --all",
            "resume",
            "schedule list",
            "schedule show a",
            "schedule add a --cron @hourly --tz Europe/Berlin --kind pruning",
            "schedule edit a --cron @daily --tz UTC",
            "schedule rm a --yes",
            "schedule pause a",
            "schedule resume a",
            "schedule run a --wait",
            "host add a --address 10.0.0.1 --port 2222 --account ops --sudo --jump b,c --group emea/prod --label k=v",
            "host add a --no-sudo --direct --any-time",
            "host import F --format ansible --group g --update --dry-run",
            "host list -F group^emea/",
            "host show a",
            "host edit a --address b --group g --label k=v --remove-label l --inherit port --inherit jump",
            "host edit a --no-group --jump b --jump c",
            "host rm a --yes",
            "host-group add emea/prod --port 22",
            "host-group list",
            "host-group show emea",
            "host-group edit emea --account ops --inherit windows",
            "host-group rm emea --yes",
            "deposit versions a",
            "deposit rm a",
            "deposit undelete a",
            "deposit purge a --yes",
            "user add u --password-file F --role administrator --role key_operator:acme",
            "user list",
            "user show u",
            "user disable u",
            "user enable u",
            "user rm u",
            "user set-password u --password-file -",
            "user totp enroll u",
            "user totp confirm u --code-file -",
            "user totp remove u",
            "user reset u --clear-second-factor",
            "user grant u auditor",
            "user revoke u auditor:acme",
            "role list",
            "token add --label ci --scope read --scope metrics --expires +90d --user u",
            "token list",
            "token rm 018f3b5e-5b6a-7c3d-8e9f-0123456789ab",
            "recipient add age1x --label ops",
            "recipient add ssh-ed25519 AAAA ops@example.com",
            "recipient add F",
            "recipient import F.pub",
            "recipient import --from-gpg ops@example.com",
            "recipient list -F kind=openpgp",
            "recipient rm 018f3b5e-5b6a-7c3d-8e9f-0123456789ab",
            "audit list -F action=deposit.get -F outcome=refused",
            "audit verify",
            "audit export",
            "completions bash",
            "man D",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn every_command_and_argument_has_its_help() {
        fn look(command: &clap::Command, path: &str, silent: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            if command.get_about().is_none() {
                silent.push(path.clone());
            }
            for argument in command.get_arguments() {
                if argument.get_help().is_none() {
                    silent.push(format!("{path} {}", argument.get_id()));
                }
            }
            for verb in command.get_subcommands() {
                look(verb, &path, silent);
            }
        }
        let mut silent = Vec::new();
        look(&Cli::command(), "", &mut silent);
        assert_eq!(silent, Vec::<String>::new());
    }

    #[test]
    fn wrong_words_are_wrong_use() {
        for line in [
            "deposit put ä F",
            "deposit rm ../x",
            "client approve xyz",
            "user add u",
            "user grant u king",
            "org recovery-recipient acme",
            "token add --label x",
            "deposit list --label x",
            "recipient add",
            "recipient import",
            "recipient import F --from-gpg x",
            "deposit put a F --max-retrievals 0",
            "deposit put a F --max-retrievals 9223372036854775808",
            "deposit put a F --single-use --max-retrievals 2",
            "deposit grant a 0",
            "client set-cache",
            "client set-cache 0d",
            "client set-cache 7",
            "nonsense",
        ] {
            let error = parse(line).err().unwrap();
            assert!(error.use_stderr(), "{line}");
        }
        assert_eq!(
            parse("--help").err().unwrap().kind(),
            ErrorKind::DisplayHelp
        );
    }
}
