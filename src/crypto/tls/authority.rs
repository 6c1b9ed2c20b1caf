//! The authority behind API users' certificates: who comes with one that chains to it is asked for at
//! the users; the chain alone is no account.

use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, KeyUsage, OwnedCertRevocationList, RevocationOptionsBuilder,
    UnknownStatusPolicy, anchor_from_trusted_cert,
};

use crate::clock::Timestamp;
use crate::crypto::x509::{self, CertificateInfo};
use crate::error::{Error, Result};
use crate::model::id::shown;

/// webpki follows no longer chains.
pub const DEEPEST: u8 = 6;
const MAX_LISTS: usize = 16;

pub struct ClientAuthority {
    /// Each with its end, which an anchor does not carry.
    roots: Vec<(TrustAnchor<'static>, Timestamp)>,
    /// Authorities between a root and those that come.
    between: Vec<CertificateDer<'static>>,
    revoked: Vec<CertRevocationList<'static>>,
    /// How many authorities may stand between a certificate and a root, as in OpenSSL.
    depth: u8,
    certificates: Vec<CertificateInfo>,
}

impl ClientAuthority {
    /// From PEM, in any order: roots, perhaps those between, perhaps lists of revoked certificates.
    ///
    /// # Errors
    /// `Invalid`: no root, a depth beyond [`DEEPEST`].
    pub fn parse(pem: &[u8], depth: u8) -> Result<Self> {
        if depth > DEEPEST {
            return Err(Error::invalid(
                "verify_depth",
                format!("the depth is 0 to {DEEPEST}, not {depth}"),
            ));
        }
        let (mut roots, mut between, mut certificates) = (Vec::new(), Vec::new(), Vec::new());
        for der in x509::parse_certificate_pem(pem)? {
            let info = x509::inspect(&der)?;
            let der = CertificateDer::from(der);
            if info.subject != info.issuer {
                between.push(der);
            } else {
                let anchor = anchor_from_trusted_cert(&der).map_err(|why| {
                    Error::invalid(
                        "client_ca",
                        format!("`{}` cannot be a root: {why}", shown(&info.subject)),
                    )
                })?;
                roots.push((anchor.to_owned(), info.not_after));
            }
            certificates.push(info);
        }
        if roots.is_empty() {
            let issuers: Vec<String> = certificates.iter().map(|it| shown(&it.issuer)).collect();
            return Err(Error::invalid(
                "client_ca",
                format!(
                    "there is no root among the certificates; add `{}`",
                    issuers.join("`, `")
                ),
            ));
        }
        Ok(Self {
            roots,
            between,
            revoked: lists(pem)?,
            depth,
            certificates,
        })
    }

    /// # Errors
    /// `Invalid`: a root whose date is over.
    pub fn check_dates(&self, now: Timestamp) -> Result<()> {
        match self.certificates.iter().find(|it| it.not_after <= now) {
            None => Ok(()),
            Some(over) => Err(Error::invalid(
                "client_ca",
                format!("`{}` ended {}", shown(&over.subject), over.not_after),
            )),
        }
    }

    pub fn depth(&self) -> u8 {
        self.depth
    }

    /// Roots and those between, as given.
    pub fn certificates(&self) -> &[CertificateInfo] {
        &self.certificates
    }

    /// Whether what a connection presented chains to a root: dates, purpose (clientAuth), depth,
    /// revocation.
    ///
    /// # Errors
    /// `certificate_refused`, with the reason.
    pub fn verify(&self, presented: &[CertificateDer<'_>], now: Timestamp) -> Result<()> {
        let refused = |why: String| Err(Error::denied("certificate_refused", why));
        let Some((first, rest)) = presented.split_first() else {
            return refused("no certificate was presented".to_owned());
        };
        let certificate = match EndEntityCert::try_from(first) {
            Ok(certificate) => certificate,
            Err(why) => return refused(format!("the certificate does not read: {why}")),
        };
        let between: Vec<CertificateDer<'_>> = rest
            .iter()
            .chain(&self.between)
            .map(|der| CertificateDer::from(der.as_ref()))
            .collect();
        let lists: Vec<&CertRevocationList<'_>> = self.revoked.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(|it| it.with_status_policy(UnknownStatusPolicy::Allow).build());
        let roots: Vec<TrustAnchor<'_>> = self
            .roots
            .iter()
            .filter(|(_, end)| *end > now)
            .map(|(anchor, _)| anchor.clone())
            .collect();
        let seconds = u64::try_from(now.0.div_euclid(Timestamp::SECOND)).unwrap_or(0);
        let depth = usize::from(self.depth);
        let verified = certificate.verify_for_usage(
            aws_lc_rs::default_provider()
                .signature_verification_algorithms
                .all,
            &roots,
            &between,
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)),
            KeyUsage::client_auth(),
            revocation,
            None,
        );
        match verified {
            Ok(path) if path.intermediate_certificates().count() <= depth => Ok(()),
            Ok(_) => refused(format!(
                "more than {depth} authorities stand between the certificate and its root"
            )),
            Err(why) => refused(format!(
                "the certificate does not chain to the authority for API users: {why}"
            )),
        }
    }
}

fn lists(pem: &[u8]) -> Result<Vec<CertRevocationList<'static>>> {
    let wrong = |why: String| Error::invalid("client_ca", why);
    let mut lists = Vec::new();
    for der in CertificateRevocationListDer::pem_slice_iter(pem) {
        let der = der.map_err(|_| {
            wrong("the list of revoked certificates is not PEM, or is cut off".to_owned())
        })?;
        let list = OwnedCertRevocationList::from_der(&der).map_err(|why| {
            wrong(format!(
                "a list of revoked certificates does not read: {why}"
            ))
        })?;
        lists.push(list.into());
    }
    if lists.len() > MAX_LISTS {
        return Err(wrong(format!(
            "there are at most {MAX_LISTS} lists of revoked certificates"
        )));
    }
    Ok(lists)
}
