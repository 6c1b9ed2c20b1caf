//! `strongroom tls`.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;

use crate::api::tls::{
    Certificate, Install, InstalledCertificate, NewRequest, SelfSign, SetClientCa, SigningRequest,
    Tls,
};
use crate::cli::client::{Call, Client};
use crate::cli::door::Context;
use crate::cli::files;
use crate::cli::print::Printer;
use crate::crypto::x509;
use crate::error::{Error, Result};

const MOST: u64 = 256 << 10;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// What the listeners show, until when, and how they speak TLS
    Show,
    /// Print a signing request for a certificate authority
    ///
    /// Its key stays on the server until `tls install` brings a certificate for it.
    Csr {
        /// For a key made now; else for the key in use
        #[arg(long)]
        new_key: bool,
        /// A host name or address beside the server's own; may be given several times
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show a certificate that signs itself, with a key made now
    SelfSigned {
        /// How long it is valid: 1 to 3650
        #[arg(long, value_name = "N")]
        days: u32,
        /// A host name or address beside the server's own; may be given several times
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show a certificate of your own, or set whose certificates API users may come with
    ///
    /// It serves the GUI's listener from the next connection on; the clients' listener, too, if the
    /// setting tls.client_listener is `installed`. Certificates may come in any order and in any of the
    /// files.
    Install(InstallArgs),
    /// Show what was shown before; once more, and forth again
    Rollback,
}

#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("what").args(["cert", "client_ca", "no_client_ca"]).required(true).multiple(true))]
pub struct InstallArgs {
    /// For the GUI's listener, as always; accepted so that it can be said
    #[arg(long)]
    gui: bool,
    /// The certificate: PEM, DER, or PKCS#12 with its key
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its private key, PEM; without it the key of the last `tls csr`, or the one in use
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The certificates above it, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    chain: Option<PathBuf>,
    /// The password of the key or of the PKCS#12 file (`-`: stdin)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key_password_file: Option<PathBuf>,
    /// Take a certificate that is not for this server's own name
    #[arg(long, requires = "cert")]
    other_name: bool,
    /// Whose certificates API users may come with: roots, authorities below them, lists of revoked
    /// certificates, PEM
    #[arg(long, value_name = "FILE", requires = "verify_depth")]
    client_ca: Option<PathBuf>,
    /// How many authorities may stand between a user's certificate and its root: 0 to 6
    #[arg(long, value_name = "N", requires = "client_ca")]
    verify_depth: Option<u8>,
    /// API users come without certificates from now on
    #[arg(long, conflicts_with = "client_ca")]
    no_client_ca: bool,
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let out = &context.out;
    match verb {
        Verb::Show => {
            let tls: Tls = context.admin()?.json(Call::get("/v1/tls")).await?;
            out.record(&tls, &fields(out, &tls))
        }
        Verb::Csr { new_key, names } => {
            let call =
                Call::new(Method::POST, "/v1/tls/csr").json(&NewRequest { new_key, names })?;
            let request: SigningRequest = context.admin()?.json(call).await?;
            if out.document(&request)? {
                return Ok(());
            }
            out.talk("send this to a certificate authority; `strongroom tls install --cert F` takes what it answers");
            out.bytes(request.request.as_bytes(), true)
        }
        Verb::SelfSigned { days, names } => {
            let call =
                Call::new(Method::POST, "/v1/tls/self-signed").json(&SelfSign { days, names })?;
            let installed: InstalledCertificate = context.admin()?.json(call).await?;
            said(out, &installed)
        }
        Verb::Install(args) => install(args, context).await,
        Verb::Rollback => {
            let call = Call::new(Method::POST, "/v1/tls/rollback");
            let tls: Tls = context.admin()?.json(call).await?;
            tell(out, &tls);
            out.document(&tls).map(|_| ())
        }
    }
}

async fn install(args: InstallArgs, context: &Context) -> Result<()> {
    let out = &context.out;
    // Everything is read before anything is changed.
    let certificate = args.cert.as_deref().map(|cert| asked(cert, &args));
    let certificate = certificate.transpose()?;
    let client_ca = match (&args.client_ca, args.verify_depth) {
        (Some(path), Some(verify_depth)) => Some(SetClientCa {
            certificates: text(path)?,
            verify_depth,
        }),
        _ => None,
    };
    let mut client: Client = context.admin()?;
    if let Some(request) = client_ca {
        let call = Call::new(Method::PUT, "/v1/tls/client-ca").json(&request)?;
        let tls: Tls = client.json(call).await?;
        out.talk(
            "certificates of this authority count from now on, for users that they are entered at",
        );
        if certificate.is_none() {
            return out.document(&tls).map(|_| ());
        }
    }
    if args.no_client_ca {
        let tls: Tls = client
            .json(Call::new(Method::DELETE, "/v1/tls/client-ca"))
            .await?;
        out.talk("no certificate counts for a user any more");
        if certificate.is_none() {
            return out.document(&tls).map(|_| ());
        }
    }
    let Some(request) = certificate else {
        return Ok(());
    };
    let call = Call::new(Method::PUT, "/v1/tls/certificate").json(&request)?;
    let installed: InstalledCertificate = client.json(call).await?;
    said(out, &installed)
}

fn asked(cert: &Path, args: &InstallArgs) -> Result<Install> {
    let bytes = files::read(cert, MOST)?;
    let (certificate, pkcs12) = match bytes.expose().first() {
        Some(0x30) if x509::inspect(bytes.expose()).is_ok() => {
            (Some(x509::chain_pem(&[bytes.expose().clone()])), None)
        }
        Some(0x30) => (None, Some(STANDARD.encode(bytes.expose()))),
        _ => (Some(text(cert)?), None),
    };
    let password = args.key_password_file.as_deref();
    let password = password.map(files::read_secret).transpose()?;
    Ok(Install {
        certificate,
        chain: args.chain.as_deref().map(text).transpose()?,
        key: args.key.as_deref().map(text).transpose()?,
        pkcs12,
        key_password: password.map(|it| it.expose().clone()),
        other_name: args.other_name,
    })
}

fn text(path: &Path) -> Result<String> {
    let bytes = files::read(path, MOST)?;
    String::from_utf8(bytes.expose().clone())
        .map_err(|_| Error::invalid("certificate", format!("{} is not PEM", path.display())))
}

pub fn said(out: &Printer, installed: &InstalledCertificate) -> Result<()> {
    for subject in &installed.left_out {
        out.talk(&format!(
            "{subject} does not belong to the chain, and was left out"
        ));
    }
    tell(out, &installed.tls);
    out.document(installed).map(|_| ())
}

fn tell(out: &Printer, tls: &Tls) {
    for (name, shown) in [("GUI's", &tls.gui), ("clients'", &tls.client)] {
        let it = &shown.certificate;
        out.talk(&format!(
            "the {name} listener shows {} until {}, SHA-256 {}",
            it.subject,
            out.time(it.not_after),
            it.sha256
        ));
    }
}

fn fields(out: &Printer, tls: &Tls) -> Vec<(&'static str, String)> {
    let whose = |installed| match installed {
        true => "installed",
        false => "the server's own; it renews itself",
    };
    let line = |it: &Certificate| {
        format!(
            "{} by {}, {} to {}, SHA-256 {}",
            it.subject,
            it.issuer,
            out.time(it.not_before),
            out.time(it.not_after),
            it.sha256
        )
    };
    let mut fields = vec![
        ("clients' listener", whose(tls.client.installed).to_owned()),
        ("", line(&tls.client.certificate)),
        ("GUI's listener", whose(tls.gui.installed).to_owned()),
        ("", line(&tls.gui.certificate)),
        ("minimum version", tls.minimum_version.clone()),
        (
            "ciphers",
            match tls.ciphers.as_str() {
                "" => "all".to_owned(),
                some => some.to_owned(),
            },
        ),
    ];
    match &tls.client_ca {
        None => fields.push(("API users' authority", "none".to_owned())),
        Some(authority) => {
            let depth = format!("depth {}", authority.verify_depth);
            fields.push(("API users' authority", depth));
            fields.extend(authority.certificates.iter().map(|it| ("", line(it))));
        }
    }
    if let Some(fault) = &tls.fault {
        fields.push(("fault", fault.clone()));
    }
    fields
}
