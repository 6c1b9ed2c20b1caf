//! A refusal as it came over the wire, as the program's own error. The server's words stay; what
//! they could do to a terminal does not.

use std::fmt::Write as _;

use hyper::StatusCode;

use super::client::Reply;
use super::print::clean;
use crate::api::REQUEST_ID;
use crate::api::error::ErrorBody;
use crate::error::{Error, Kind};

/// Codes that this program or its users act on; any other stands as `server`.
const CODES: &[&str] = &[
    "already_registered",
    "audit_broken",
    "audit_unavailable",
    "backup_damaged",
    "backup_newer",
    "backup_not_taken",
    "backup_runs",
    "backup_unfinished",
    "body_too_large",
    "built_in",
    "busy",
    "cancelled",
    "certificate_not_for_servers",
    "certificate_not_valid",
    "certificate_other_name",
    "certificate_refused",
    "certificate_unfit",
    "chain_incomplete",
    "changes_left",
    "client_denied",
    "client_disabled",
    "client_owns_deposits",
    "client_pending",
    "clock_wrong",
    "conflict",
    "copy_damaged",
    "csrf",
    "denied",
    "disk_nearly_full",
    "expired",
    "gone",
    "group_in_use",
    "host_group_in_use",
    "host_in_use",
    "in_bin",
    "internal",
    "invalid",
    "jump_loop",
    "key_reused",
    "key_taken",
    "last_slot",
    "last_superuser",
    "limited",
    "method_not_allowed",
    "name_taken",
    "newest_backup",
    "no_certificate",
    "no_recipient",
    "no_room_for_copy",
    "no_second_factor",
    "no_such_jump_host",
    "not_a_backup",
    "not_found",
    "not_in_bin",
    "not_limited",
    "not_registered",
    "not_sealed",
    "not_yet",
    "nothing_before",
    "openpgp_not_ready",
    "org_over",
    "other_backup",
    "other_org",
    "other_site",
    "outcome_unknown",
    "owner_gone",
    "owner_reads",
    "password_missing",
    "password_refused",
    "password_script_failed",
    "precondition_failed",
    "quota_bytes",
    "quota_objects",
    "quota_requests",
    "recipient_known",
    "recipient_unclear",
    "recipient_unusable",
    "registration_over",
    "retrievals_used",
    "rotating",
    "rotation_cut_off",
    "seal_damaged",
    "seal_foreign",
    "seal_newer",
    "seal_older",
    "sealed",
    "second_factor_refused",
    "second_factor_required",
    "second_factor_there",
    "secret_too_large",
    "signature_wrong",
    "slots_full",
    "some_refused",
    "step_up_required",
    "stopping",
    "store_busy",
    "store_damaged",
    "store_unreadable",
    "token_refused",
    "too_large",
    "too_many_attempts",
    "too_many_certificates",
    "too_many_feeds",
    "too_many_groups",
    "too_many_hops",
    "too_many_host_groups",
    "too_many_hosts",
    "too_many_members",
    "too_many_readers",
    "too_many_recipients",
    "too_many_schedules",
    "too_many_versions",
    "too_slow",
    "unauthenticated",
    "unavailable",
    "unseal_local",
    "unsupported_type",
    "wrong_code",
    "wrong_identity",
    "wrong_key_file",
    "wrong_passphrase",
    "wrong_password",
    "wrong_state",
];

