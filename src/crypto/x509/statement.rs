//! The text by which a client's certificate vouches for its age recipient, so that others can
//! encrypt to the client without trusting the server.

use crate::model::id::Fingerprint;

/// The exact bytes that are signed, three lines:
///
/// ```text
/// strongroom-recipient/v1
/// client <64 hex digits: SHA-256 of the certificate's public key>
/// recipient <age recipient>
/// ```
///
/// each ended by one line feed. A recipient is one line (`agefile::check_recipient`), so no other
/// pair gives the same text. The signature is the certificate's key's own (`sign_with_key_pem`).
pub fn recipient_statement(fingerprint: Fingerprint, recipient: &str) -> Vec<u8> {
    format!("strongroom-recipient/v1\nclient {fingerprint}\nrecipient {recipient}\n").into_bytes()
}
