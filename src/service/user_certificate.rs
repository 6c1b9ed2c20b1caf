//! Certificates by which API users come: entered at a user here, and chaining to the operator's
//! authority (`service/tls`). Neither alone is enough.

use super::access::{Action, Target};
use super::caller::{Context, Credentials, Identity};
use super::{Service, object};
use crate::api::user_certificate::{AddUserCertificate, UserCertificate, UserCertificates};
use crate::clock::{self, Timestamp};
use crate::crypto::x509;
use crate::error::{Error, Kind, Result};
use crate::model::id::Fingerprint;
use crate::model::user::UserName;
use crate::store::UserCertificateRow;

const MOST_CERTIFICATE: usize = 16 << 10;

fn view(row: &UserCertificateRow) -> Result<UserCertificate> {
    let info = x509::inspect(&row.certificate)?;
    Ok(UserCertificate {
        fingerprint: row.fingerprint,
        subject: info.subject,
        not_after: info.not_after,
        added: row.added,
    })
}

impl Service {
    pub async fn user_certificate_list(
        &self,
        ctx: &Context,
        name: &UserName,
    ) -> Result<UserCertificates> {
        let user = object("user", name, name);
        let verb = "user_certificate.list";
        self.allow(ctx, Action::UserRead, &Target::Server, verb, user)?;
        let rows = self
            .store
            .user_certificates(self.store.user(name)?.user.id)?;
        Ok(UserCertificates {
            certificates: rows.iter().map(view).collect::<Result<_>>()?,
        })
    }

    /// Whoever holds its key comes as this user, so it takes what setting his password takes.
    pub async fn user_certificate_add(
        &self,
        ctx: &Context,
        name: &UserName,
        request: AddUserCertificate,
    ) -> Result<UserCertificate> {
        const VERB: &str = "user_certificate.add";
        let grants = self.may_change_known(ctx, name, VERB)?;
        self.may_give(ctx, name, &grants, VERB)?;
        let chain = x509::parse_certificate_pem(request.certificate.as_bytes())?;
        let certificate = chain.into_iter().next().unwrap_or_default();
        if certificate.len() > MOST_CERTIFICATE {
            return Err(Error::invalid(
                "certificate",
                format!("the certificate is longer than {MOST_CERTIFICATE} bytes"),
            ));
        }
        x509::check_chainable(&certificate)?;
        let row = UserCertificateRow {
            fingerprint: x509::spki_fingerprint(&certificate)?,
            certificate,
            added: clock::now(),
        };
        let answer = view(&row)?;
        let mut change = self.change(ctx, VERB, object("user", name, name), row.added);
        change.event.detail = format!("{} {}", row.fingerprint, answer.subject);
        let user = self.store.user(name)?.user.id;
        self.store
            .add_user_certificate(change, user, row, answer)
            .await
    }

    pub async fn user_certificate_remove(
        &self,
        ctx: &Context,
        name: &UserName,
        fingerprint: Fingerprint,
    ) -> Result<()> {
        const VERB: &str = "user_certificate.rm";
        self.may_change_known(ctx, name, VERB)?;
        let mut change = self.change(ctx, VERB, object("user", name, name), clock::now());
        change.event.detail = fingerprint.to_string();
        let user = self.store.user(name)?.user.id;
        self.store
            .remove_user_certificate(change, user, fingerprint)
            .await
    }

    /// The user whose certificate was presented, if its key is a user's. Dates, purpose, chain and
    /// revocation are looked at in each request.
    pub(super) fn by_certificate(
        &self,
        fingerprint: &Fingerprint,
        credentials: &Credentials,
        now: Timestamp,
    ) -> Result<Option<Identity>> {
        let Some(row) = self.store.user_by_key(fingerprint)? else {
            return Ok(None);
        };
        let refused = |why: &str| {
            Err(Error::new(
                Kind::Unauthenticated,
                "certificate_refused",
                why.to_owned(),
            ))
        };
        if row.user.disabled {
            return refused("this certificate's user is disabled");
        }
        let Some(authority) = self.tls.authority() else {
            return refused(
                "no authority for API users' certificates is set here; strongroom tls install --client-ca sets one",
            );
        };
        if let Err(why) = authority.verify(&credentials.presented, now) {
            return refused(&why.public);
        }
        Ok(Some(Identity::User {
            id: row.user.id,
            name: row.user.name,
            grants: row.user.grants,
            // A program's, like a token: its key is what it shows.
            proven: true,
        }))
    }
}