const FIELDS: &[&str] = &[
    "accept_old_seal",
    "account",
    "address",
    "age_passphrase",
    "all",
    "auth_code",
    "body",
    "bytes",
    "certificate",
    "certificates",
    "chain",
    "clear_second_factor",
    "cleartext",
    "client",
    "client_ca",
    "code",
    "contacts",
    "content_type",
    "cron",
    "current_password",
    "cursor",
    "data",
    "days",
    "description",
    "expires",
    "file",
    "filter",
    "filters",
    "fingerprint",
    "format",
    "group",
    "host",
    "host_group",
    "id",
    "inherit",
    "jump",
    "key",
    "key_password",
    "kind",
    "label",
    "labels",
    "limit",
    "max_retrievals",
    "name",
    "names",
    "new_key",
    "not_before",
    "objects",
    "opener",
    "openers",
    "org",
    "other_name",
    "own",
    "page",
    "parameters",
    "password",
    "path",
    "pkcs12",
    "port",
    "query",
    "reason",
    "recipient",
    "recipients",
    "removed",
    "requests",
    "retrievals",
    "role",
    "scopes",
    "secret",
    "self_contained",
    "shared",
    "signature",
    "slot",
    "stored",
    "sudo",
    "time",
    "ungroup",
    "user",
    "value",
    "verify_depth",
    "version",
    "why",
    "windows",
    "zone",
];

/// `detailed`: with the request's id, whatever the kind.
pub fn error_of(reply: &Reply, detailed: bool) -> Error {
    let mut error = match serde_json::from_slice::<ErrorBody>(&reply.body) {
        Ok(ErrorBody { error: detail }) => {
            let mut text = clean(&detail.message);
            if detail.kind == Kind::Internal || detailed {
                let _ = write!(text, " (request {})", clean(&detail.request_id));
            }
            let code = known(&detail.code, CODES).unwrap_or("server");
            let mut error = Error::new(detail.kind, code, text);
            error.field = detail.field.and_then(|field| known(&field, FIELDS));
            error
        }
        Err(_) => {
            let id = reply
                .header(REQUEST_ID)
                .map_or(String::new(), |id| format!(" (request {})", clean(id)));
            Error::new(
                kind_of(reply.status),
                "server",
                format!(
                    "the server answered {} without saying why{id}; see whether this is a Strongroom server",
                    reply.status
                ),
            )
        }
    };
    error.retry_after = reply
        .header("retry-after")
        .and_then(|text| text.parse().ok());
    error
}

fn known(text: &str, table: &'static [&'static str]) -> Option<&'static str> {
    table.iter().find(|known| **known == text).copied()
}

/// For answers that something between us and the server gave.
fn kind_of(status: StatusCode) -> Kind {
    match status.as_u16() {
        401 => Kind::Unauthenticated,
        403 => Kind::Denied,
        404 | 410 => Kind::NotFound,
        405 => Kind::MethodNotAllowed,
        408 => Kind::TooSlow,
        409 => Kind::Conflict,
        412 => Kind::PreconditionFailed,
        413 => Kind::TooLarge,
        415 => Kind::UnsupportedType,
        429 => Kind::Limited,
        502..=504 => Kind::Unavailable,
        400..=499 => Kind::Invalid,
        _ => Kind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    fn error(status: u16, body: &str) -> Error {
        let reply = Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::from_iter([(hyper::header::RETRY_AFTER, "7".parse().unwrap())]),
            body: body.as_bytes().to_vec(),
        };
        error_of(&reply, false)
    }

    #[test]
    fn a_refusal_keeps_its_kind_and_loses_its_control_characters() {
        let it = error(
            409,
            r#"{"error":{"kind":"conflict","code":"name_taken","message":"taken\u001b[2J","field":"name","request_id":"r1"}}"#,
        );
        assert_eq!(
            (it.kind, it.code, it.field),
            (Kind::Conflict, "name_taken", Some("name"))
        );
        assert_eq!(
            (it.public.as_str(), it.retry_after),
            ("taken\\u{1b}[2J", Some(7))
        );
    }

    #[test]
    fn an_internal_error_names_its_request_and_an_unknown_code_is_the_servers() {
        let it = error(
            500,
            r#"{"error":{"kind":"internal","code":"odd","message":"m","request_id":"r1"}}"#,
        );
        assert_eq!((it.code, it.public.as_str()), ("server", "m (request r1)"));
    }

    #[test]
    fn an_answer_that_is_no_refusal_of_ours_goes_by_its_status() {
        assert_eq!(error(404, "<html>").kind, Kind::NotFound);
        assert_eq!(error(502, "").kind, Kind::Unavailable);
    }
}
