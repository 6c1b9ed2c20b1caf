//! `strongroom user certificate`.

use std::path::PathBuf;

use hyper::Method;

use crate::api::user_certificate::{AddUserCertificate, UserCertificate, UserCertificates};
use crate::cli::client::Call;
use crate::cli::door::Context;
use crate::cli::files;
use crate::crypto::x509;
use crate::error::{Error, Result};
use crate::model::id::Fingerprint;
use crate::model::user::UserName;

const MOST: u64 = 64 << 10;

#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Let a user come with a certificate, on the clients' listener
    ///
    /// It must also chain to the authority that `tls install --client-ca` set.
    Add {
        /// The user's name
        name: UserName,
        /// The certificate, PEM or DER (`-`: stdin)
        file: PathBuf,
    },
    /// The certificates of a user
    List {
        /// The user's name
        name: UserName,
    },
    /// Let a certificate's key in no more
    Rm {
        /// The user's name
        name: UserName,
        /// As `list` shows it
        fingerprint: Fingerprint,
    },
}

pub async fn run(verb: Verb, context: &Context) -> Result<()> {
    let (mut client, out) = (context.admin()?, &context.out);
    match verb {
        Verb::Add { name, file } => {
            let bytes = files::read(&file, MOST)?;
            let certificate = match x509::inspect(bytes.expose()) {
                Ok(_) => x509::chain_pem(std::slice::from_ref(bytes.expose())),
                Err(_) => String::from_utf8(bytes.expose().clone()).map_err(|_| {
                    Error::invalid("certificate", format!("{} is not PEM", file.display()))
                })?,
            };
            let call = Call::new(Method::POST, format!("/v1/users/{name}/certificates"));
            let added: UserCertificate = client
                .json(call.json(&AddUserCertificate { certificate })?)
                .await?;
            out.talk(&format!(
                "{name} may come with the certificate of {}",
                added.subject
            ));
            out.document(&added).map(|_| ())
        }
        Verb::List { name } => {
            let listed: UserCertificates = client
                .json(Call::get(format!("/v1/users/{name}/certificates")))
                .await?;
            let columns = &["fingerprint", "subject", "ends", "added"];
            out.table(&listed, &listed.certificates, columns, |out, it| {
                vec![
                    it.fingerprint.to_string(),
                    it.subject.clone(),
                    out.time(it.not_after),
                    out.time(it.added),
                ]
            })
        }
        Verb::Rm { name, fingerprint } => {
            let path = format!("/v1/users/{name}/certificates/{fingerprint}");
            client.send(Call::new(Method::DELETE, path)).await?;
            out.talk(&format!("{name} comes with that key no more"));
            Ok(())
        }
    }
}
